# ruff: noqa: E501 - a graph is easier read in one line
"""Loops of few turns become what they compute; the others stay as they are."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.cleanup.unroll_loops import UnrollLoops
from onnxsmith.passes.observers import census
from onnxsmith.pipeline.optimize import OptimizeRequest, optimize
from onnxsmith.runtime.session import Session

X = np.array([[1, 2]], np.float32)[0]
COUNTING = """g (float[2] x) => (float[2] y, float[K,2] z) {{
    n = Constant<value = int64 {{{trips}}}>() c = Constant<value = bool {{{condition}}}>()
    y, z = Loop(n, c, x) <body = b (int64 i, bool k, float[2] s) => (bool ko, float[2] so, float[2] sc) {{
        ko = Identity(k) f = Cast<to = 1>(i) so = Add(s, f) sc = Neg(so) }}> }}"""


class Case(NamedTuple):
    """A graph, what the pass leaves of it, and with which options."""

    text: str
    after: dict[str, int]
    options: str = ""
    opset: int = 18


NONE = {"Identity": 1}  # the output needs a producer
CASES = {
    "no turn": Case(COUNTING.format(trips=0, condition=1), NONE),
    "a negative number of turns": Case(COUNTING.format(trips=-3, condition=1), NONE),
    "a condition that is false": Case(COUNTING.format(trips=5, condition=0), NONE),
    "one turn": Case(COUNTING.format(trips=1, condition=1), {"Add": 1, "Neg": 1, "Unsqueeze": 1}),
    "one turn before opset 13": Case(COUNTING.format(trips=1, condition=1), {"Add": 1, "Neg": 1, "Unsqueeze": 1}, opset=12),
    "three turns, as asked for": Case(COUNTING.format(trips=3, condition=1), {"Add": 3, "Neg": 3, "Unsqueeze": 3, "Concat": 1}, ":limit=9"),
    "a sum that is known but for its start": Case("""g (float[2] x) => (float[2] y) {
        n = Constant<value = int64 {3}>() y = Loop(n, , x) <body = b (int64 i, bool k, float[2] s) => (bool ko, float[2] so) {
            ko = Identity(k) f = Cast<to = 1>(i) e = Exp(f) g = Sin(e) h = Sqrt(e) a = Add(g, h) so = Add(s, a) }> }""", {"Add": 3}),
    "states that change places": Case("""g (float[2] x, float[2] z) => (float[2] y, float[2] v) {
        n = Constant<value = int64 {3}>() y, v = Loop(n, , x, z) <body = b (int64 i, bool k, float[2] s, float[2] t) => (bool ko, float[2] so, float[2] to) {
            ko = Identity(k) so = Identity(t) to = Identity(s) }> }""", {"Identity": 2}),
    "a state that grows": Case("""g (float[N] x) => (float[M] y, int64[1] l) {
        n = Constant<value = int64 {2}>() y = Loop(n, , x) <body = b (int64 i, bool k, float[P] s) => (bool ko, float[Q] so) {
            ko = Identity(k) so = Concat<axis = 0>(s, x) }> l = Shape(y) }""", {"Concat": 2, "Shape": 1}),
    "names that are taken": Case("""g (float[2] x) => (float[2] y, float[2] so, float[2] turn) { so = Abs(x) turn = Sqrt(so)
        n = Constant<value = int64 {2}>() y = Loop(n, , x) <body = b (int64 i, bool k, float[2] s) => (bool ko, float[2] so1) {
            ko = Identity(k) q = Cast<to = 1>(i) so1 = Add(s, q) }> }""", {"Add": 2, "Abs": 1, "Sqrt": 1}),
    "a turn's number of rank 1": Case("""g (float[2] x) => (float[2] y) {
        n = Constant<value = int64 {1}>() c = Constant<value = bool {1}>() y = Loop(n, c, x) <body = b (int64[1] i, bool k, float[2] s) => (bool ko, float[2] so) {
            ko = Identity(k) r = Concat<axis = 0>(i, i) q = Cast<to = 1>(r) so = Add(s, q) }> }""", {"Add": 1}),
    "a body that ends itself": Case("""g (float[2] x) => (float[2] y) {
        n = Constant<value = int64 {9}>() c = Constant<value = bool {1}>() y = Loop(n, c, x) <body = b (int64 i, bool k, float[2] s) => (bool ko, float[2] so) {
            ko = Constant<value = bool {0}>() so = Exp(s) }> }""", {"Exp": 1}),
    "a loop in a loop": Case("""g (float[2] x) => (float[2] y) {
        n = Constant<value = int64 {1}>() y = Loop(n, , x) <body = b (int64 i, bool k, float[2] s) => (bool ko, float[2] so) {
            ko = Identity(k) m = Constant<value = int64 {1}>() so = Loop(m, , s) <body = d (int64 j, bool l, float[2] t) => (bool lo, float[2] to) {
                lo = Identity(l) to = Exp(t) }> }> }""", {"Exp": 1}),
    "a loop in a branch": Case("""g (bool c, float[2] x) => (float[2] y) {
        y = If(c) <then_branch = a () => (float[2] p) { n = Constant<value = int64 {1}>()
                p = Loop(n, , x) <body = b (int64 i, bool k, float[2] s) => (bool ko, float[2] so) { ko = Identity(k) so = Exp(s) }> },
            else_branch = e () => (float[2] q) { q = Neg(x) }> }""", {"If": 1, "Exp": 1, "Neg": 1}),
    "a scan over one element": Case("""g (float[2] i, float[2,1] x1) => (float[2] f, float[2,1] ys) {
        f, ys = Scan<num_scan_inputs = 1, scan_input_axes = [1], scan_output_axes = [-1], body = b (float[2] s, float[2] v) => (float[2] so, float[2] o) {
            so = Sub(s, v) o = Neg(so) }>(i, x1) }""", {"Sub": 1, "Neg": 1, "Squeeze": 1, "Unsqueeze": 1}),
}  # fmt: skip
LEFT = {
    "more turns than pay": COUNTING.format(trips=5, condition=1),
    "a condition of the body": """g (float[2] x) => (float[2] y) {
        c = Constant<value = bool {1}>() n = Constant<value = int64 {2}>() y = Loop(n, c, x) <body = b (int64 i, bool k, float[2] s) => (bool ko, float[2] so) {
            l = Constant<value = int64 {1}>() ko = Less(i, l) so = Mul(s, x) }> }""",
    "a limit from outside": """g (float[2] x, int64 n) => (float[2] y) {
        c = Constant<value = bool {1}>() y = Loop(n, c, x) <body = b (int64 i, bool k, float[2] s) => (bool ko, float[2] so) {
            ko = Constant<value = bool {0}>() so = Exp(s) }> }""",
    "a condition from outside": """g (float[2] x, bool c) => (float[2] y) {
        n = Constant<value = int64 {1}>() y = Loop(n, c, x) <body = b (int64 i, bool k, float[2] s) => (bool ko, float[2] so) {
            ko = Identity(k) so = Exp(s) }> }""",
    "an end that ONNX ignores and the runtime does not": """g (float[2] x) => (float[2] y) {
        n = Constant<value = int64 {3}>() y = Loop(n, , x) <body = b (int64 i, bool k, float[2] s) => (bool ko, float[2] so) {
            ko = Constant<value = bool {0}>() so = Exp(s) }> }""",
    "empty results of unknown shape": """g (float[N] x) => (float[N] y, float[K,N] z) {
        n = Constant<value = int64 {0}>() y, z = Loop(n, , x) <body = b (int64 i, bool k, float[N] s) => (bool ko, float[N] so, float[N] sc) {
            ko = Identity(k) so = Exp(s) sc = Neg(s) }> }""",
    "a scan over more": """g (float[2] i, float[3,2] xs) => (float[2] f, float[3,2] ys) {
        f, ys = Scan<num_scan_inputs = 1, body = b (float[2] s, float[2] v) => (float[2] so, float[2] o) {
            so = Sub(s, v) o = Neg(so) }>(i, xs) }""",
    "a sequence that would need an Identity": """g (float[2] x) => (seq(float[2]) y) {
        n = Constant<value = int64 {1}>() e = SequenceEmpty<dtype = 1>() y = Loop(n, , e) <body = b (int64 i, bool k, seq(float[2]) s) => (bool ko, seq(float[2]) so) {
            ko = Identity(k) so = SequenceInsert(s, x) }> }""",
}  # fmt: skip


def feeds(artifact: Artifact) -> dict[str, np.ndarray]:
    known = {"n": np.array(2), "c": np.array(True), "x1": np.array([[3], [5]], np.float32)}
    known["xs"] = np.arange(6, dtype=np.float32).reshape(3, 2)
    return {value.name: known.get(value.name, X) for value in artifact.spec.inputs}


def run(artifact: Artifact) -> dict[str, np.ndarray]:
    with Session(artifact, optimize=False) as session:
        return session.run(feeds(artifact))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_it_becomes_its_body(load_text: Callable[..., Artifact], case: Case) -> None:
    artifact = load_text(case.text, opset=case.opset)
    passes = f"lift-constants,infer-shapes,unroll-loops{case.options},infer-shapes,remove-no-op-casts,fold-constants,remove-identities,remove-unused-nodes"
    result = optimize(artifact, OptimizeRequest(passes=passes))
    assert result.dropped == ()
    assert result.pipeline.verified
    assert census(result.artifact.model) == dict(sorted(case.after.items()))
    expected, found = run(artifact), run(result.artifact)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-6, strict=True)


@pytest.mark.parametrize("text", LEFT.values(), ids=LEFT)
def test_it_stays(load_text: Callable[..., Artifact], text: str) -> None:
    artifact = load_text(text, opset=13)
    assert run(artifact)
    model = artifact.clone().model
    assert not UnrollLoops().apply(model, PassContext()).modified
    assert census(model) == census(artifact.model)


def test_a_loop_of_a_function_stays(load_text: Callable[..., Artifact]) -> None:
    text = """g (float[2] x) => (float[2] y) { y = own.F(x) }
        <domain: "own", opset_import: ["": 18]> F (x) => (y) {
            n = Constant<value = int64 {1}>() y = Loop(n, , x) <body = b (int64 i, bool k, float[2] s) => (bool ko, float[2] so) {
                ko = Identity(k) so = Exp(s) }> }"""
    model = (
        load_text(text, header='<ir_version: 10, opset_import: ["": 18, "own": 1]>').clone().model
    )
    assert not UnrollLoops().apply(model, PassContext()).modified
