"""GRU and RNN layers as a Scan whose products are quantized."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.match import Array, input_of, int_attribute, tensor_of
from onnxsmith.passes.quantization.dynamic.products import matmul
from onnxsmith.passes.quantization.dynamic.writer import (
    LeaveFloat,
    Writer,
    activation_of,
    weight_of,
)
from onnxsmith.storage.tensors import read_array

LEAST_HIDDEN = {"GRU": 512, "RNN": 256}
"""Below these sizes of the state the turns of a Scan cost more than int8 products save: on 2 cores
with AVX512-VNNI, a GRU took 1.0 to 0.61 of the time at 512 and 1.16 times as long at 384."""

_Attributes = dict[str, int | Sequence[int] | ir.Graph]

_FLOAT = ir.TensorType(ir.DataType.FLOAT)
_ACTIVATIONS = {"GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
_UNHANDLED = ("clip", "activation_alpha", "activation_beta")
_BACKWARDS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


@dataclass
class _Nodes:
    """Makes nodes whose results are float32 and have names of their own."""

    prefix: str
    made: list[ir.Node] = field(default_factory=list)

    def make(self, op: str, *inputs: ir.Value, attributes: _Attributes | None = None) -> ir.Value:
        """Make a node of one result and return it."""
        return self.split(op, inputs, 1, attributes)[0]

    def split(
        self,
        op: str,
        inputs: tuple[ir.Value, ...],
        count: int,
        attributes: _Attributes | None = None,
    ) -> list[ir.Value]:
        """Make a node of several results and return them."""
        node = ir.node(op, list(inputs), attributes or {}, num_outputs=count)
        for index, value in enumerate(node.outputs):
            value.name = f"{self.prefix}_{len(self.made)}_{index}"
            value.type = _FLOAT
        self.made.append(node)
        return list(node.outputs)


@dataclass(frozen=True)
class _Layer:
    """One direction of a layer, its gates in ONNX's order.

    Attributes:
        writer: Makes constants.
        prefix: What the names of new values begin with.
        weight: Of the input, (gates * hidden, input).
        recurrence: Of the state, (gates * hidden, hidden).
        bias: For the input's product, (gates * hidden).
        state_bias: For the state's product.
    """

    writer: Writer
    prefix: str
    weight: Array
    recurrence: Array
    bias: Array
    state_bias: Array

    @property
    def hidden(self) -> int:
        """The size of the state."""
        return int(self.recurrence.shape[1])

    def constant(self, array: Array, word: str) -> ir.Value:
        """Return a new constant."""
        return self.writer.constant(array, f"{self.prefix}_{word}")


# Given what makes nodes, the layer, the state and the input's product, returns the next state.
_Turn = Callable[[_Nodes, _Layer, ir.Value, ir.Value], ir.Value]


def gru(writer: Writer, node: ir.Node) -> None:
    """Quantize a GRU: one product for the inputs of all turns, and one with the state in each.

    ``z, r = sigmoid(x W_zr + h R_zr + b)``, ``n = tanh(x W_n + b_n + r (h R_n + c))`` and
    ``h <- n + z (h - n)`` in a Scan: the runtime has no GRU of int8.

    Raises:
        LeaveFloat: It cannot be, or would be slower.
    """
    if int_attribute(node, "linear_before_reset", 0) != 1:
        raise LeaveFloat("its reset gate comes before the product")
    _write(writer, node, _gru_turn)


def rnn(writer: Writer, node: ir.Node) -> None:
    """Quantize an RNN: ``h <- tanh(x W + h R + b)`` in a Scan.

    Raises:
        LeaveFloat: It cannot be, or would be slower.
    """
    _write(writer, node, _rnn_turn)


def _gru_turn(nodes: _Nodes, layer: _Layer, state: ir.Value, given: ir.Value) -> ir.Value:
    sizes = layer.constant(np.array([2 * layer.hidden, layer.hidden], np.int64), "gates")
    halves = layer.constant(np.array([layer.hidden] * 2, np.int64), "halves")
    last: _Attributes = {"axis": -1}
    kept = nodes.make(
        "Add", _recurrence(nodes, layer, state), layer.constant(layer.state_bias, "c")
    )
    given_gates, given_new = nodes.split("Split", (given, sizes), 2, last)
    kept_gates, kept_new = nodes.split("Split", (kept, sizes), 2, last)
    gates = nodes.make("Sigmoid", nodes.make("Add", given_gates, kept_gates))
    update, reset = nodes.split("Split", (gates, halves), 2, last)
    new = nodes.make("Tanh", nodes.make("Add", given_new, nodes.make("Mul", reset, kept_new)))
    return nodes.make("Add", new, nodes.make("Mul", update, nodes.make("Sub", state, new)))


def _rnn_turn(nodes: _Nodes, layer: _Layer, state: ir.Value, given: ir.Value) -> ir.Value:
    kept = nodes.make(
        "Add", _recurrence(nodes, layer, state), layer.constant(layer.state_bias, "c")
    )
    return nodes.make("Tanh", nodes.make("Add", given, kept))


def _recurrence(nodes: _Nodes, layer: _Layer, state: ir.Value) -> ir.Value:
    return nodes.make("MatMul", state, layer.constant(layer.recurrence.T, "r"))


def _write(writer: Writer, node: ir.Node, turn: _Turn) -> None:
    layers = _layers(writer, node)
    backwards = _BACKWARDS[_direction(node)]
    prefix = next(v.name for v in node.outputs if v.name) or "recurrent"
    around = _Nodes(f"{prefix}_around")
    sequence = activation_of(node)
    ends: list[tuple[ir.Value, ir.Value]] = []
    for index, (layer, turned) in enumerate(zip(layers, backwards, strict=True)):
        start = _start(writer, around, node, index, layer.hidden)
        given = around.make(
            "Add",
            around.make("MatMul", sequence, layer.constant(layer.weight.T, "w")),
            layer.constant(layer.bias, "b"),
        )
        flags: _Attributes = (
            {"scan_input_directions": [1], "scan_output_directions": [1]} if turned else {}
        )
        attributes: _Attributes = {"num_scan_inputs": 1, "body": _body(layer, turn), **flags}
        end, states = around.split("Scan", (start, given), 2, attributes)
        ends.append((states, end))
    graph = node.graph
    assert graph is not None  # rules see nodes of graphs
    graph.insert_before(node, around.made)
    _finish(writer, node, ends, prefix)
    for made in around.made:
        for part in (made, *(n for a in made.attributes.values() for n in _inner(a))):
            if part.op_type == "MatMul":
                matmul(writer, part)


def _inner(attribute: ir.Attr) -> list[ir.Node]:
    return list(attribute.as_graph()) if attribute.type == ir.AttributeType.GRAPH else []


def _body(layer: _Layer, turn: _Turn) -> ir.Graph:
    width = layer.weight.shape[0]
    state, given = (
        ir.Value(name=f"{layer.prefix}_{word}", type=_FLOAT, shape=ir.Shape([None, size]))
        for word, size in (("state", layer.hidden), ("given", width))
    )
    nodes = _Nodes(f"{layer.prefix}_turn")
    result = turn(nodes, layer, state, given)
    shown = nodes.make("Identity", result)  # a value is no output of a body twice
    for value in (result, shown):
        value.shape = state.shape
    return ir.Graph([state, given], [result, shown], nodes=nodes.made, name=f"{layer.prefix}_body")


def _start(writer: Writer, around: _Nodes, node: ir.Node, index: int, hidden: int) -> ir.Value:
    """Return the first state of a direction, (batch, hidden)."""
    given = input_of(node, 5)
    if given is not None:
        place = writer.constant(np.array(index, np.int64), "direction")
        return around.make("Gather", given, place, attributes={"axis": 0})
    sequence = activation_of(node)
    shape = around.make("Shape", sequence)
    one = writer.constant(np.array([1], np.int64), "batch_axis")
    batch = around.make("Gather", shape, one, attributes={"axis": 0})
    size = writer.constant(np.array([hidden], np.int64), "hidden_size")
    sizes = around.make("Concat", batch, size, attributes={"axis": 0})
    for value in (shape, batch, sizes):
        value.type = ir.TensorType(ir.DataType.INT64)
    return around.make("ConstantOfShape", sizes)


def _finish(
    writer: Writer, node: ir.Node, ends: list[tuple[ir.Value, ir.Value]], prefix: str
) -> None:
    """Put what the Scans give in the place of a layer's results, which count directions."""
    graph = node.graph
    assert graph is not None  # rules see nodes of graphs
    for index, (old, axis) in enumerate(zip(node.outputs, (1, 0), strict=False)):
        if not old.name or not (old.uses() or old.is_graph_output()):
            continue
        after = _Nodes(f"{prefix}_result{index}")
        axes = writer.constant(np.array([axis], np.int64), "directions_axis")
        parts = [after.make("Unsqueeze", end[index], axes) for end in ends]
        result = (
            parts[0] if len(parts) == 1 else after.make("Concat", *parts, attributes={"axis": axis})
        )
        result.name, result.type, result.shape = old.name, old.type, old.shape
        old.name = None
        graph.insert_before(node, after.made)
        old.replace_all_uses_with(result, replace_graph_outputs=True)
    graph.remove(node, safe=True)


def _direction(node: ir.Node) -> str:
    found = node.attributes.get("direction")
    return "forward" if found is None else found.as_string()


def _layers(writer: Writer, node: ir.Node) -> list[_Layer]:
    """Return the directions of a layer.

    Raises:
        LeaveFloat: It cannot be written as a Scan, or that would be slower.
    """
    if any(attribute.is_ref() for attribute in node.attributes.values()):
        raise LeaveFloat("its attributes are parameters of a function")
    weight, recurrence = (weight_of(input_of(node, index)) for index in (1, 2))
    activation_of(node)
    directions, width, hidden = recurrence.array.shape
    least = LEAST_HIDDEN[node.op_type]
    if hidden < least:
        raise LeaveFloat(f"int8 is no faster where its state is smaller than {least}")
    if int_attribute(node, "layout", 0) != 0:
        raise LeaveFloat("its batch comes first")
    if input_of(node, 4) is not None:
        raise LeaveFloat("its sequences have lengths of their own")
    expected = _ACTIVATIONS[node.op_type] * directions
    chosen = node.attributes.get("activations")
    if chosen is not None and list(chosen.as_strings()) != expected:
        raise LeaveFloat("it has activations of its own")
    if any(name in node.attributes for name in _UNHANDLED):
        raise LeaveFloat("it has settings that few layers have")
    biases = _biases(input_of(node, 3), directions, width)
    name = next((v.name for v in node.outputs if v.name), "recurrent")
    return [
        _Layer(
            writer,
            f"{name}_direction{index}",
            weight.array[index],
            recurrence.array[index],
            biases[index, :width],
            biases[index, width:],
        )
        for index in range(directions)
    ]


def _biases(value: ir.Value | None, directions: int, width: int) -> Array:
    if value is None:
        return np.zeros((directions, 2 * width), np.float32)
    tensor = tensor_of(value)
    if tensor is None:
        raise LeaveFloat("its biases are computed")
    return read_array(tensor)
