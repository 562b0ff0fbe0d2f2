"""Write rounded values, weights and biases into the graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.match import add_constant, add_tensor, input_of, tensor_of
from onnxsmith.passes.quantization.affine import Affine, Array, fit_range, fit_weight
from onnxsmith.passes.quantization.dynamic.tied import ProductWeight
from onnxsmith.passes.quantization.static.plan import Plan, is_constant
from onnxsmith.passes.quantization.static.scales import Style

# A bias has to fit int32 with room for the sum that it is added to.
_BIAS_LIMIT = 2**30


class Placer:
    """Puts pairs of QuantizeLinear and DequantizeLinear where values are rounded.

    Args:
        root: The main graph, which gets all constants.
        style: How weights become integers.

    Attributes:
        matrices: The weights that were stored in int8, for tables that are tied to them.
    """

    def __init__(self, root: ir.Graph, style: Style) -> None:
        self._root = root
        self._weights = _Weights(root, style)

    @property
    def matrices(self) -> list[ProductWeight]:
        """The matrices in int8."""
        return self._weights.matrices

    def place(self, plan: Plan, fitted: Mapping[ir.Value, Affine]) -> None:
        """Put pairs behind each rounded value of a plan, and round weights.

        A value that a node of the plan makes is read through its pair by everybody: the runtime
        takes the pair into the node. Of others only the nodes of the plan read the rounded one.

        Args:
            plan: What becomes integers; bodies come before the graphs around them.
            fitted: The scale and zero point of each rounded value.
        """
        values = plan.values()
        for node in plan.nodes:
            self._weights.round(node, plan, fitted)
        for value in values:
            self._place_pair(plan, value, fitted[value])

    def _place_pair(self, plan: Plan, value: ir.Value, affine: Affine) -> None:
        graph, name = plan.graph, f"{plan.prefix}{value.name or 'value'}"
        made = plan.maker(value) is not None
        readers = [
            use
            for use in value.uses()
            if made
            or (use.node in plan.nodes and use.idx in plan.nodes[use.node].activations(use.node))
        ]
        parameters = _parameters(self._root, affine, name)
        rounded = ir.node("QuantizeLinear", [value, *parameters], name=f"{name}_QuantizeLinear")
        back = ir.node(
            "DequantizeLinear", [rounded.outputs[0], *parameters], name=f"{name}_DequantizeLinear"
        )
        _describe(rounded.outputs[0], f"{name}_QuantizeLinear_Output", affine.dtype, value.shape)
        _describe(
            back.outputs[0], f"{name}_DequantizeLinear_Output", ir.DataType.FLOAT, value.shape
        )
        for use in readers:
            use.node.replace_input_with(use.idx, back.outputs[0])
        producer = value.producer()
        if producer is None or producer.graph is not graph:
            graph.insert_before(graph[0], [rounded, back])
        else:
            graph.insert_after(producer, [rounded, back])
        if made and value.is_graph_output():
            back.outputs[0].name, value.name = value.name, f"{name}_QuantizeLinear_Input"
            back.outputs[0].shape = value.shape
            for index, output in enumerate(graph.outputs):
                if output is value:
                    graph.outputs[index] = back.outputs[0]


def _describe(value: ir.Value, name: str, dtype: ir.DataType, shape: ir.Shape | None) -> None:
    value.name, value.type, value.shape = name, ir.TensorType(dtype), shape


def _parameters(graph: ir.Graph, affine: Affine, name: str) -> list[ir.Value]:
    scale = add_constant(graph, affine.scale, f"{name}_scale")
    zero = _tensor(affine.zero, affine.dtype)
    return [scale, add_tensor(graph, zero, f"{name}_zero_point")]


def _tensor(array: Array, dtype: ir.DataType) -> ir.TensorProtocol:
    return ir.Tensor(np.asarray(array).astype(dtype.numpy()), dtype=dtype)


# What makes a stored weight: the float one, its type, its axis and its scales.
_Key = tuple[ir.Value, ir.DataType, int | None, bytes]


class _Weights:
    """Rounds weights, biases and other constants, each once however many nodes read it.

    Args:
        graph: The main graph; edited.
        style: How weights become integers.
    """

    def __init__(self, graph: ir.Graph, style: Style) -> None:
        self._graph, self._style = graph, style
        self._stored: dict[_Key, list[ir.Value]] = {}
        self._readers: Counter[str] = Counter()
        self.matrices: list[ProductWeight] = []

    def round(self, node: ir.Node, plan: Plan, fitted: Mapping[ir.Value, Affine]) -> None:
        """Round what is constant among a node's inputs."""
        operator = plan.nodes[node]
        for index, value in list(plan.inputs(node)):
            if is_constant(value):
                self._round_operand(node, index, plan.prefix)
        if operator.weight is None:
            return
        channels = operator.axis(node)  # the node says so as long as its weight is a constant
        axis = channels if self._style.per_channel else None
        source = node.inputs[0]
        assert source is not None  # an operator with a weight multiplies it with something
        bias = input_of(node, operator.bias) if operator.bias is not None else None
        weight = node.inputs[operator.weight]
        assert weight is not None  # make_plan() looked
        affine = self._fit_weight(weight, axis)
        if bias is not None and self._style.round_bias:
            affine = self._widen(affine, bias, fitted[source])
            self._round_bias(node, operator.bias or 0, bias, fitted[source], affine, plan.prefix)
        quantized = self._replace(node, operator.weight, weight, affine, plan.prefix)
        self._note_matrix(weight, quantized, channels, affine)

    def _note_matrix(
        self, weight: ir.Value, quantized: ir.Value, axis: int | None, affine: Affine
    ) -> None:
        if (
            axis is None
            or weight.shape is None
            or len(weight.shape) != 2
            or affine.dtype != ir.DataType.INT8
        ):
            return
        if all(known.value is not quantized for known in self.matrices):
            self.matrices.append(ProductWeight(weight, False, quantized, axis, affine.scale))

    def _fit_weight(self, weight: ir.Value, axis: int | None) -> Affine:
        array = _array(weight)
        style = self._style
        return fit_weight(array, style.weights, axis, reduce_range=style.reduce_range)

    def _widen(self, weight: Affine, bias: ir.Value, x: Affine) -> Affine:
        """Make scales large enough for the bias, which is stored in int32 at ``s_x s_w``."""
        largest = np.abs(_array(bias).astype(np.float64))
        needed = largest / (float(x.scale) * _BIAS_LIMIT)
        if weight.axis is None:
            needed = needed.max(initial=0)
        scale = np.maximum(weight.scale, needed).astype(np.float32)
        return Affine(weight.dtype, scale, weight.zero, weight.axis)

    def _round_bias(
        self,
        node: ir.Node,
        index: int,
        bias: ir.Value,
        x: Affine,
        weight: Affine,
        prefix: str,
    ) -> None:
        scale = (x.scale * weight.scale).astype(np.float32)
        axis = None if scale.ndim == 0 else 0
        affine = Affine(ir.DataType.INT32, scale, np.zeros(scale.shape, np.int64), axis)
        self._replace(node, index, bias, affine, prefix)

    def _round_operand(self, node: ir.Node, index: int, prefix: str) -> None:
        """Round a constant that stands where an activation could."""
        value = node.inputs[index]
        assert value is not None  # it is one of the activations
        array, style = _array(value), self._style
        low, high = array.min(initial=0), array.max(initial=0)
        affine = fit_range(low, high, style.activations, style.symmetric)
        self._replace(node, index, value, affine, prefix)

    def _replace(
        self, node: ir.Node, index: int, value: ir.Value, affine: Affine, prefix: str
    ) -> ir.Value:
        """Let a node read a constant rounded; return the integers."""
        name = value.name or "weight"
        key = (value, affine.dtype, affine.axis, affine.scale.tobytes())
        if key not in self._stored:
            stored = _tensor(affine.quantize(_array(value)), affine.dtype)
            parts = [add_tensor(self._graph, stored, f"{name}_quantized")]
            self._stored[key] = parts + _parameters(self._graph, affine, name)
        attributes = {} if affine.axis is None else {"axis": affine.axis}
        name = f"{prefix}{name}"
        self._readers[name] += 1
        if self._readers[name] > 1:  # a pair of its own for each reader, as the runtime wants it
            name = f"{name}_{self._readers[name]}"
        back = ir.node("DequantizeLinear", self._stored[key], attributes, name=f"{name}_dequantize")
        _describe(back.outputs[0], f"{name}_dequantized", ir.DataType.FLOAT, value.shape)
        graph = node.graph
        assert graph is not None  # plans are of nodes of graphs
        graph.insert_before(node, back)
        node.replace_input_with(index, back.outputs[0])
        return self._stored[key][0]


def _array(value: ir.Value) -> Array:
    tensor = tensor_of(value)
    assert tensor is not None  # only constants come here
    return tensor.numpy()
