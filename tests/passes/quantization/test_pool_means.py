import numpy as np
import onnx_ir as ir
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.quantization.pool_means import PoolMeans
from onnxsmith.runtime.session import Session

X = np.random.default_rng(1).standard_normal((2, 3, 4, 5)).astype(np.float32)


def model(body: str, shape: str = "2,3,4,5", opset: int = 20) -> ir.Model:
    return ir.from_onnx_text(
        f'<ir_version: 10, opset_import: ["" : {opset}]>'
        f"g (float[{shape}] x) => (float[] y) "
        f"<int64[2] axes = {{2, 3}}, int64[2] back = {{-1, -2}}, int64[1] one = {{2}}> {{ {body} }}"
    )


@pytest.mark.parametrize(
    ("body", "opset", "ops"),
    [
        ("y = ReduceMean(x, axes)", 20, ["GlobalAveragePool"]),
        ("y = ReduceMean(x, back)", 20, ["GlobalAveragePool"]),
        ("y = ReduceMean<axes = [3, 2]>(x)", 13, ["GlobalAveragePool"]),
        ("y = ReduceMean<keepdims = 0>(x, axes)", 20, ["GlobalAveragePool", "Flatten"]),
    ],
)
def test_a_mean_over_an_image_is_a_pool(body: str, opset: int, ops: list[str]) -> None:
    before = model(body, opset=opset)
    with Session(Artifact(before), optimize=False) as session:
        wanted = session.run({"x": X})["y"]
    result = PoolMeans().apply(before.clone(), PassContext())
    assert [node.op_type for node in result.model.graph] == ops
    with Session(Artifact(result.model), optimize=False) as session:
        np.testing.assert_allclose(session.run({"x": X})["y"], wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        ("y = ReduceMean(x, one)", "2,3,4,5"),
        ("y = ReduceMean(x)", "2,3,4,5"),
        ("y = ReduceMean(x, axes)", "2,3,4,5,6"),
        ("y = ReduceMax(x, axes)", "2,3,4,5"),
        ("y = ReduceMean(x, axes)", ""),
    ],
)
def test_other_means_are_left_alone(body: str, shape: str) -> None:
    result = PoolMeans().apply(model(body, shape), PassContext())
    assert not result.modified
