"""Layers one behind the other, and the scales that can be moved between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.fusion.linear import KINDS, Linear, read_linear
from onnxsmith.passes.match import (
    STANDARD,
    Array,
    add_constant,
    array_of,
    int_attribute,
    ints_attribute,
    is_op,
    only_user,
    tensor_of,
)

HOMOGENEOUS = (
    "AveragePool", "Dropout", "GlobalAveragePool", "GlobalMaxPool", "Identity", "LeakyRelu",
    "MaxPool", "PRelu", "Relu",
)  # fmt: skip
"""Operators of one value with ``f(s x) = s f(x)`` for each channel's ``s > 0``."""

_TYPES = (ir.DataType.FLOAT, ir.DataType.DOUBLE)
_CONVOLUTIONS = ("Conv", "ConvTranspose")
_MOST_BIASES = 1 << 20


class Layer:
    """A linear operator whose channels are being scaled; the graph changes with :meth:`write`.

    Weights are looked at as ``[groups, outputs / groups, inputs / groups, kernel]``. The factors
    are gathered in float64 and the weights rounded once.
    """

    def __init__(self, linear: Linear, addition: ir.Node | None = None) -> None:
        self.node, self._weight = linear.node, linear.weight
        self._addition = addition
        self._old_bias = self.bias = (
            linear.bias if addition is None else _added(addition, linear.channels)
        )
        groups = int_attribute(self.node, "group", 1) or 1
        self._groups = groups if self.node.op_type in _CONVOLUTIONS else 1
        weights = self._canonical(self._weight.numpy())
        self._peaks = np.abs(weights).max(axis=3).astype(np.float64)
        self._outputs = np.ones(weights.shape[:2])
        self._inputs = np.ones((weights.shape[0], weights.shape[2]))
        self.changed = False

    @property
    def convolves(self) -> bool:
        """Whether the channels are the second axis, not the last one."""
        return self.node.op_type in _CONVOLUTIONS

    @property
    def takes_constants(self) -> bool:
        """Whether a number added to an input channel adds one to each output channel."""
        if self.node.op_type == "Gemm":
            return True
        auto = self.node.attributes.get("auto_pad")
        unpadded = auto is None or (not auto.is_ref() and auto.as_string() in ("NOTSET", "VALID"))
        pads = ints_attribute(self.node, "pads") or []
        return self.node.op_type == "Conv" and unpadded and not any(pads)

    def output_ranges(self) -> Array:
        """Return the largest weight of each output channel."""
        peaks: Array = (self._peaks * self._inputs[:, None, :]).max(axis=2) * self._outputs
        return peaks.reshape(-1)

    def input_ranges(self) -> Array:
        """Return the largest weight of each input channel."""
        peaks: Array = (self._peaks * self._outputs[:, :, None]).max(axis=1) * self._inputs
        return peaks.reshape(-1)

    def scale_outputs(self, factors: Array) -> None:
        """Multiply each output channel, bias included."""
        self._outputs *= factors.reshape(self._outputs.shape)
        self.bias = None if self.bias is None else self.bias * factors
        self.changed = True

    def scale_inputs(self, factors: Array) -> None:
        """Multiply what each input channel is weighted with."""
        self._inputs *= factors.reshape(self._inputs.shape)
        self.changed = True

    def add_bias(self, shift: Array) -> None:
        """Add a number to each output channel."""
        self.bias = shift if self.bias is None else self.bias + shift
        self.changed = True

    def response(self, channels: Array) -> Array:
        """Return the output channels for inputs that are the same everywhere, bias left out."""
        weights = self._canonical(self._weight.numpy()).astype(np.float64).sum(axis=3)
        weights *= self._outputs[:, :, None] * self._inputs[:, None, :]
        alpha = self.node.attributes.get("alpha") if self.node.op_type == "Gemm" else None
        shares: Array = np.einsum("goi,gi->go", weights, channels.reshape(self._inputs.shape))
        shares = shares * (1.0 if alpha is None else alpha.as_float())
        return shares.reshape(-1)

    def write(self, graph: ir.Graph) -> None:
        """Give the node its new weights and bias."""
        dtype = self._weight.dtype.numpy()
        factors = self._outputs[:, :, None, None] * self._inputs[:, None, :, None]
        scaled = self._canonical(self._weight.numpy()) * factors
        _set(graph, self.node, 1, self._restored(scaled).astype(dtype), "weight")
        if self.bias is None or self.bias is self._old_bias:
            return
        bias = self.bias.astype(dtype)
        if self._addition is not None:
            index = 0 if tensor_of(self._addition.inputs[0]) is not None else 1
            _set(graph, self._addition, index, bias, "bias")
            return
        self.node.attributes.pop("beta", None)  # the bias was read with it
        _set(graph, self.node, 2, bias, "bias")

    def _canonical(self, weights: Array) -> Array:
        groups, kind = self._groups, self.node.op_type
        if kind == "Conv":
            return weights.reshape(groups, weights.shape[0] // groups, weights.shape[1], -1)
        if kind == "ConvTranspose":
            inputs = weights.shape[0] // groups
            return weights.reshape(groups, inputs, weights.shape[1], -1).transpose(0, 2, 1, 3)
        return (weights if self._transposed else weights.T)[None, :, :, None]

    def _restored(self, weights: Array) -> Array:
        kind = self.node.op_type
        if kind == "ConvTranspose":
            weights = weights.transpose(0, 2, 1, 3)
        if kind in _CONVOLUTIONS:
            return np.ascontiguousarray(weights).reshape(self._weight.shape.numpy())
        flat = weights[0, :, :, 0]
        return np.ascontiguousarray(flat if self._transposed else flat.T)

    @property
    def _transposed(self) -> bool:
        return self.node.op_type == "Gemm" and bool(int_attribute(self.node, "transB", 0))


@dataclass(frozen=True)
class Pair:
    """Two layers with channels of their own between them.

    Attributes:
        first: Makes the channels.
        second: Alone reads them.
        direct: Whether nothing at all lies between.
    """

    first: Layer
    second: Layer
    direct: bool


def find_pairs(graph: ir.Graph) -> tuple[list[Pair], list[str]]:
    """Return the pairs in order, and for what reasons layers have no partner before them."""
    layers: dict[ir.Node, Layer] = {}
    pairs, reasons = [], set()
    for node in graph:
        if not is_op(node, *KINDS):
            continue
        found = _before(node)
        if isinstance(found, str):
            reasons.add(found)
            continue
        linear, addition, direct = found
        second = _readable(node)
        if second is None or int_attribute(node, "transA", 0):
            reasons.add("weights are not constant")
            continue
        first = _shared(layers, linear, addition)
        behind = _shared(layers, second, addition_of(node))
        if first.convolves != behind.convolves:
            reasons.add("channels change their axis")
            continue
        pairs.append(Pair(first, behind, direct))
    return pairs, sorted(reasons)


def _shared(layers: dict[ir.Node, Layer], linear: Linear, addition: ir.Node | None) -> Layer:
    """Return the one layer of a node, which may be the second of one pair, the first of another."""
    if linear.node not in layers:
        layers[linear.node] = Layer(linear, addition)
    return layers[linear.node]


def _before(node: ir.Node) -> tuple[Linear, ir.Node | None, bool] | str:
    """Return the layer that makes a layer's input, its addition, and whether nothing is between."""
    value, direct = node.inputs[0], True
    while value is not None:
        producer = value.producer()
        if producer is None:
            return "input of the graph"
        if not _read_once(value) or producer.graph is not node.graph:
            return "others read the value between"
        if producer.domain in STANDARD and producer.op_type == "Add":
            behind = [v.producer() for v in producer.inputs if v is not None]
            product = next(
                (n for n in behind if n is not None and addition_of(n) is producer), None
            )
            linear = None if product is None else _readable(product)
            return "Add between" if linear is None else (linear, producer, direct)
        if is_op(producer, *KINDS):
            linear = _readable(producer)
            return "weights are not constant" if linear is None else (linear, None, direct)
        if not is_op(producer, *HOMOGENEOUS):
            return f"{producer.op_type} between"
        value, direct = producer.inputs[0], False
    return "no input"


def _readable(node: ir.Node) -> Linear | None:
    linear = read_linear(node)
    return None if linear is None or linear.weight.dtype not in _TYPES else linear


def addition_of(node: ir.Node) -> ir.Node | None:
    """Return the Add that gives a MatMul its bias."""
    if node.op_type != "MatMul":
        return None
    user = only_user(node.outputs[0], "Add")
    weight = tensor_of(node.inputs[1])
    if user is None or weight is None or len(weight.shape) != 2:
        return None
    for value in user.inputs:
        array = array_of(value, _MOST_BIASES)
        if array is not None and array.shape == (weight.shape[1],):
            return user
    return None


def _added(addition: ir.Node, channels: int) -> Array:
    arrays = [array_of(value, _MOST_BIASES) for value in addition.inputs]
    bias = next(array for array in arrays if array is not None)
    return np.broadcast_to(bias.astype(np.float64), (channels,)).copy()


def _read_once(value: ir.Value) -> bool:
    return len(value.uses()) == 1 and not value.is_graph_output()


def _set(graph: ir.Graph, node: ir.Node, index: int, array: Array, what: str) -> None:
    old = node.inputs[index] if index < len(node.inputs) else None
    name = f"{node.outputs[0].name}/{what}" if old is None or old.name is None else old.name
    new = add_constant(graph, array, f"{name}_equalized")
    if index >= len(node.inputs):
        node.resize_inputs(index + 1)
    node.replace_input_with(index, new)
    if old is not None and old.is_initializer() and not old.uses() and not old.is_graph_output():
        graph.initializers.pop(old.name or "", None)
