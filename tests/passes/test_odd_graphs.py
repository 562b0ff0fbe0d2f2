# ruff: noqa: E501 - a graph is easier read in one line
"""Graphs that trip rewriters: empty inputs, bodies, pass-through outputs, odd types and sizes.

The preset must leave each one valid, checked and settled: a second run changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import onnx
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.manager import PassManager, PipelineResult
from onnxsmith.passes.observers import census
from onnxsmith.passes.pipeline import PassPipeline
from onnxsmith.passes.verify import make_verifier

W = np.array([1, 2], np.float32)


class Odd(NamedTuple):
    """A graph and the operators that the preset leaves of it."""

    name: str
    text: str
    after: dict[str, int]
    weights: Mapping[str, Any] = MappingProxyType({})
    opset: int = 18
    header: str = ""


GRAPHS = [
    Odd("an empty input", "g (float[N,4] x) => (float[N,4] y) { y = Clip(x, , h) }", {"Clip": 1}, {"h": np.array(1, np.float32)}),
    Odd("an empty input of Resize", 'g (float[1,1,2,2] x) => (float[1,1,4,4] y) { y = Resize<mode = "nearest">(x, , s) }', {"Resize": 1}, {"s": np.array([1, 1, 2, 2], np.float32)}),
    Odd("a loop with constants inside", """g (float[4] x) => (float[4] y, float[K,4] z) {
        n = Constant<value = int64 {3}>() t = Constant<value = bool {1}>()
        y, z = Loop(n, t, x) <body = b (int64 i, bool c, float[4] s) => (bool co, float[4] so, float[4] sc) {
            k = Constant<value = float {2}>() e = Exp(k) co = Identity(c) so = Mul(s, e) sc = Identity(so) }> }""",
        {"Loop": 1, "Mul": 1, "Identity": 2}),
    Odd("a scan", """g (float[2] i, float[3,2] xs) => (float[2] f, float[3,2] ys) {
        f, ys = Scan<num_scan_inputs = 1, body = b (float[2] s, float[2] v) => (float[2] so, float[2] o) { so = Add(s, v) o = Identity(so) }>(i, xs) }""",
        {"Scan": 1, "Add": 1, "Identity": 1}),
    Odd("branches that share a folded outer value", """g (bool c, float[2] x) => (float[2] y) {
        e = Exp(w)
        y = If(c) <then_branch = a () => (float[2] p) { q = Mul(e, e) p = Add(x, q) },
                   else_branch = b () => (float[2] r) { s = Neg(e) r = Add(x, s) }> }""",
        {"If": 1, "Add": 2}, {"w": W}),
    Odd("branches that return constants", """g (bool c, float[2] x) => (float[2] y) {
        y = If(c) <then_branch = a () => (float[2] p) { p = Constant<value = float[2] {1, 2}>() },
                   else_branch = b () => (float[2] q) { q = Exp(x) }> }""",
        {"If": 1, "Constant": 1, "Exp": 1}),
    Odd("a branch that returns its weight", """g (bool c, float[2] x) => (float[2] y) {
        y = If(c) <then_branch = a () => (float[2] p) <float[2] p = {1, 2}> { },
                   else_branch = b () => (float[2] q) { q = Identity(x) }> }""",
        {"If": 1, "Identity": 1}),
    Odd("equal names in both branches", """g (bool c, float[2] x) => (float[2] y) {
        y = If(c) <then_branch = a () => (float[2] p) <float[2] k = {1, 2}> { p = Add(x, k) },
                   else_branch = b () => (float[2] p) <float[2] k = {3, 4}> { q = Exp(k) p = Add(x, q) }> }""",
        {"If": 1, "Add": 2}),
    Odd("a condition that is known", """g (float[2] x) => (float[2] y) {
        c = Constant<value = bool {1}>()
        y = If(c) <then_branch = a () => (float[2] p) { p = Neg(x) }, else_branch = b () => (float[2] q) { q = Exp(x) }> }""",
        {"Neg": 1}),
    Odd("no nodes", "g (float[2] x) => (float[2] x) { }", {}),
    Odd("an input that is an output", "g (float[2] x) => (float[2] x, float[2] y) { y = Identity(x) }", {"Identity": 1}),
    Odd("two outputs of one value", "g (float[2] x) => (float[2] y, float[2] z) { y = Relu(x) z = Identity(y) }", {"Relu": 1, "Identity": 1}),
    Odd("a weight that is an output", "g (float[2] x) => (float[2] w, float[2] y) { y = Add(x, w) }", {"Add": 1}, {"w": W}),
    Odd("no inputs", "g () => (float[2] y) { a = Exp(w) y = Neg(a) }", {}, {"w": W}),
    Odd("no elements", "g (float[N,0] x) => (float[N,0] y) <float[0] w = {}> { y = Add(x, w) }", {"Add": 1}),
    Odd("no elements to fold", "g (float[N] x) => (float[M] y) <float[0] w = {}> { a = Neg(w) y = Concat<axis = 0>(x, a) }", {"Identity": 1}),
    Odd("a scalar", "g (float x) => (float y) { a = Neg(w) y = Mul(x, a) }", {"Mul": 1}, {"w": np.array(3, np.float32)}),
    Odd("a name that folding would use", "g (float[2] x) => (float[2] y) { a = Exp(w) a_folded = Relu(x) y = Add(a, a_folded) }", {"Add": 1, "Relu": 1}, {"w": W}),
    Odd("a function with attributes", """g (float[2] x) => (float[2] y) { y = own.F<al = 0.5>(x) }
        <domain: "own", opset_import: ["": 18]> F <al> (a) => (b) { k = Constant<value_float: float = @al>() b = Mul(a, k) }""",
        {"Mul": 1}, header='<ir_version: 10, opset_import: ["": 18, "own": 1]>'),
    Odd("a sequence inside", "g (float[2] x) => (float[4] y) { a = Exp(w) s = SequenceConstruct(x, a) y = ConcatFromSequence<axis = 0>(s) }", {"Concat": 1}, {"w": W}),
    Odd("a sequence as output", "g (float[2] x) => (seq(float[2]) y) { y = SequenceConstruct(x, w) }", {"SequenceConstruct": 1}, {"w": W}),
    Odd("an optional as output", "g (float[2] x) => (optional(float[2]) y) { y = Optional(x) }", {"Optional": 1}),
    Odd("a mask that is used", "g (float[2] x) => (float[2] y, bool[2] m) { y, m = Dropout(x) }", {"Identity": 1}),
    Odd("opset 7", "g (float[N,3,8,8] x) => (float[N,5,6,6] y) { c = Conv(x, w) y = BatchNormalization(c, s, b, m, v) }", {"Conv": 1},
        {"w": np.random.default_rng(0).standard_normal((5, 3, 3, 3)).astype(np.float32), **{k: np.full(5, 2, np.float32) for k in "sbmv"}}, 7),
    Odd("zeros in Reshape", "g (float[N,4] x) => (float[N,4] y) { a = Reshape(x, s) y = Reshape(a, t) }", {"Reshape": 1}, {"s": np.array([0, 2, 2]), "t": np.array([0, -1])}),
    Odd("a float8 weight", "g (float[2] x) => (float[2] y) { a = Cast<to = 1>(w) y = Add(x, a) }", {"Add": 1}, {"w": np.ones(2, ml_dtypes.float8_e4m3fn)}, 19),
    Odd("an int4 weight", "g (float[2] x) => (float[2] y) { a = DequantizeLinear(q, s) y = Add(x, a) }", {"Add": 1, "DequantizeLinear": 1},
        {"q": np.array([1, 2], ml_dtypes.int4), "s": np.array(0.5, np.float32)}, 21),
    Odd("bfloat16 throughout", "g (bfloat16[N,4] x) => (bfloat16[N,4] y) { a = Identity(x) b = Cast<to = 1>(a) c = Exp(b) y = Cast<to = 16>(c) }", {"Cast": 2, "Exp": 1}, opset=21),
    Odd("text", "g (string[N] x) => (string[N] y) { y = Identity(x) }", {"Identity": 1}),
]  # fmt: skip


def optimize(artifact: Artifact) -> PipelineResult:
    passes = PassPipeline.preset("cpu").passes
    return PassManager(passes, PassContext(), make_verifier(artifact)).run(artifact)


@pytest.mark.parametrize("odd", GRAPHS, ids=lambda odd: odd.name)
def test_the_preset_keeps_it_valid_equal_and_settled(
    odd: Odd, load_text: Callable[..., Artifact]
) -> None:
    artifact = load_text(odd.text, odd.weights, opset=odd.opset, header=odd.header)
    result = optimize(artifact)
    assert result.verified
    assert result.dropped == ()
    assert all(d.ok for d in result.differences)
    assert result.census_after == dict(sorted(odd.after.items()))
    assert [v.name for v in result.artifact.spec.inputs] == [v.name for v in artifact.spec.inputs]
    onnx.checker.check_model(result.artifact.to_proto(), full_check=True)
    again = optimize(result.artifact)
    assert [str(run.pass_) for run in again.runs if run.modified] == []
    assert census(again.artifact.model) == result.census_after


@pytest.mark.parametrize("condition", [True, False])
def test_a_weight_as_input_is_frozen_only_where_a_caller_need_not_give_it(
    load_text: Callable[..., Artifact], condition: bool
) -> None:
    text = "g (float[2] x, float[2] w) => (float[2] y) { a = Exp(w) y = Add(x, a) }"
    artifact = load_text(text, {"w": W} if condition else {}, ir_version=3, opset=8)
    result = optimize(artifact)
    assert result.census_after == ({"Add": 1} if condition else {"Add": 1, "Exp": 1})
    names = [value.name for value in result.artifact.model.graph.inputs]
    assert names == (["x"] if condition else ["x", "w"])
