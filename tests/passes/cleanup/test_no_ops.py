# ruff: noqa: E501 - a graph is easier read in one line
"""What changes nothing goes, what changes something stays, and the numbers are equal."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.cleanup.remove_no_op_casts import holds
from onnxsmith.passes.observers import census
from onnxsmith.passes.pipeline import PassPipeline
from onnxsmith.runtime.probe import probe_inputs
from onnxsmith.runtime.session import Session


class Case(NamedTuple):
    """A pass, a graph and the operators it leaves; what is left equal is refused."""

    pass_: str
    text: str
    after: dict[str, int]


CASES = [
    # Casts.
    Case("remove-no-op-casts", "g (float16[4] x) => (float16[4] y) { a = Cast<to = 1>(x) y = Cast<to = 10>(a) }", {"Cast": 2}),
    Case("remove-no-op-casts", "g (float16[4] x) => (float16[4] y) { n = Neg(x) a = Cast<to = 1>(n) y = Cast<to = 10>(a) }", {"Neg": 1}),
    Case("remove-no-op-casts", "g (float[4] x) => (float[4] y) { n = Neg(x) a = Cast<to = 10>(n) y = Cast<to = 1>(a) }", {"Neg": 1, "Cast": 2}),
    Case("remove-no-op-casts", "g (int32[4] x) => (double[4] y) { a = Cast<to = 7>(x) y = Cast<to = 11>(a) }", {"Cast": 1}),
    Case("remove-no-op-casts", "g (int32[4] x) => (double[4] y) { a = Cast<to = 1>(x) y = Cast<to = 11>(a) }", {"Cast": 2}),
    Case("remove-no-op-casts", "g (bool[4] x, float[4] z) => (float[4] y) { a = CastLike(x, z) b = Cast<to = 1>(a) y = Add(b, z) }", {"Cast": 1, "Add": 1}),
    # Operators that return what they are given.
    Case("remove-no-ops", "g (float[2,3] x) => (float[2,3] y) { a = Concat<axis = 0>(x) b = Sum(a) c = Max(b) y = Neg(c) }", {"Neg": 1}),
    Case("remove-no-ops", "g (float[2,3] x) => (float[2,3] y) <int64[4] p = {0, 0, 0, 0}, int64[2] r = {1, 1}> { a = Pad(x, p) b = Tile(a, r) y = Neg(b) }", {"Neg": 1}),
    Case("remove-no-ops", "g (float[2,3] x) => (float[4,3] y) <int64[2] r = {2, 1}> { y = Tile(x, r) }", {"Tile": 1}),
    Case("remove-no-ops", "g (float[2,3] x) => (float[3,3] y) <int64[4] p = {0, 0, 1, 0}> { y = Pad(x, p) }", {"Pad": 1}),
    Case("remove-no-ops", "g (float[2,3] x, float[0,3] z) => (float[4,3] y) { y = Concat<axis = 0>(z, x, x) }", {"Concat": 1}),
    Case("remove-no-ops", "g (float[2] x) => (float[2] y) <float r = {0.5}, bool t = {0}> { a = Dropout(x, r, t) y = Neg(a) }", {"Neg": 1}),
    # Slices and scatters.
    Case("remove-no-op-slices", "g (float[N,6] x) => (float[N,6] y) <int64[1] s = {0}, int64[1] e = {9223372036854775807}, int64[1] a = {0}> { b = Slice(x, s, e, a) y = Neg(b) }", {"Neg": 1}),
    Case("remove-no-op-slices", "g (float[4,6] x) => (float[4,5] y) <int64[1] s = {1}, int64[1] e = {6}, int64[1] a = {1}> { y = Slice(x, s, e, a) }", {"Slice": 1}),
    Case("remove-no-op-slices", "g (float[4,6] x) => (float[4,6] y) <int64[1] s = {-1}, int64[1] e = {-9}, int64[1] a = {1}, int64[1] t = {-1}> { b = Slice(x, s, e, a, t) y = Neg(b) }", {"Slice": 1, "Neg": 1}),
    Case("remove-no-op-slices", "g (float[4,6] x) => (float[2,3] y) <int64[1] s = {1}, int64[1] e = {3}, int64[1] a = {0}, int64[1] f = {4}, int64[1] b = {-1}> { c = Slice(x, s, e, a) y = Slice(c, s, f, b) }", {"Slice": 1}),
    Case("remove-no-op-slices", "g (float[6] x) => (float[1] y) <int64[1] s = {1}, int64[1] e = {3}, int64[1] a = {0}> { c = Slice(x, s, e, a) y = Slice(c, s, e, a) }", {"Slice": 2}),
    Case("remove-no-op-slices", "g (float[2,3] x, float[2,3] u) => (float[2,3] y) <int64[2,1] i = {0, 1}> { a = ScatterND(x, i, u) y = Neg(a) }", {"Neg": 1}),
    Case("remove-no-op-slices", "g (float[2,3] x, float[2,3] u) => (float[2,3] y) <int64[2,1] i = {1, 0}> { a = ScatterND(x, i, u) y = Neg(a) }", {"ScatterND": 1, "Neg": 1}),
    Case("remove-no-op-slices", 'g (float[2,3] x, float[2,3] u) => (float[2,3] y) <int64[2,1] i = {0, 1}> { a = ScatterND<reduction = "add">(x, i, u) y = Neg(a) }', {"ScatterND": 1, "Neg": 1}),
    # Expands.
    Case("remove-expands", "g (float[1,3] x, float[N,3] z) => (float[N,3] y) { s = Shape(z) a = Expand(x, s) y = Add(a, z) }", {"Add": 1}),
    Case("remove-expands", "g (float[3] x, float[2,3] z) => (float[2,3] y) <int64[2] s = {2, 3}> { a = Expand(x, s) y = Mul(z, a) }", {"Mul": 1}),
    Case("remove-expands", "g (float[3] x, float[1,3] z) => (float[2,3] y) <int64[2] s = {2, 3}> { a = Expand(x, s) y = Mul(z, a) }", {"Expand": 1, "Mul": 1}),
    Case("remove-expands", "g (float[3] x, float[3] z) => (float[1,3] y) <int64[2] s = {1, 3}> { a = Expand(x, s) y = Mul(z, a) }", {"Expand": 1, "Mul": 1}),
    Case("remove-expands", "g (float[1] x) => (float[3] y) <int64[1] s = {3}> { a = Expand(x, s) y = Add(a, a) }", {"Expand": 1, "Add": 1}),
    # Shapes.
    Case("remove-no-op-shapes", "g (float[N,3,4] x) => (float[N,12] y) <int64[3] a = {0, 4, 3}, int64[2] b = {0, 12}> { r = Reshape(x, a) y = Reshape(r, b) }", {"Reshape": 1}),
    Case("remove-no-op-shapes", "g (float[N,3,4] x) => (float[N,3,4] y) <int64[2] a = {0, 12}, int64[3] b = {-1, 3, 4}> { n = Neg(x) r = Reshape(n, a) y = Reshape(r, b) }", {"Neg": 1}),
    Case("remove-no-op-shapes", "g (float[2,3,4] x) => (float[2,3,4] y) <int64[2] a = {0, 12}, int64[3] b = {-1, 3, 4}> { n = Neg(x) r = Reshape(n, a) y = Reshape(r, b) }", {"Neg": 1}),
    Case("remove-no-op-shapes", "g (float[2,3] x) => (float[6] y) <int64[1] o = {1}, int64[1] a = {-1}> { u = Unsqueeze(x, o) y = Reshape(u, a) }", {"Reshape": 1}),
    Case("remove-no-op-shapes", "g (float[N,1,4] x) => (float[N,4] y) <int64[2] s = {-1, 4}> { t = Transpose<perm = [1, 0, 2]>(x) y = Reshape(t, s) }", {"Reshape": 1}),
    Case("remove-no-op-shapes", "g (float[2,3,4] x) => (float[6,4] y) <int64[2] s = {-1, 4}> { t = Transpose<perm = [1, 0, 2]>(x) y = Reshape(t, s) }", {"Transpose": 1, "Reshape": 1}),
    Case("remove-no-op-shapes", "g (float[2,3,4] x) => (float[3,4,2] y) { a = Transpose<perm = [1, 0, 2]>(x) y = Transpose<perm = [0, 2, 1]>(a) }", {"Transpose": 1}),
    Case("remove-no-op-shapes", "g (float[2,3,4] x) => (float[4,3,2] y) { a = Transpose(x) b = Neg(a) y = Transpose<perm = [0, 1, 2]>(b) }", {"Transpose": 1, "Neg": 1}),
    Case("remove-no-op-shapes", "g (float[N,3] x) => (float[N,3] y) <int64[2] s = {1, 3}> { a = Expand(x, s) y = Neg(a) }", {"Neg": 1}),
    Case("remove-no-op-shapes", "g (float[1,3] x) => (float[2,3] y) <int64[2] s = {2, 1}> { y = Expand(x, s) }", {"Expand": 1}),
    Case("remove-no-op-shapes", "g (float[N,3] x) => (float[1,N,3] y) <int64[3] s = {1, 1, 1}> { y = Expand(x, s) }", {"Expand": 1}),
    Case("remove-no-ops", "g (float[N,3] x) => (float[N,3] y) { a = Neg(x) b = Neg(a) c = Neg(b) d = Neg(c) y = Exp(d) }", {"Exp": 1}),
    Case("remove-no-ops", "g (bool[N] x, bool[N] z) => (bool[N] y) { a = Not(x) b = Not(a) y = And(b, z) }", {"And": 1}),
    Case("remove-no-ops", "g (float[N] x, bool[N] c) => (float[N] y) { a = Where(c, x, x) y = Exp(a) }", {"Exp": 1}),
    Case("remove-no-ops", "g (float[3] x, bool[2,3] c) => (float[2,3] y) { a = Where(c, x, x) y = Exp(a) }", {"Where": 1, "Exp": 1}),
    Case("remove-no-ops", "g (float[4,3] x) => (float[4,3] y) <int64[2] l = {3, 1}> { a, b = Split<axis = 0>(x, l) c = Concat<axis = 0>(a, b) y = Exp(c) }", {"Exp": 1}),
    Case("remove-no-ops", "g (float[4,3] x) => (float[4,3] y) <int64[2] l = {3, 1}> { a, b = Split<axis = 0>(x, l) c = Concat<axis = 0>(b, a) y = Exp(c) }", {"Split": 1, "Concat": 1, "Exp": 1}),
    Case("remove-no-ops", "g (float[4,3] x) => (float[2,6] y) { a, b = Split<axis = 0, num_outputs = 2>(x) c = Concat<axis = 1>(a, b) y = Exp(c) }", {"Split": 1, "Concat": 1, "Exp": 1}),
    Case("remove-no-ops", "g (float[1,1,2,2] x) => (float[1,1,2,2] y) <float[4] s = {1, 1, 1, 1}> { a = Resize<mode = \"linear\">(x, , s) y = Exp(a) }", {"Exp": 1}),
    Case("remove-no-ops", "g (float[1,1,2,2] x) => (float[1,1,2,2] y) <float[4] s = {1, 1, 1, 1.4}> { a = Resize<mode = \"linear\">(x, , s) y = Exp(a) }", {"Resize": 1, "Exp": 1}),
    # What cancels over pointwise operators.
    Case("sink-shapes", "g (float[2,3,4] x) => (float[2,3,4] y) { t = Transpose(x) e = Tanh(t) y = Transpose(e) }", {"Tanh": 1}),
    Case("sink-shapes", "g (float[N,3,4] x) => (float[N,3,4] y) <int64[2] a = {-1, 4}, int64[3] b = {-1, 3, 4}, float h = {0.5}> { r = Reshape(x, a) m = Mul(h, r) e = Tanh(m) y = Reshape(e, b) }", {"Mul": 1, "Tanh": 1}),
    Case("sink-shapes", "g (float[N,3,4] x) => (float[N,12] y) <int64[2] a = {-1, 4}, int64[2] b = {-1, 12}> { r = Reshape(x, a) e = Tanh(r) y = Reshape(e, b) }", {"Tanh": 1, "Reshape": 1}),
    Case("sink-shapes", "g (float[2,3,4] x) => (float[2,3,4] y) { t = Transpose<perm = [1, 2, 0]>(x) e = Tanh(t) y = Transpose<perm = [2, 0, 1]>(e) }", {"Tanh": 1}),
    Case("sink-shapes", "g (float[2,3,4] x) => (float[4,2,3] y) { t = Transpose<perm = [1, 2, 0]>(x) e = Tanh(t) y = Transpose<perm = [1, 2, 0]>(e) }", {"Tanh": 1, "Transpose": 2}),
    Case("sink-shapes", "g (float[2,3] x) => (float[2,3] y, float[6] e) <int64[1] a = {-1}, int64[2] b = {2, 3}> { r = Reshape(x, a) e = Tanh(r) y = Reshape(e, b) }", {"Tanh": 1, "Reshape": 2}),
    Case("sink-shapes", "g (float[2,3] x) => (float[3,2] y) <int64[2] a = {3, 2}, float[2] c = {1, 2}, int64[2] b = {3, -1}> { r = Reshape(x, a) e = Mul(r, c) y = Reshape(e, b) }", {"Mul": 1, "Reshape": 2}),
    # Constant conditions, also inside a branch, and a value handed through.
    Case("fold-ifs", "g (float[2] x) => (float[2] y) <bool c = {1}> { y = If(c) <then_branch = t () => (float[2] p) { p = Identity(x) }, else_branch = e () => (float[2] q) { q = Neg(x) }> }", {"Identity": 2}),
    Case("fold-ifs", "g (float[2] x) => (float[2] y) <bool c = {0}> { b = If(c) <then_branch = t () => (float[2] p) { p = Exp(x) }, else_branch = e () => (float[2] q) { a = Neg(x) d = If(c) <then_branch = u () => (float[2] r) { r = Abs(x) }, else_branch = v () => (float[2] w) { k = Relu(a) w = Sin(k) }> q = Add(d, a) }> y = If(c) <then_branch = t () => (float[2] p) { p = Exp(b) }, else_branch = e () => (float[2] q) { a = Cos(b) q = Mul(a, b) }> }",
         {"Neg": 1, "Relu": 1, "Sin": 1, "Add": 1, "Cos": 1, "Mul": 1, "Identity": 1}),
    # Sequences.
    Case("fold-sequences", "g (float[2] x) => (float[2] y) <int64 i = {-1}> { n = Neg(x) s = SequenceConstruct(x, n) y = SequenceAt(s, i) }", {"Neg": 1}),
    Case("fold-sequences", "g (float[2] x) => (float[2,2] y) { s = SequenceConstruct(x, x) y = ConcatFromSequence<axis = 0, new_axis = 1>(s) }", {"Unsqueeze": 2, "Concat": 1}),
    Case("fold-sequences", "g (float[3,2] x) => (float[2] y) <int64 i = {1}> { s = SplitToSequence<axis = 0, keepdims = 0>(x) y = SequenceAt(s, i) }", {"Gather": 1}),
    Case("fold-sequences", "g (float[3,2] x) => (float[1,2] y) <int64 i = {-1}> { s = SplitToSequence<axis = 0>(x) y = SequenceAt(s, i) }", {"Split": 1}),
    Case("fold-sequences", "g (float[5,2] x) => (float[1,2] y, float[2,2] z) <int64 i = {2}, int64 k = {1}, int64 two = {2}> { s = SplitToSequence<axis = 0>(x, two) y = SequenceAt(s, i) z = SequenceAt(s, k) }", {"Split": 1}),
    Case("fold-sequences", "g (float[N,5] x) => (float[N,3] y) <int64 i = {1}, int64[2] l = {2, 3}> { s = SplitToSequence<axis = -1>(x, l) y = SequenceAt(s, i) }", {"Split": 1}),
    Case("fold-sequences", "g (float[N,2] x) => (float[1,2] y) <int64 i = {1}> { s = SplitToSequence<axis = 0>(x) y = SequenceAt(s, i) }", {"SplitToSequence": 1, "SequenceAt": 1}),
    # Shape arithmetic.
    Case("fold-shapes", "g (float[N,4] x) => (int64[1] y) <int64[1] s = {1}, int64[1] e = {2}> { h = Shape(x) d = Slice(h, s, e) t = Mul(d, d) u = Sub(t, s) y = Neg(u) }", {"Neg": 1}),
    Case("fold-shapes", "g (float[N,4] x) => (float[N,4] y) <int64[2] m = {-1, -1}, int64[2] o = {1, 1}> { h = Shape(x) c = Equal(m, h) w = Where(c, o, h) a = Abs(w) y = Expand(x, a) }",
         {"Equal": 0, "Shape": 1, "Where": 1, "Expand": 1}),
    Case("fold-shapes", "g (float[N,4] x) => (int64[1] y) <int64[1] z = {0}> { h = Shape(x) d = Gather(h, z) y = Neg(d) }", {"Shape": 1, "Gather": 1, "Neg": 1}),
    # A dimension may be 1, and is never negative.
    Case("fold-shapes", "g (float[N,4] x) => (bool[1] y) <int64[1] z = {0}, int64[1] o = {1}> { h = Shape(x) d = Gather(h, z) c = Equal(d, o) y = Not(c) }", {"Shape": 1, "Gather": 1, "Equal": 1, "Not": 1}),
    Case("fold-shapes", "g (float[N,4] x) => (bool[1] y) <int64[1] z = {0}, int64[1] o = {-1}> { h = Shape(x) d = Gather(h, z) c = Equal(d, o) y = Not(c) }", {"Not": 1}),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.pass_}: {case.text}")
def test_it_leaves_these_operators_and_equal_numbers(
    case: Case, load_text: Callable[..., Artifact]
) -> None:
    artifact = load_text(case.text, {}, opset=18)
    model = artifact.model.clone()
    for pass_ in PassPipeline.parse(f"infer-shapes,{case.pass_}").passes:
        model = pass_.apply(model, PassContext()).model
    assert census(model) == {kind: count for kind, count in case.after.items() if count}
    feeds = probe_inputs(artifact.model, artifact.spec, {}, seed=3, default=2)
    with Session(artifact, optimize=False) as session:
        expected = session.run(feeds)
    with Session(Artifact(model), optimize=False) as session:
        for name, array in session.run(feeds).items():
            np.testing.assert_array_equal(array, expected[name])
    (again,) = PassPipeline.parse(case.pass_).passes
    assert not again.apply(model, PassContext()).modified


_TYPES: list[tuple[ir.DataType, Any]] = [
    (ir.DataType[name.upper()], np.dtype(name))
    for name in ("bool", "uint8", "uint16", "int8", "int16")
] + [(ir.DataType.FLOAT16, np.dtype("float16"))]
_WIDE = [*_TYPES, *((ir.DataType[n.upper()], np.dtype(n)) for n in ("int32", "int64", "double"))]


@pytest.mark.parametrize("narrow", _TYPES, ids=lambda t: str(t[1]))
@pytest.mark.parametrize(
    "wide", [*_WIDE, (ir.DataType.FLOAT, np.dtype("float32"))], ids=lambda t: str(t[1])
)
def test_a_type_holds_another_where_every_number_comes_back(
    narrow: tuple[ir.DataType, Any], wide: tuple[ir.DataType, Any]
) -> None:
    bits = np.arange(2 if narrow[1] == np.bool_ else 1 << (8 * narrow[1].itemsize))
    numbers = bits.astype(f"uint{8 * narrow[1].itemsize}").view(narrow[1])
    if narrow[1].kind == "f":
        numbers = numbers[np.isfinite(numbers)]
    with np.errstate(all="ignore"):
        there = numbers.astype(wide[1])
        same = bool(np.all(there.astype(narrow[1]) == numbers) and np.all(there == numbers))
    assert holds(wide[0], narrow[0]) == same
