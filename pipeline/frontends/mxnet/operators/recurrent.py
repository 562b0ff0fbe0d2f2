"""Recurrent layers in one operator.

MXNet keeps all weights in one vector: for each layer and direction the input's matrix and the
state's, then for each the two biases. ONNX orders the gates otherwise::

    LSTM  MXNet i f g o -> ONNX i o f g        GRU  MXNet r z n -> ONNX z r n

Source: MXNet ``src/operator/rnn_impl.h``; verified on stored outputs of MXNet 1.9.1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from onnxsmith.pipeline.frontends.mxnet.call import Call, Family, Operator, SizesNeededError
from onnxsmith.pipeline.frontends.mxnet.graph import AttributeValue
from onnxsmith.pipeline.frontends.mxnet.params import StoredArray
from onnxsmith.pipeline.frontends.mxnet.weights import lazy

_GATES = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "rnn_tanh": (0,), "rnn_relu": (0,)}
_OPERATORS = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "RNN", "rnn_relu": "RNN"}


@dataclass(frozen=True)
class _Layout:
    """How the vector of weights is cut up.

    Attributes:
        mode: The kind of cell.
        layers: Number of layers.
        directions: 1, or 2 for both.
        state: Size of a state.
        width: Size of the input.
    """

    mode: str
    layers: int
    directions: int
    state: int
    width: int

    @property
    def rows(self) -> int:
        """Rows of a weight matrix: all gates."""
        return len(_GATES[self.mode]) * self.state

    def layer_width(self, layer: int) -> int:
        """Return the size of a layer's input."""
        return self.width if layer == 0 else self.directions * self.state

    def matrices(self, layer: int, direction: int) -> int:
        """Return where the matrices of a layer and direction start."""
        before = [
            self.rows * (self.layer_width(n) + self.state)
            for n in range(layer)
            for _ in range(self.directions)
        ]
        here = direction * self.rows * (self.layer_width(layer) + self.state)
        return sum(before) + here

    def biases(self, layer: int, direction: int) -> int:
        """Return where the biases of a layer and direction start."""
        place = layer * self.directions + direction
        return self.matrices(self.layers, 0) + place * 2 * self.rows

    @property
    def size(self) -> int:
        """Length of the whole vector."""
        return self.biases(self.layers, 0)


def rnn(call: Call) -> list[ir.Value]:
    """All layers, one ONNX operator each; data is (time, batch, width)."""
    _refuse_unsupported(call)
    pieces = call.flat(1)
    layout = _layout(call, sum(piece.size for piece in pieces))
    lengths = _lengths(call, layout)
    hidden = _states(call, layout, 2)
    cells = _states(call, layout, 3) if layout.mode == "lstm" else [None] * layout.layers
    x = call[0]
    last: tuple[list[ir.Value], list[ir.Value]] = ([], [])
    for layer in range(layout.layers):
        weights = [
            _weight(call, pieces, layout, layer, part) for part in ("input", "state", "bias")
        ]
        inputs = [x, *weights, lengths, hidden[layer], cells[layer]]
        if layout.mode != "lstm":
            inputs.pop()
        outputs = call.graph.add_many(
            _OPERATORS[layout.mode], inputs, _attributes(layout), 3 if layout.mode == "lstm" else 2
        )
        x = _joined(call, outputs[0], layout)
        for found, value in zip(last, outputs[1:], strict=False):
            found.append(value)
    results = [x]
    for number, states in enumerate(last[: 2 if layout.mode == "lstm" else 1], start=1):
        if number in call.outputs:
            many = len(states) > 1
            results.append(call.graph.add("Concat", states, {"axis": 0}) if many else states[0])
    return results


def _refuse_unsupported(call: Call) -> None:
    if call.attrs.has("projection_size"):
        raise call.refuse("an LSTM with a projection")
    if call.attrs.has("lstm_state_clip_min") or call.attrs.has("lstm_state_clip_max"):
        raise call.refuse("an LSTM that clips its state")


def _layout(call: Call, size: int) -> _Layout:
    """Read the layout, and work out the input's width from the weights.

    Raises:
        SmithError: The vector of weights has another length.
    """
    mode = call.attrs.text("mode", "", tuple(_GATES))
    layers = call.attrs.bounded("num_layers", 1, 1, 1024)
    both = 2 if call.attrs.flag("bidirectional", False) else 1
    empty = _Layout(mode, layers, both, call.attrs.bounded("state_size", 0, 1, 2**24), 0)
    width, rest = divmod(size - empty.size, both * empty.rows)
    if width < 1 or rest:
        raise call.error(
            f"its {size} weights do not make {layers} layers of {empty.state} states",
            "give the .params file that belongs to this graph with --weights",
        )
    if call.rank() != 3:
        raise SizesNeededError(
            f"{call.node} takes (time, batch, width), but its input has {call.rank()} dimensions",
            "check the sizes in --input",
        )
    have = call.dims()[2]
    if isinstance(have, int) and have != width:
        raise SizesNeededError(
            f"{call.node} takes a width of {width}, but gets {have}", "check the sizes in --input"
        )
    return replace(empty, width=width)


def _attributes(layout: _Layout) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {"hidden_size": layout.state}
    if layout.directions == 2:
        attributes["direction"] = "bidirectional"
    if layout.mode == "gru":
        attributes["linear_before_reset"] = 1
    if layout.mode == "rnn_relu":
        attributes["activations"] = ["Relu"] * layout.directions
    return attributes


def _weight(
    call: Call, pieces: Sequence[StoredArray], layout: _Layout, layer: int, part: str
) -> ir.Value:
    """Return W (directions, rows, width), R (directions, rows, state) or B (directions, 2 rows)."""
    width, state, rows = layout.layer_width(layer), layout.state, layout.rows

    def make() -> np.ndarray:
        blocks = []
        for direction in range(layout.directions):
            start = layout.matrices(layer, direction)
            if part == "input":
                block = _cut(pieces, start, rows * width).reshape(1, -1, state, width)
            elif part == "state":
                block = _cut(pieces, start + rows * width, rows * state)
                block = block.reshape(1, -1, state, state)
            else:
                block = _cut(pieces, layout.biases(layer, direction), 2 * rows)
                block = block.reshape(2, -1, state, 1)
            blocks.append(block[:, list(_GATES[layout.mode])].reshape(block.shape[0] * rows, -1))
        stacked = np.stack(blocks)
        return stacked[..., 0] if part == "bias" else stacked

    tail = {"input": (rows, width), "state": (rows, state), "bias": (2 * rows,)}[part]
    name = f"{call.node.name}_layer{layer}_{part}"
    return lazy(call.graph, make, pieces[0].dtype, (layout.directions, *tail), name)


def _cut(pieces: Sequence[StoredArray], start: int, count: int) -> np.ndarray:
    """Read ``count`` elements from ``start`` on of the joined pieces."""
    found: list[np.ndarray] = []
    at = 0
    for piece in pieces:
        first, last = max(start - at, 0), min(start + count - at, piece.size)
        if first < last:
            found.append(_elements(piece, first, last))
        at += piece.size
    return np.concatenate(found) if len(found) != 1 else found[0]


def _elements(piece: StoredArray, first: int, last: int) -> np.ndarray:
    if piece.indices:
        return piece.numpy().reshape(-1)[first:last]
    values = piece.values
    offset = first * (values.dtype.bitwidth // 8)
    return replace(values, start=values.start + offset, shape=(last - first,)).numpy()


def _lengths(call: Call, layout: _Layout) -> ir.Value | None:
    if not call.attrs.flag("use_sequence_length", False):
        return None
    number = 4 if layout.mode == "lstm" else 3
    return call.graph.cast(call[number], ir.DataType.INT32)


def _states(call: Call, layout: _Layout, number: int) -> list[ir.Value | None]:
    """Return the initial state of each layer (directions, batch, state); None stands for zeros."""
    graph = call.graph
    value = call.inputs[number] if number < len(call.inputs) else None
    if value is None or value in graph.zeros:
        return [None] * layout.layers
    if value in graph.loose:
        count = layout.layers * layout.directions
        shape = graph.shape([count, (call[0], 1), layout.state])
        value = graph.add("Expand", [value, shape])
    return list(graph.split(value, 0, [layout.directions] * layout.layers))


def _joined(call: Call, y: ir.Value, layout: _Layout) -> ir.Value:
    """Turn ONNX's (time, directions, batch, state) into (time, batch, directions * state)."""
    if layout.directions == 1:
        return call.graph.squeeze(y, [1])
    moved = call.graph.transpose(y, [0, 2, 1, 3])
    return call.graph.reshape(moved, [0, 0, math.prod((layout.directions, layout.state))])


_RNN = Operator(
    rnn,
    ("data", "parameters", "state", "state_cell"),
    unused=frozenset({1}),
    outputs=("output", "state_output", "statecell_output"),
)

OPERATORS: Family = {"RNN": _RNN, "_npx_rnn": _RNN}
