"""The gradient of LSTM.

Source: LSTM of ONNX, whose gates are in the order input, output, forget, cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from onnxsmith.passes.autodiff.backward import Backward, Gradients, NotDifferentiableError
from onnxsmith.passes.autodiff.rules.recurrent import (
    Direction,
    Slopes,
    differentiate_layer,
    first_state,
    last_gradient,
    pick,
)
from onnxsmith.passes.autodiff.subgraphs import write_scan
from onnxsmith.passes.autodiff.writer import BOOL, Writer

_GATES = 4


def lstm(b: Backward) -> Gradients:
    """``c' = f c + i g`` and ``h' = o tanh(c')``, differentiated from the last step to the first.

    The cells of all steps, which the operator hides, are a Scan of element-wise operators.
    Peepholes add ``p c`` to what the gates are given, and ``clip`` cuts that sum.
    """
    if b.int("input_forget", 0):
        raise NotDifferentiableError("its gates are coupled (input_forget)")
    views: list[ir.Value] = []
    gradients = differentiate_layer(
        b, _GATES, ["Sigmoid", "Tanh", "Tanh"], lambda d: _slopes(b, d, views), clips=True
    )
    if views:
        gradients.append(b.write.op("Concat", *views, attributes={"axis": 0}))
    return gradients


@dataclass(frozen=True)
class _Looks:
    """What the gates know of the cell, and where they are cut.

    Attributes:
        peepholes: The weights of the input, output and forget gates, each ``[H]``; none without.
        clip: The largest amount that a gate is given; None where it is not cut.
    """

    peepholes: tuple[ir.Value, ...]
    clip: float | None

    @classmethod
    def of(cls, b: Backward, d: Direction) -> _Looks:
        """Return those of one direction."""
        given, w = b.optional(7), d.write
        clip = b.float("clip", 0.0) if "clip" in b.node.attributes else None
        if given is None:
            return cls((), clip)
        attributes = {"axis": 0, "num_outputs": 3}
        parts = w.ops("Split", pick(w, given, d.place, 0), outputs=3, attributes=attributes)
        return cls(tuple(parts), clip)

    def given(self, w: Writer, row: ir.Value, which: int, cell: ir.Value) -> ir.Value:
        """Return what a gate is given: a row, and its view of a cell."""
        return w.op("Add", row, w.op("Mul", cell, self.peepholes[which])) if self.peepholes else row

    def cut(self, w: Writer, row: ir.Value) -> ir.Value:
        """Return what is left of it."""
        if self.clip is None:
            return row
        return w.op("Clip", row, w.number(-self.clip, row), w.number(self.clip, row))

    def uncut(self, w: Writer, slope: ir.Value, row: ir.Value) -> ir.Value:
        """Return zero for the slope of what was cut."""
        if self.clip is None:
            return slope
        inside = w.op("Less", w.op("Abs", row), w.number(self.clip, row), dtype=BOOL)
        return w.op("Where", inside, slope, w.number(0, slope), dtype=slope.dtype)


def _slopes(b: Backward, d: Direction, views: list[ir.Value]) -> Slopes:
    """Differentiate one direction; the gradient of its peepholes is added to ``views``."""
    w, looks = d.write, _Looks.of(b, d)
    given = list(_given(d))
    first = first_state(b, 6, d.place)
    cells = _cells(d, first, given, looks)
    before, after = d.rows(d.shifted(first, cells)), d.rows(cells)
    for place, which, seen in ((0, 0, before), (1, 1, after), (2, 2, before)):
        given[place] = looks.given(w, given[place], which, seen)
    i, o, f = (w.op("Sigmoid", looks.cut(w, row)) for row in given[:3])
    g = w.op("Tanh", looks.cut(w, given[3]))
    cell = w.op("Tanh", after)
    one = w.number(1, i)

    def sigmoid(s: ir.Value) -> ir.Value:
        return w.op("Mul", s, w.op("Sub", one, s))

    def tanh(t: ir.Value) -> ir.Value:
        return w.op("Sub", one, w.op("Mul", t, t))

    factors = [
        w.op("Mul", g, sigmoid(i)),
        w.op("Mul", cell, sigmoid(o)),
        w.op("Mul", before, sigmoid(f)),
        w.op("Mul", i, tanh(g)),
    ]
    factors = [looks.uncut(w, *pair) for pair in zip(factors, given, strict=True)]
    whole = d.within(d.steps(w.op("Concat", *factors, attributes={"axis": 1})))
    follows, forget = w.op("Mul", o, tanh(cell)), f
    if looks.peepholes:
        follows = looks.given(w, follows, 1, factors[1])
        forget = looks.given(w, looks.given(w, f, 0, factors[0]), 2, factors[2])
    slopes = _back(b, d, whole, d.within(d.steps(follows)), d.kept(d.steps(forget)))
    if looks.peepholes:
        parts = d.parts(slopes.inputs, _GATES)
        products = [
            w.op("Mul", part, c) for part, c in zip(parts[:3], (before, after, before), strict=True)
        ]
        both = w.op("Concat", *products, attributes={"axis": 1})
        views.append(w.op("ReduceSum", both, w.ints([0]), attributes={"keepdims": 1}))
    return slopes


def _back(
    b: Backward, d: Direction, factors: ir.Value, to_cell: ir.Value, forget: ir.Value
) -> Slopes:
    """Go back through the steps.

    Args:
        b: The layer.
        d: One direction of it.
        factors: What the gradients of cell, hidden, cell and cell become at the four gates.
        to_cell: How the hidden state follows the cell.
        forget: How the cell follows the one before it.
    """
    w = d.write
    items = [d.grad, factors, to_cell, forget]
    if d.inside is not None:
        items.append(w.op("Sub", w.number(1, d.grad), d.inside))

    def step(
        w: Writer, states: list[ir.Value], given: list[ir.Value]
    ) -> tuple[Sequence[ir.Value], Sequence[ir.Value]]:
        hidden = w.op("Add", states[0], given[0])
        cell = w.op("Add", states[1], w.op("Mul", hidden, given[2]))
        four = w.op("Concat", cell, hidden, cell, cell, attributes={"axis": 1})
        inner = w.op("Mul", four, given[1])
        before = w.op("MatMul", inner, d.recurrence)
        if d.inside is not None:
            before = w.op("Add", before, w.op("Mul", hidden, given[4]))
        return [before, w.op("Mul", cell, given[3])], [inner]

    last = [d.last, last_gradient(b, 2, d.place, d.first)]
    states, (collected,) = write_scan(w, last, items, step, backward=True)
    rows = d.rows(collected)
    recurrence = w.op("Gemm", rows, d.before, attributes={"transA": 1})
    return Slopes(rows, recurrence, w.reduce("ReduceSum", rows, [0], keep=False), states)


def _given(d: Direction) -> Sequence[ir.Value]:
    """Compute what the gates of all steps are given, but for their views of the cell."""
    w, turn = d.write, {"transB": 1}
    own, other = d.halves()
    bias = [] if own is None else [w.op("Add", own, other)]
    rows = w.op("Gemm", d.x, d.weight, *bias, attributes=turn)
    rows = w.op("Gemm", d.before, d.recurrence, rows, attributes=turn)
    return d.parts(rows, _GATES)


def _cells(d: Direction, first: ir.Value, given: Sequence[ir.Value], looks: _Looks) -> ir.Value:
    """Return the cell that each step ends with, ``[T, N, H]``.

    Gates that do not look at the cell are computed for all steps at once, outside of the Scan.
    """

    def gates(w: Writer, i: ir.Value, f: ir.Value) -> tuple[ir.Value, ir.Value]:
        return w.op("Sigmoid", looks.cut(w, i)), w.op("Sigmoid", looks.cut(w, f))

    def step(
        w: Writer, states: list[ir.Value], items: list[ir.Value]
    ) -> tuple[Sequence[ir.Value], Sequence[ir.Value]]:
        i, f, new = items
        if looks.peepholes:
            seen = (looks.given(w, row, which, states[0]) for row, which in ((i, 0), (f, 2)))
            i, f = gates(w, *seen)
        cell = w.op("Add", w.op("Mul", states[0], f), w.op("Mul", i, new))
        return [cell], [cell]

    w = d.write
    i, _, f, g = given
    if not looks.peepholes:
        i, f = gates(w, i, f)
    new = w.op("Tanh", looks.cut(w, g))
    _, (cells,) = write_scan(w, [first], [d.steps(v) for v in (i, f, new)], step)
    return cells
