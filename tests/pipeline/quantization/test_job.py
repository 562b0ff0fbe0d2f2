from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.pipeline.quantization.job import Job, batch_size
from onnxsmith.pipeline.quantization.request import QuantizeRequest
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


@pytest.mark.parametrize("given", ["data", "eval_data"])
def test_open_sizes_are_those_of_the_data(
    given: str, load_text: Callable[..., Artifact], tmp_path: Path
) -> None:
    text = "g (float[N,S,4] x, float[N,T] z) => (float[N,S,4] y, float[N,T] u) { y = Relu(x) u = Relu(z) }"  # noqa: E501
    artifact = load_text(text, {})
    x, z = np.zeros((9, 17, 4), np.float32), np.zeros((9, 5), np.float32)
    np.savez(tmp_path / "d.npz", x=x, z=z)
    request = QuantizeRequest("static", dims={"T": 3}, **{given: f"npz:{tmp_path / 'd.npz'}"})  # type: ignore[arg-type]
    job = Job.open(artifact, request)
    assert job.request.dims == {"N": 1, "S": 17, "T": 3}
    assert (job.source is not None) == (given == "data")
