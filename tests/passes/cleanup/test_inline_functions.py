"""Functions of other versions are inlined where they mean the same, and left alone otherwise."""

from collections.abc import Callable

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.cleanup.inline_functions import InlineFunctions
from onnxsmith.passes.observers import census

HEADER = '<ir_version: 10, opset_import: ["": 18, "own": 1]>'
MAIN = "g (float[2,3] x) => (float[2] y, float[2,3] z) { y = own.F(x) z = own.G(x) }"
F = """<domain: "own", opset_import: ["": 12]>
    F (a) => (b) { b = ReduceMean<axes=[1], keepdims=0>(a) }"""
G = '<domain: "own", opset_import: ["": 14]> G (a) => (b) { c = Exp(a) b = Neg(c) }'


def test_only_what_another_version_defines_otherwise_is_left(
    load_text: Callable[..., Artifact],
) -> None:
    model = load_text(f"{MAIN} {F} {G}", header=HEADER).clone().model
    result = InlineFunctions().apply(model, PassContext())
    assert result.modified
    assert result.details == {"kept": ["F"]}
    # Two of F: the call, and what is in its body.
    assert census(result.model) == {"Exp": 1, "Neg": 1, "ReduceMean": 1, "own.F": 1}
    assert dict(result.model.opset_imports) == {"": 18, "own": 1}


def test_an_operator_that_onnx_does_not_define_keeps_its_function(
    load_text: Callable[..., Artifact],
) -> None:
    text = """g (float[2] x) => (float[2] y) { y = own.F(x) }
        <domain: "own", opset_import: ["alien": 1]> F (a) => (b) { b = alien.K(a) }"""
    header = '<ir_version: 10, opset_import: ["": 18, "own": 1, "alien": 2]>'
    model = load_text(text, header=header).clone().model
    assert not InlineFunctions().apply(model, PassContext()).modified


def test_nested_functions_with_attributes(load_text: Callable[..., Artifact]) -> None:
    text = """g (float[2] x) => (float[2] y) { y = own.F<al=3.0>(x) }
        <domain: "own", opset_import: ["": 18, "own": 1]>
        F <al> (a) => (b) { c = own.G<be: float = @al>(a) b = own.G<be=1.0>(c) }
        <domain: "own", opset_import: ["": 18]>
        G <be> (a) => (b) { k = Constant<value_float: float = @be>() b = Mul(a, k) }"""
    model = load_text(text, header=HEADER).clone().model
    assert InlineFunctions().apply(model, PassContext()).modified
    assert census(model) == {"Constant": 2, "Mul": 2}
    values = [
        n.attributes["value_float"].as_float() for n in model.graph if n.op_type == "Constant"
    ]
    assert values == [3.0, 1.0]
