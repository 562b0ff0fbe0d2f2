"""What the gradients of recurrent layers have in common.

The layer itself runs in the runtime's kernel, which hides its gates. On the way back, the gates of
all steps are computed at once from the hidden states, which the kernel does return: two products of
matrices. Only what has to go step by step is a Scan: from the last step to the first, one product a
step. Gradients of weights are one product each again. Written out step by step instead of as a Scan
it was no faster, measured with 8 and 32 steps.

Source: LSTM, GRU and RNN of ONNX; Hochreiter and Schmidhuber, "Long Short-Term Memory" (1997), and
Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder" (2014), for the equations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from onnxsmith.passes.autodiff.backward import Backward, NotDifferentiableError
from onnxsmith.passes.autodiff.writer import BOOL, INT64, Writer


@dataclass(frozen=True)
class Direction:
    """One direction of a layer, its steps in the order in which they ran.

    Sizes: T steps, N samples, I inputs, H hidden units, G gates.

    Attributes:
        write: Writes the nodes.
        x: ``[T N, I]``.
        weight: ``[G H, I]``.
        recurrence: ``[G H, H]``.
        bias: ``[2 G H]``, for inputs and recurrence; None where there is none.
        first: The hidden state it begins with, ``[N, H]``.
        before: The hidden state that each step begins with, ``[T N, H]``.
        hidden: That it ends with.
        grad: The gradient of what each step returns, ``[T, N, H]``; zero behind a sample's end.
        last: The gradient of the last hidden state, ``[N, H]``.
        inside: Ones for steps within a sample's length, zeros behind it, ``[T, N, 1]``; None where
            all have the same length.
        place: Which direction it is.
        gates: How many gates there are.
    """

    write: Writer
    x: ir.Value
    weight: ir.Value
    recurrence: ir.Value
    bias: ir.Value | None
    first: ir.Value
    before: ir.Value
    hidden: ir.Value
    grad: ir.Value
    last: ir.Value
    inside: ir.Value | None
    place: int
    gates: int

    def halves(self) -> tuple[ir.Value | None, ir.Value | None]:
        """Return the biases of inputs and of the recurrence."""
        if self.bias is None:
            return None, None
        attributes = {"axis": 0, "num_outputs": 2}
        half = self.write.ops("Split", self.bias, outputs=2, attributes=attributes)
        return half[0], half[1]

    def parts(self, rows: ir.Value, count: int) -> Sequence[ir.Value]:
        """Return the columns of each gate."""
        return self.write.ops(
            "Split", rows, outputs=count, attributes={"axis": 1, "num_outputs": count}
        )

    def steps(self, rows: ir.Value) -> ir.Value:
        """Return ``[T N, ...]`` as ``[T, N, ...]``."""
        w = self.write
        lead = w.op("Shape", self.grad, attributes={"start": 0, "end": 2}, dtype=INT64)
        shape = w.op("Concat", lead, w.ints([-1]), attributes={"axis": 0})
        result = w.op("Reshape", rows, shape)
        result.shape = ir.Shape([None, None, None])
        return result

    def rows(self, steps: ir.Value) -> ir.Value:
        """Return ``[T, N, ...]`` as ``[T N, ...]``."""
        return self.write.op("Flatten", steps, attributes={"axis": 2})

    def within(self, steps: ir.Value) -> ir.Value:
        """Return zeros for what lies behind a sample's end."""
        return steps if self.inside is None else self.write.op("Mul", steps, self.inside)

    def kept(self, steps: ir.Value) -> ir.Value:
        """Return factors of a state that is kept as it is behind a sample's end."""
        if self.inside is None:
            return steps
        w = self.write
        outside = w.op("Sub", w.number(1, steps), self.inside)
        return w.op("Add", w.op("Mul", steps, self.inside), outside)

    def shifted(self, first: ir.Value, steps: ir.Value) -> ir.Value:
        """Return, for each step, what the one before it ended with."""
        return shifted(self.write, first, steps)


@dataclass(frozen=True)
class Slopes:
    """The gradients of one direction.

    Attributes:
        inputs: Of what the weights make of the inputs, ``[T N, G H]``.
        recurrence: Of the recurrence's weights, ``[G H, H]``.
        biases: Of the recurrence's biases, ``[G H]``.
        states: Of the states it began with, each ``[N, H]``.
    """

    inputs: ir.Value
    recurrence: ir.Value
    biases: ir.Value
    states: Sequence[ir.Value]


def differentiate_layer(
    b: Backward,
    gates: int,
    activations: Sequence[str],
    slopes: Callable[[Direction], Slopes],
    *,
    clips: bool = False,
) -> list[ir.Value | None]:
    """Return the gradients of the inputs, weights, recurrence, biases and states.

    Args:
        b: The layer.
        gates: How many gates there are.
        activations: The only ones that it may have.
        slopes: Differentiates one direction.
        clips: Whether ``slopes`` knows what is cut.

    Raises:
        NotDifferentiableError: The layer has an option that is not known.
    """
    _check(b, activations, clips)
    w, way = b.write, b.string("direction", "forward")
    ways = [False, True] if way == "bidirectional" else [way == "reverse"]
    results = []
    for place, backward in enumerate(ways):
        direction = _direction(b, place, backward, gates)
        found = slopes(direction)
        rows = found.inputs
        inputs = direction.steps(w.op("MatMul", rows, direction.weight))
        weight = w.op("Gemm", rows, direction.x, attributes={"transA": 1})
        own = w.reduce("ReduceSum", rows, [0], keep=False)
        bias = w.op("Concat", own, found.biases, attributes={"axis": 0})
        results.append([turned(b, inputs, backward), weight, found.recurrence, bias, *found.states])
    x = results[0][0] if len(results) == 1 else w.op("Add", results[0][0], results[1][0])
    stacked = [_stacked(w, parts) for parts in list(zip(*results, strict=True))[1:]]
    gradients: list[ir.Value | None] = [x, *stacked[:2], None, None, *stacked[3:]]
    gradients[3] = stacked[2] if b.optional(3) is not None else None
    return gradients


def _check(b: Backward, activations: Sequence[str], clips: bool) -> None:
    count = 2 if b.string("direction", "forward") == "bidirectional" else 1
    names = b.node.attributes.get_strings("activations") or list(activations) * count
    if [name.lower() for name in names] != [name.lower() for name in activations] * count:
        raise NotDifferentiableError(f"its activations are {', '.join(names)}")
    if not clips and "clip" in b.node.attributes:
        raise NotDifferentiableError("it cuts what its gates are given (clip)")


def _direction(b: Backward, place: int, backward: bool, gates: int) -> Direction:
    w, x = b.write, b.x(0)
    hidden = b.node.outputs[0]
    if not hidden.name:
        hidden.name, hidden.type = w.name("hidden"), x.type
    lengths = b.optional(4)
    inside = None if lengths is None else _inside(b, lengths)
    states = turned(b, pick(w, hidden, place, 1), backward)
    states.shape = ir.Shape([None, None, None])
    first = first_state(b, 5, place)
    grads = w.zeros_like(states)
    if b.grads[0] is not None:
        grads = turned(b, pick(w, b.grads[0], place, 1), backward)
    if inside is not None:
        grads = w.op("Mul", grads, inside)
    grads.shape = ir.Shape([None, None, None])
    flat = {"axis": 2}
    bias = b.optional(3)
    return Direction(
        w,
        w.op("Flatten", turned(b, x, backward), attributes=flat),
        pick(w, b.x(1), place, 0),
        pick(w, b.x(2), place, 0),
        None if bias is None else pick(w, bias, place, 0),
        first,
        w.op("Flatten", shifted(w, first, states), attributes=flat),
        w.op("Flatten", states, attributes=flat),
        grads,
        last_gradient(b, 1, place, first),
        inside,
        place,
        gates,
    )


def first_state(b: Backward, index: int, place: int) -> ir.Value:
    """Return the state that a direction begins with, ``[N, H]``."""
    w, given = b.write, b.optional(index)
    if given is not None:
        state = pick(w, given, place, 0)
    else:
        batch = w.op("Shape", b.x(0), attributes={"start": 1, "end": 2}, dtype=INT64)
        size = w.op("Shape", b.x(2), attributes={"start": 2, "end": 3}, dtype=INT64)
        state = w.fill(w.op("Concat", batch, size, attributes={"axis": 0}), b.x(0), 0)
    state.shape = ir.Shape([None, None])
    return state


def last_gradient(b: Backward, output: int, place: int, like: ir.Value) -> ir.Value:
    """Return the gradient of a direction's last state, ``[N, H]``."""
    grad = b.grads[output] if output < len(b.grads) else None
    found = b.write.zeros_like(like) if grad is None else pick(b.write, grad, place, 0)
    found.shape = ir.Shape([None, None])
    return found


def shifted(w: Writer, first: ir.Value, steps: ir.Value) -> ir.Value:
    """Return, for each step, what the one before it ended with, ``[T, N, H]``."""
    head = w.op("Unsqueeze", first, w.ints([0]))
    tail = w.op("Slice", steps, w.ints([0]), w.ints([-1]), w.ints([0]))
    result = w.op("Concat", head, tail, attributes={"axis": 0})
    result.shape = ir.Shape([None, None, None])
    return result


def turned(b: Backward, steps: ir.Value, backward: bool) -> ir.Value:
    """Return the steps of a backward direction from last to first, within each sample's length."""
    w, lengths = b.write, b.optional(4)
    if not backward:
        return steps
    if lengths is not None:
        attributes = {"time_axis": 0, "batch_axis": 1}
        return w.op("ReverseSequence", steps, w.cast(lengths, INT64), attributes=attributes)
    return w.op("Slice", steps, w.ints([-1]), w.ints([-(2**31)]), w.ints([0]), w.ints([-1]))


def _inside(b: Backward, lengths: ir.Value) -> ir.Value:
    w = b.write
    count = w.op("Squeeze", w.size_of(b.x(0), 0), w.ints([0]))
    places = w.op("Range", w.integer(0), count, w.integer(1), dtype=INT64)
    column = w.op("Unsqueeze", places, w.ints([1]))
    mask = w.op("Less", column, w.cast(lengths, INT64), dtype=BOOL)
    result = w.op("Unsqueeze", w.cast(mask, b.x(0).dtype), w.ints([2]))
    result.shape = ir.Shape([None, None, 1])
    return result


def pick(w: Writer, value: ir.Value, place: int, axis: int) -> ir.Value:
    """Return one direction of a value."""
    if value.shape is not None and value.shape[axis] == 1:
        picked = w.op("Squeeze", value, w.ints([axis]))
    else:
        picked = w.op("Gather", value, w.integer(place), attributes={"axis": axis})
    if value.shape is not None:
        picked.shape = ir.Shape([*value.shape[:axis], *value.shape[axis + 1 :]])
    return picked


def _stacked(w: Writer, parts: Sequence[ir.Value]) -> ir.Value:
    lifted = [w.op("Unsqueeze", part, w.ints([0])) for part in parts]
    return lifted[0] if len(lifted) == 1 else w.op("Concat", *lifted, attributes={"axis": 0})
