# ruff: noqa: E501 - a graph is easier read in one line
"""Equal nodes are computed once, and nothing that only looks equal."""

from collections.abc import Callable

import numpy as np
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.cleanup.merge_common_subexpressions import MergeCommonSubexpressions
from onnxsmith.passes.observers import census
from onnxsmith.runtime.probe import probe_inputs
from onnxsmith.runtime.session import Session

OWN = '<ir_version: 10, opset_import: ["": 18, "own": 1]>'
MERGED = [
    ("two", "g (float[4] x) => (float[4] y) { a = Exp(x) b = Exp(x) y = Sub(a, b) }", {"Exp": 1, "Sub": 1}),
    ("a chain", "g (float[4] x) => (float[4] y) { a = Exp(x) b = Neg(a) c = Exp(x) d = Neg(c) y = Mul(b, d) }", {"Exp": 1, "Neg": 1, "Mul": 1}),
    ("a second that is an output", "g (float[4] x) => (float[4] y, float[4] z) { a = Exp(x) y = Neg(a) z = Exp(x) }", {"Exp": 1, "Neg": 1}),
    ("equal attributes", "g (float[4] x) => (float[4] y) { a = Elu<alpha = 0.5>(x) b = Elu<alpha = 0.5>(x) y = Mul(a, b) }", {"Elu": 1, "Mul": 1}),
    ("equal tensors", "g (float[4] x) => (float[4] y) { a = Constant<value = float {2}>() b = Constant<value = float {2}>() c = Mul(x, a) y = Mul(c, b) }", {"Constant": 1, "Mul": 2}),
    ("an empty input", "g (float[4] x, float h) => (float[4] y) { a = Clip(x, , h) b = Clip(x, , h) y = Mul(a, b) }", {"Clip": 1, "Mul": 1}),
    ("in a body", """g (bool c, float[4] x) => (float[4] y) {
        y = If(c) <then_branch = t () => (float[4] p) { a = Exp(x) b = Exp(x) p = Mul(a, b) },
                   else_branch = e () => (float[4] q) { q = Exp(x) }> }""", {"If": 1, "Exp": 2, "Mul": 1}),
]  # fmt: skip
KEPT = [
    ("both outputs", "g (float[4] x) => (float[4] y, float[4] z) { y = Exp(x) z = Exp(x) }"),
    ("other attributes", "g (float[4] x) => (float[4] y) { a = Elu<alpha = 0.5>(x) b = Elu<alpha = 0.25>(x) y = Mul(a, b) }"),
    ("inputs in other places", "g (float[4] x, float[4] z) => (float[4] y) { a = Sub(x, z) b = Sub(z, x) y = Mul(a, b) }"),
    ("tensors of other types", "g (float[4] x) => (float[4] y) { a = Constant<value = int64[1] {0}>() b = Constant<value = float[2] {0, 0}>() c = Gather(x, a) d = Gather(b, a) e = Add(c, d) y = Add(x, e) }"),
    ("branches", """g (bool c, float[4] x) => (float[4] y) {
        y = If(c) <then_branch = t () => (float[4] p) { a = Exp(x) p = Neg(a) },
                   else_branch = e () => (float[4] q) { q = Exp(x) }> }"""),
]  # fmt: skip


def run(artifact: Artifact) -> tuple[dict[str, int], bool]:
    feeds = probe_inputs(artifact.model, artifact.spec, {}, seed=1, default=3)
    with Session(artifact, optimize=False) as session:
        expected = session.run(feeds)
    result = MergeCommonSubexpressions().apply(artifact.model.clone(), PassContext())
    with Session(Artifact(result.model), optimize=False) as session:
        found = session.run(feeds)
    assert list(found) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
    return census(result.model), result.modified


@pytest.mark.parametrize(("text", "after"), [c[1:] for c in MERGED], ids=[c[0] for c in MERGED])
def test_merged(text: str, after: dict[str, int], load_text: Callable[..., Artifact]) -> None:
    assert run(load_text(text, opset=18)) == (after, True)


@pytest.mark.parametrize("text", [c[1] for c in KEPT], ids=[c[0] for c in KEPT])
def test_kept(text: str, load_text: Callable[..., Artifact]) -> None:
    artifact = load_text(text, opset=18)
    assert run(artifact) == (census(artifact.model), False)


@pytest.mark.parametrize("operator", ["own.F(x)", "Bernoulli(x)", "RandomNormalLike(x)"])
def test_what_may_differ_from_call_to_call_is_kept(
    operator: str, load_text: Callable[..., Artifact]
) -> None:
    text = f"g (float[4] x) => (float[4] y) {{ a = {operator} b = {operator} y = Mul(a, b) }}"
    model = load_text(text, header=OWN).model
    assert not MergeCommonSubexpressions().apply(model, PassContext()).modified


def test_in_a_function(load_text: Callable[..., Artifact]) -> None:
    text = """g (float[4] x) => (float[4] y) { y = own.F(x) }
        <domain: "own", opset_import: ["": 18]> F (p) => (q) { a = Exp(p) b = Exp(p) q = Mul(a, b) }"""
    artifact = load_text(text, header=OWN)
    assert run(artifact)[1]
    MergeCommonSubexpressions().apply(artifact.model, PassContext())
    (function,) = artifact.model.functions.values()
    assert [node.op_type for node in function] == ["Exp", "Mul"]


def test_an_output_that_is_a_scalar_keeps_its_shape(load_text: Callable[..., Artifact]) -> None:
    text = "g (float x) => (float y) { a = Exp(x) b = Neg(a) y = Exp(x) }"
    model = load_text(text).clone().model
    model.graph[0].outputs[0].shape = None
    assert MergeCommonSubexpressions().apply(model, PassContext()).modified
    assert str(model.graph.outputs[0].shape) == "[]"
