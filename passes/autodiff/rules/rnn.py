"""The gradient of RNN.

Source: RNN of ONNX.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from onnxsmith.passes.autodiff.backward import Backward, Gradients
from onnxsmith.passes.autodiff.rules.recurrent import Direction, Slopes, differentiate_layer
from onnxsmith.passes.autodiff.subgraphs import write_scan
from onnxsmith.passes.autodiff.writer import BOOL, Writer

_KNOWN = ("tanh", "relu", "sigmoid")


def rnn(b: Backward) -> Gradients:
    """``h' = f(W x + R h + b)``: ``dz = f'(z) dh'`` and ``dh = R dz``."""
    names = b.node.attributes.get_strings("activations") or ["Tanh"]
    own = names[0] if names[0].lower() in _KNOWN else "Tanh"
    return differentiate_layer(b, 1, [own], lambda direction: _slopes(direction, own.lower()))


def _slopes(d: Direction, activation: str) -> Slopes:
    w = d.write
    steep = d.within(d.steps(_steep(w, d.hidden, activation)))
    outside = None if d.inside is None else w.op("Sub", w.number(1, steep), d.inside)
    items = [d.grad, steep] + ([] if outside is None else [outside])

    def step(
        w: Writer, states: list[ir.Value], given: list[ir.Value]
    ) -> tuple[Sequence[ir.Value], Sequence[ir.Value]]:
        whole = w.op("Add", states[0], given[0])
        inner = w.op("Mul", whole, given[1])
        before = w.op("MatMul", inner, d.recurrence)
        if outside is not None:
            before = w.op("Add", before, w.op("Mul", whole, given[2]))
        return [before], [inner]

    states, (collected,) = write_scan(w, [d.last], items, step, backward=True)
    rows = d.rows(collected)
    recurrence = w.op("Gemm", rows, d.before, attributes={"transA": 1})
    return Slopes(rows, recurrence, w.reduce("ReduceSum", rows, [0], keep=False), states)


def _steep(w: Writer, y: ir.Value, activation: str) -> ir.Value:
    """Return the derivative of an activation, from its result."""
    if activation == "tanh":
        return w.op("Sub", w.number(1, y), w.op("Mul", y, y))
    if activation == "sigmoid":
        return w.op("Mul", y, w.op("Sub", w.number(1, y), y))
    return w.cast(w.op("Greater", y, w.number(0, y), dtype=BOOL), y.dtype)
