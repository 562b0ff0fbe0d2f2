"""Imports that nothing uses go; the standard operators' stays, whatever it is called."""

from collections.abc import Callable

import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.cleanup.remove_unused_opsets import RemoveUnusedOpsets
from onnxsmith.runtime.session import Session

BODY = "g (float[2] x) => (float[2] y) { y = Relu(x) }"


@pytest.mark.parametrize(
    ("imports", "left"),
    [
        ('"": 18, "com.microsoft": 1, "own": 2', {"": 18}),
        ('"ai.onnx": 18, "own": 1', {"": 18}),
        ('"": 18', {"": 18}),
    ],
)
def test_only_what_is_used_is_imported(
    imports: str, left: dict[str, int], load_text: Callable[..., Artifact]
) -> None:
    artifact = load_text(BODY, header=f"<ir_version: 10, opset_import: [{imports}]>")
    result = RemoveUnusedOpsets().apply(artifact.model, PassContext())
    found = {("" if d == "ai.onnx" else d): v for d, v in result.model.opset_imports.items()}
    assert found == left
    with Session(Artifact(result.model), optimize=False):
        pass  # the runtime takes it


def test_an_import_that_a_body_uses_stays(load_text: Callable[..., Artifact]) -> None:
    text = """g (bool c, float[2] x) => (float[2] y) {
        y = If(c) <then_branch = t () => (float[2] p) { p = com.microsoft.Gelu(x) },
                   else_branch = e () => (float[2] q) { q = Relu(x) }> }"""
    header = '<ir_version: 10, opset_import: ["": 18, "com.microsoft": 1, "own": 1]>'
    model = load_text(text, header=header).model
    assert RemoveUnusedOpsets().apply(model, PassContext()).modified
    assert dict(model.opset_imports) == {"": 18, "com.microsoft": 1}


def test_a_function_keeps_its_domain(load_text: Callable[..., Artifact]) -> None:
    text = f"""{BODY} <domain: "own", opset_import: ["": 18, "com.microsoft": 1]>
        F (a) => (b) {{ b = Neg(a) }}"""
    header = '<ir_version: 10, opset_import: ["": 18, "own": 1, "com.microsoft": 1]>'
    model = load_text(text, header=header).model
    assert RemoveUnusedOpsets().apply(model, PassContext()).modified
    assert dict(model.opset_imports) == {"": 18, "own": 1}
    assert [dict(f.opset_imports) for f in model.functions.values()] == [{"": 18}]
