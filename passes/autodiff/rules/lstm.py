"""The gradient of LSTM.

Source: LSTM of ONNX, whose gates are in the order input, output, forget, cell.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from onnxsmith.passes.autodiff.backward import Backward, Gradients, NotDifferentiableError
from onnxsmith.passes.autodiff.rules.recurrent import (
    Direction,
    Slopes,
    differentiate_layer,
    first_state,
    last_gradient,
)
from onnxsmith.passes.autodiff.subgraphs import write_scan
from onnxsmith.passes.autodiff.writer import Writer

_GATES = 4


def lstm(b: Backward) -> Gradients:
    """``c' = f c + i g`` and ``h' = o tanh(c')``, differentiated from the last step to the first.

    The cells of all steps, which the operator hides, are a Scan of element-wise operators.
    """
    if b.optional(7) is not None:
        raise NotDifferentiableError("its gates look at the cell (peepholes)")
    if b.int("input_forget", 0):
        raise NotDifferentiableError("its gates are coupled (input_forget)")
    return differentiate_layer(
        b, _GATES, ["Sigmoid", "Tanh", "Tanh"], lambda direction: _slopes(b, direction)
    )


def _slopes(b: Backward, d: Direction) -> Slopes:
    w = d.write
    i, o, f, g = _gates(d)
    first = first_state(b, 6, d.place)
    cells = _cells(d, first, f, w.op("Mul", i, g))
    before = d.rows(d.shifted(first, cells))
    cell = w.op("Tanh", d.rows(cells))
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
    whole = d.within(d.steps(w.op("Concat", *factors, attributes={"axis": 1})))
    to_cell = d.within(d.steps(w.op("Mul", o, tanh(cell))))
    return _back(b, d, whole, to_cell, d.kept(d.steps(f)))


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


def _gates(d: Direction) -> tuple[ir.Value, ir.Value, ir.Value, ir.Value]:
    """Compute the gates of all steps at once."""
    w, turn = d.write, {"transB": 1}
    own, other = d.halves()
    bias = [] if own is None else [w.op("Add", own, other)]
    rows = w.op("Gemm", d.x, d.weight, *bias, attributes=turn)
    rows = w.op("Gemm", d.before, d.recurrence, rows, attributes=turn)
    i, o, f, g = d.parts(rows, _GATES)
    return w.op("Sigmoid", i), w.op("Sigmoid", o), w.op("Sigmoid", f), w.op("Tanh", g)


def _cells(d: Direction, first: ir.Value, forget: ir.Value, new: ir.Value) -> ir.Value:
    """Return the cell that each step ends with, ``[T, N, H]``."""

    def step(
        w: Writer, states: list[ir.Value], given: list[ir.Value]
    ) -> tuple[Sequence[ir.Value], Sequence[ir.Value]]:
        cell = w.op("Add", w.op("Mul", states[0], given[0]), given[1])
        return [cell], [cell]

    _, (cells,) = write_scan(d.write, [first], [d.steps(forget), d.steps(new)], step)
    return cells
