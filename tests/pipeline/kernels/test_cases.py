from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.pipeline.kernels.cases import Case, Operand, final_cases
from onnxsmith.target import TARGETS

# Two sums with a residual, each normalized: the runtime makes SkipLayerNormalization of them.
TWICE = """g (float[batch,6,8] x) => (float[batch,6,8] y) {
    r = Relu(x)
    s = Add(r, x)
    n = LayerNormalization<axis=-1>(s, g, b)
    t = Tanh(n)
    u = Add(t, n)
    y = LayerNormalization<axis=-1>(u, g, b)
}"""
WEIGHTS = {"g": np.ones(8, np.float32), "b": np.zeros(8, np.float32)}


def test_the_runtimes_own_fusions_are_found_with_their_sizes(
    load_text: Callable[..., Artifact],
) -> None:
    found = final_cases(load_text(TWICE, WEIGHTS), TARGETS["cpu"], {"batch": 3})
    (case,) = found
    assert found[case] == 2
    assert (case.domain, case.op_type) == ("com.microsoft", "SkipLayerNormalization")
    hidden = Operand(ir.DataType.FLOAT, (3, 6, 8), constant=False)
    weight = Operand(ir.DataType.FLOAT, (8,), constant=True)
    assert case.operands[:4] == (hidden, hidden, weight, weight)


def test_open_dimensions_are_one(load_text: Callable[..., Artifact]) -> None:
    (case,) = final_cases(load_text(TWICE, WEIGHTS), TARGETS["cpu"])
    assert case.operands[0] == Operand(ir.DataType.FLOAT, (1, 6, 8), constant=False)


def test_values_that_the_runtime_leaves_without_a_shape_are_inferred(
    load_text: Callable[..., Artifact],
) -> None:
    weights = {"w": np.ones((8, 4), np.float32), "b": np.ones(4, np.float32)}
    text = """g (float[1,6,8] x) => (float[1,6,4] y) {
        m = MatMul(x, w) a = Add(m, b) y = Gelu(a)
    }"""
    (case,) = final_cases(load_text(text, weights, opset=20), TARGETS["cpu"])
    assert case.op_type == "Gelu"
    (operand,) = case.operands
    assert operand is not None
    assert sorted(operand.shape)[-2:] == [4, 6]


def test_models_without_fused_operators_have_none(load_text: Callable[..., Artifact]) -> None:
    text = "g (float[2] x) => (float[2] y) { y = Relu(x) }"
    assert final_cases(load_text(text), TARGETS["cpu"]) == {}


def test_a_case_makes_a_model_of_its_operator_alone() -> None:
    hidden = Operand(ir.DataType.FLOAT, (2, 4), constant=False)
    weight = Operand(ir.DataType.FLOAT, (4,), constant=True)
    case = Case(
        "com.microsoft",
        "SkipLayerNormalization",
        (("epsilon", 0.5),),
        (hidden, hidden, weight, None, weight),
        4,
        (0, 3),
    )
    artifact = case.model(20)
    (node,) = artifact.model.graph
    assert node.attributes.get_float("epsilon") == 0.5
    assert node.inputs[3] is None
    assert [v.name for v in artifact.spec.inputs] == ["x0", "x1"]
    assert [v.name for v in artifact.spec.outputs] == ["y0", "y3"]
    assert sorted(artifact.model.graph.initializers) == ["x2", "x4"]


def test_what_the_runtime_refuses_is_an_error(load_text: Callable[..., Artifact]) -> None:
    text = "g (float[2] x) => (float[2] y) { y = nowhere.Strange(x) }"
    header = '<ir_version: 10, opset_import: ["": 18, "nowhere": 1]>'
    with pytest.raises(SmithError, match="refuses"):
        final_cases(load_text(text, header=header), TARGETS["cpu"])
