from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.custom_ops.base import Array, CustomOp, add_functions
from onnxsmith.custom_ops.table import OPERATORS
from onnxsmith.errors import SmithError
from onnxsmith.runtime.session import Session

BODY = """
<opset_import: ["" : 20], domain: "test.ops">
ScaledClip<scale: float = 2.0>(x) => (y) {
    factor = Constant<value_float: float = @scale>()
    scaled = Mul(x, factor)
    low = Constant<value = float {-1}>()
    high = Constant<value = float {1}>()
    y = Clip(scaled, low, high)
}
"""


class ScaledClip(CustomOp):
    domain = "test.ops"
    name = "ScaledClip"

    def schema(self) -> onnx.defs.OpSchema:
        return onnx.defs.OpSchema(self.name, self.domain, self.version)

    def reference(
        self, arrays: Sequence[Array], attributes: Mapping[str, Any]
    ) -> tuple[Array, ...]:
        return (np.clip(arrays[0] * np.float32(attributes.get("scale", 2.0)), -1, 1),)

    def function(self) -> ir.Function:
        return ir.from_proto(onnx.parser.parse_function(BODY))


class WrongBody(ScaledClip):
    def function(self) -> ir.Function:
        return ir.from_proto(onnx.parser.parse_function(BODY.replace("{1}", "{1.01}")))


X = np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4)


@pytest.mark.parametrize("attributes", [{}, {"scale": 0.3}])
def test_body_and_reference_agree(attributes: dict[str, float]) -> None:
    (difference,) = ScaledClip().check([X], attributes)
    assert difference.ok
    assert difference.max_abs < 1e-7


def test_a_wrong_constant_in_the_body_is_found() -> None:
    (difference,) = WrongBody().check([X], {})
    assert not difference.ok


def test_shapes_are_inferred_through_the_body() -> None:
    value = ir.Value(name="x", shape=ir.Shape(["N", 7]), type=ir.TensorType(ir.DataType.FLOAT))
    (output,) = ScaledClip().infer([value], {})
    assert output.dtype == ir.DataType.FLOAT
    assert str(output.shape) == "[N,7]"


def test_a_model_that_lacks_the_body_runs_once_it_is_added() -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20, "test.ops" : 1]>'
        "g (float[3,4] x) => (float[3,4] y) { y = test.ops.ScaledClip<scale = 5.0>(x) }"
    )
    artifact = Artifact.from_proto(proto)
    with pytest.raises(SmithError, match="ScaledClip"):
        Session(artifact)
    assert add_functions(artifact.model, [ScaledClip()]) == 1
    assert add_functions(artifact.model, [ScaledClip()]) == 0
    with Session(artifact) as session:
        np.testing.assert_array_equal(session.run({"x": X})["y"], np.clip(X * 5, -1, 1))


def test_without_a_rule_the_gradient_says_what_to_do() -> None:
    with pytest.raises(SmithError, match="no gradient") as caught:
        ScaledClip().gradient(ir.node("ScaledClip", [], domain="test.ops"), [])
    assert "body" in caught.value.hint


def test_the_table_knows_no_operator_that_is_not_there() -> None:
    with pytest.raises(SmithError, match="unknown custom operator 'None'"):
        OPERATORS.find("None")
