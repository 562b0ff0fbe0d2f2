import pytest

from onnxsmith.pipeline.quantization.job import batch_size
from onnxsmith.spec import ModelSpec, ValueSpec


@pytest.mark.parametrize(
    ("inputs", "count"),
    [
        (["x:float32[N,3,224,224]"], 8),
        (["x:float32[N,3,1024,1024]"], 1),
        (["x:float32[N,3,512,512]"], 2),
        (["x:uint8[N,3,512,512]"], 8),
        (["x:float32[N,3,512,512]", "y:float32[N,3,512,512]"], 1),
        (["ids:int64[N,S]"], 8),
        (["s:string[N,1]"], 8),
    ],
)
def test_large_samples_run_in_smaller_batches(inputs: list[str], count: int) -> None:
    spec = ModelSpec(tuple(ValueSpec.parse(text) for text in inputs), ())
    assert batch_size(spec) == count
