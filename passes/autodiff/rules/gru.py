"""The gradient of GRU.

Source: GRU of ONNX, whose gates are in the order update, reset, hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from onnxsmith.passes.autodiff.backward import Backward, Gradients
from onnxsmith.passes.autodiff.rules.recurrent import Direction, Slopes, differentiate_layer
from onnxsmith.passes.autodiff.subgraphs import write_scan
from onnxsmith.passes.autodiff.writer import Writer

_GATES = 3


def gru(b: Backward) -> Gradients:
    """``h' = (1 - z) n + z h``, differentiated from the last step to the first.

    The reset gate meets the hidden state after the recurrence (``linear_before_reset``) or before.
    """
    after = bool(b.int("linear_before_reset", 0))

    def slopes(direction: Direction) -> Slopes:
        values = _values(direction, after)
        return _after(direction, values) if after else _before(direction, values)

    return differentiate_layer(b, _GATES, ["Sigmoid", "Tanh"], slopes)


@dataclass(frozen=True)
class _Values:
    """What each step computed, ``[T N, H]``.

    Attributes:
        update: The gate that keeps the hidden state.
        reset: The gate that lets it in.
        new: What comes in its place.
        inner: What the recurrence gives the latter.
        to_new: The gradient of what is put into ``new``, for a hidden gradient of one.
        to_update: That of what is put into the update gate.
    """

    update: ir.Value
    reset: ir.Value
    new: ir.Value
    inner: ir.Value
    to_new: ir.Value
    to_update: ir.Value


def _values(d: Direction, after: bool) -> _Values:
    """Compute the gates of all steps at once."""
    w, turn = d.write, {"transB": 1}
    own, other = d.halves()
    given = w.op("Gemm", d.x, d.weight, *([] if own is None else [own]), attributes=turn)
    zr, hidden = _pieces(w, d.recurrence)
    pieces = (None, None) if other is None else _pieces(w, other)
    z_in, r_in, n_in = d.parts(given, _GATES)
    gates = w.op("Gemm", d.before, zr, *_there(pieces[0]), attributes=turn)
    z_more, r_more = d.parts(gates, 2)
    z, r = (w.op("Sigmoid", w.op("Add", a, c)) for a, c in ((z_in, z_more), (r_in, r_more)))
    source = d.before if after else w.op("Mul", r, d.before)
    inner = w.op("Gemm", source, hidden, *_there(pieces[1]), attributes=turn)
    n = w.op("Tanh", w.op("Add", n_in, w.op("Mul", r, inner) if after else inner))
    one = w.number(1, n)
    open_ = w.op("Sub", one, z)
    to_new = w.op("Mul", open_, w.op("Sub", one, w.op("Mul", n, n)))
    to_update = w.op("Mul", w.op("Sub", d.before, n), w.op("Mul", z, open_))
    return _Values(z, r, n, inner, to_new, to_update)


def _after(d: Direction, v: _Values) -> Slopes:
    """The reset gate multiplies what the recurrence gives: one product a step."""
    w = d.write
    to_reset = w.op("Mul", w.op("Mul", v.to_new, v.inner), _steep(w, v.reset))
    factors = [v.to_update, to_reset, w.op("Mul", v.to_new, v.reset)]
    whole = d.within(d.steps(w.op("Concat", *factors, attributes={"axis": 1})))

    def step(
        w: Writer, states: list[ir.Value], given: list[ir.Value]
    ) -> tuple[Sequence[ir.Value], Sequence[ir.Value]]:
        hidden = w.op("Add", states[0], given[0])
        three = w.op("Concat", hidden, hidden, hidden, attributes={"axis": 1})
        inner = w.op("Mul", three, given[1])
        kept = w.op("Mul", hidden, given[2])
        return [w.op("Add", kept, w.op("MatMul", inner, d.recurrence))], [hidden, inner]

    items = [d.grad, whole, d.kept(d.steps(v.update))]
    states, (hidden, inner) = write_scan(w, [d.last], items, step, backward=True)
    rows = d.rows(inner)
    to_new = d.rows(d.within(d.steps(v.to_new)))
    z, r, _ = d.parts(rows, _GATES)
    new = w.op("Mul", d.rows(hidden), to_new)
    recurrence = w.op("Gemm", rows, d.before, attributes={"transA": 1})
    inputs = w.op("Concat", z, r, new, attributes={"axis": 1})
    return Slopes(inputs, recurrence, w.reduce("ReduceSum", rows, [0], keep=False), states)


def _before(d: Direction, v: _Values) -> Slopes:
    """The reset gate multiplies the hidden state: two products a step."""
    w = d.write
    zr, hidden_weight = _pieces(w, d.recurrence)
    to_reset = w.op("Mul", d.before, _steep(w, v.reset))
    items = [d.grad, d.kept(d.steps(v.update)), d.steps(v.reset)]
    items += [d.within(d.steps(x)) for x in (v.to_new, v.to_update, to_reset)]

    def step(
        w: Writer, states: list[ir.Value], given: list[ir.Value]
    ) -> tuple[Sequence[ir.Value], Sequence[ir.Value]]:
        hidden = w.op("Add", states[0], given[0])
        new = w.op("Mul", hidden, given[3])
        through = w.op("MatMul", new, hidden_weight)
        update, reset = w.op("Mul", hidden, given[4]), w.op("Mul", through, given[5])
        gates = w.op("Concat", update, reset, attributes={"axis": 1})
        kept = w.op("Add", w.op("Mul", hidden, given[1]), w.op("Mul", through, given[2]))
        whole = w.op("Concat", gates, new, attributes={"axis": 1})
        return [w.op("Add", kept, w.op("MatMul", gates, zr))], [whole]

    states, (collected,) = write_scan(w, [d.last], items, step, backward=True)
    rows = d.rows(collected)
    z, r, new = d.parts(rows, _GATES)
    turn = {"transA": 1}
    first = w.op("Gemm", w.op("Concat", z, r, attributes={"axis": 1}), d.before, attributes=turn)
    second = w.op("Gemm", new, w.op("Mul", v.reset, d.before), attributes=turn)
    recurrence = w.op("Concat", first, second, attributes={"axis": 0})
    return Slopes(rows, recurrence, w.reduce("ReduceSum", rows, [0], keep=False), states)


def _pieces(w: Writer, value: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Return what belongs to the update and reset gates, and what to the hidden one."""
    size = w.op("Shape", value, attributes={"start": 0, "end": 1}, dtype=ir.DataType.INT64)
    third = w.op("Div", size, w.ints([_GATES]))
    sizes = w.op("Concat", w.op("Mul", third, w.ints([2])), third, attributes={"axis": 0})
    first, second = w.ops("Split", value, sizes, outputs=2, attributes={"axis": 0})
    if value.shape is not None:  # a Scan has to know the rank of what it computes from these
        first.shape = second.shape = ir.Shape([None, *value.shape[1:]])
    return first, second


def _steep(w: Writer, gate: ir.Value) -> ir.Value:
    return w.op("Mul", gate, w.op("Sub", w.number(1, gate), gate))


def _there(value: ir.Value | None) -> list[ir.Value]:
    return [] if value is None else [value]
