from collections.abc import Callable

import onnx
import onnx_ir as ir
import pytest

from onnxsmith.errors import SmithError
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.layout.fit_target import FitTarget
from onnxsmith.target import find_target

TEXT = "g (float[2] x) => (float[2] y) { y = Relu(x) }"


@pytest.mark.parametrize(("target", "wanted"), [("cpu", 13), ("edge-cpu", 10)])
def test_the_ir_version_is_lowered_to_the_targets(
    parse_model: Callable[..., onnx.ModelProto], target: str, wanted: int
) -> None:
    model = ir.from_proto(parse_model(TEXT, ir_version=14))
    context = PassContext(target=find_target(target))
    assert FitTarget().apply(model, context).modified
    assert model.ir_version == wanted
    assert not FitTarget().apply(model, context).modified


def test_an_older_ir_version_stays(parse_model: Callable[..., onnx.ModelProto]) -> None:
    model = ir.from_proto(parse_model(TEXT, ir_version=8))
    assert not FitTarget().apply(model, PassContext()).modified
    assert model.ir_version == 8


def test_a_newer_opset_is_converted_down(parse_model: Callable[..., onnx.ModelProto]) -> None:
    model = ir.from_proto(parse_model(TEXT, opset=22))
    result = FitTarget().apply(model, PassContext(target=find_target("edge-web")))
    assert result.model.opset_imports[""] == 21
    assert result.model.ir_version == 10


def test_what_has_no_older_form_is_refused(parse_model: Callable[..., onnx.ModelProto]) -> None:
    text = "g (float[2] x) => (float[2] y) { y = Swish(x) }"
    model = ir.from_proto(parse_model(text, opset=24))
    with pytest.raises(SmithError, match="opset 24 is too new for the target 'edge-web'"):
        FitTarget().apply(model, PassContext(target=find_target("edge-web")))
