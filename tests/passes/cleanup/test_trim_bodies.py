# ruff: noqa: E501 - a graph is easier read in one line
"""Bodies lose what nobody reads of them, and keep what the rest needs."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import onnx_ir as ir
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.cleanup.trim_bodies import TrimBodies
from onnxsmith.passes.observers import census
from onnxsmith.pipeline.optimize import OptimizeRequest, optimize
from onnxsmith.runtime.session import Session


class Case(NamedTuple):
    """A graph, its operators afterwards, and the inputs and outputs that its first body keeps."""

    text: str
    after: dict[str, int]
    inputs: int
    outputs: int


CASES = {
    "an output of an If": Case("""g (bool c, float[2] x) => (float[2] y) {
        u, y, v = If(c) <then_branch = a () => (float[2] p, float[2] q, float[2] o) { p = Exp(x) q = Neg(x) o = Sin(p) },
                         else_branch = b () => (float[2] r, float[2] s, float[2] t) { r = Abs(x) s = Sqrt(r) t = Cos(x) }> }""",
        {"If": 1, "Neg": 1, "Abs": 1, "Sqrt": 1}, 0, 1),
    "a scan output of a Loop": Case("""g (int64 n, float[2] x) => (float[2] y, float[K,2] w) {
        y, z, w = Loop(n, , x) <body = b (int64 i, bool k, float[2] s) => (bool ko, float[2] so, float[2] sc, float[2] sd) {
            ko = Identity(k) so = Add(s, x) sc = Exp(s) sd = Neg(so) }> }""",
        {"Loop": 1, "Identity": 1, "Add": 1, "Neg": 1}, 3, 3),
    "a state that only feeds itself": Case("""g (int64 n, float[2] x) => (float[2] y) {
        u, y, v = Loop(n, , x, x, x) <body = b (int64 i, bool k, float[2] r, float[2] s, float[2] t) => (bool ko, float[2] ro, float[2] so, float[2] to) {
            ko = Identity(k) ro = Exp(r) so = Add(s, t) to = Neg(t) }> }""",
        {"Loop": 1, "Identity": 1, "Add": 1, "Neg": 1}, 4, 3),
    "two states that only feed each other": Case("""g (int64 n, float[2] x) => (float[2] y) {
        u, v, y = Loop(n, , x, x, x) <body = b (int64 i, bool k, float[2] r, float[2] s, float[2] t) => (bool ko, float[2] ro, float[2] so, float[2] to) {
            ko = Identity(k) ro = Exp(s) so = Sin(r) to = Neg(t) }> }""",
        {"Loop": 1, "Identity": 1, "Neg": 1}, 3, 2),
    "a state that never changes": Case("""g (int64 n, float[2] x, float[2] z) => (float[2] y) {
        y, v = Loop(n, , x, z) <body = b (int64 i, bool k, float[2] s, float[2] t) => (bool ko, float[2] so, float[2] to) {
            ko = Identity(k) so = Sub(s, t) to = Identity(t) }> }""",
        {"Loop": 1, "Identity": 1, "Sub": 1}, 3, 2),
    "one that is read behind the loop": Case("""g (int64 n, float[2] x, float[2] z) => (float[2] y, float[2] w) {
        y, v = Loop(n, , x, z) <body = b (int64 i, bool k, float[2] s, float[2] t) => (bool ko, float[2] so, float[2] to) {
            ko = Identity(k) so = Sub(s, t) to = Identity(t) }> w = Exp(v) }""",
        {"Loop": 1, "Identity": 1, "Sub": 1, "Exp": 1}, 3, 2),
    "results of a Scan, with their axes": Case("""g (float[2] x, float[3,2] xs) => (float[2,3] ys) {
        f, h, unused, ys = Scan<num_scan_inputs = 1, scan_output_axes = [0, 1], scan_output_directions = [0, 1], body = b (float[2] r, float[2] s, float[2] v) => (float[2] ro, float[2] so, float[2] o, float[2] p) {
            ro = Mul(r, v) so = Sub(s, v) o = Exp(v) p = Neg(so) }>(x, x, xs) }""",
        {"Scan": 1, "Sub": 1, "Neg": 1}, 2, 2),
}  # fmt: skip
LEFT = {
    "all is read": """g (bool c, float[2] x) => (float[2] y, float[2] z) {
        y, z = If(c) <then_branch = a () => (float[2] p, float[2] q) { p = Exp(x) q = Neg(x) },
                      else_branch = b () => (float[2] r, float[2] s) { r = Abs(x) s = Sqrt(r) }> }""",
    "the condition needs the state": """g (int64 n, float x) => (float y) {
        c = Constant<value = bool {1}>()
        y, v = Loop(n, c, x, x) <body = b (int64 i, bool k, float s, float t) => (bool ko, float so, float to) {
            h = Constant<value = float {9}>() ko = Less(t, h) so = Exp(s) to = Add(t, t) }> }""",
    "a result needs the state": """g (int64 n, float[2] x) => (float[K,2] z) {
        y, z = Loop(n, , x) <body = b (int64 i, bool k, float[2] s) => (bool ko, float[2] so, float[2] sc) {
            ko = Identity(k) so = Add(s, x) sc = Exp(s) }> }""",
    "nothing is read": """g (int64 n, float[2] x) => (float[2] y) { y = Neg(x)
        u = Loop(n, , x) <body = b (int64 i, bool k, float[2] s) => (bool ko, float[2] so) { ko = Identity(k) so = Add(s, x) }> }""",
}  # fmt: skip


def run(artifact: Artifact) -> dict[str, np.ndarray]:
    known = {
        "n": np.array(3),
        "c": np.array(True),
        "xs": np.arange(6, dtype=np.float32).reshape(3, 2),
    }
    found = {}
    for value in artifact.spec.inputs:
        made = np.linspace(0.5, 1.5, int(np.prod(value.shape)), dtype=np.float32)
        found[value.name] = known.get(value.name, made.reshape(value.shape))
    with Session(artifact, optimize=False) as session:
        return session.run(found)


def body_of(model: ir.Model) -> ir.Graph:
    (node,) = (node for node in model.graph if node.op_type in ("If", "Loop", "Scan"))
    name = "then_branch" if node.op_type == "If" else "body"
    return node.attributes[name].as_graph()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_nobody_reads_goes(load_text: Callable[..., Artifact], case: Case) -> None:
    artifact = load_text(case.text)
    result = optimize(artifact, OptimizeRequest(passes="trim-bodies,remove-unused-nodes"))
    assert result.dropped == ()
    model = result.artifact.model
    assert census(model) == dict(sorted(case.after.items()))
    assert (len(body_of(model).inputs), len(body_of(model).outputs)) == (case.inputs, case.outputs)
    expected, found = run(artifact), run(result.artifact)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-6, strict=True)


@pytest.mark.parametrize("text", LEFT.values(), ids=LEFT)
def test_the_rest_stays(load_text: Callable[..., Artifact], text: str) -> None:
    artifact = load_text(text)
    assert run(artifact)
    model = artifact.clone().model
    assert not TrimBodies().apply(model, PassContext()).modified
    assert census(model) == census(artifact.model)
