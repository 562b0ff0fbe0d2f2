"""What the rules of dynamic quantization share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.match import (
    Array,
    add_constant,
    constant_node,
    ints_attribute,
    made_by,
    tensor_of,
)
from onnxsmith.passes.quantization.dynamic.tied import ProductWeight, find_tied
from onnxsmith.passes.quantization.integer_weight import (
    FULL_RANGE,
    REDUCED_RANGE,
    round_to_int8,
)
from onnxsmith.storage.tensors import read_array

_BACKWARDS = [1, 0]


@dataclass(frozen=True)
class Weight:
    """A constant float32 operand.

    Attributes:
        array: Its numbers, as they lie.
        transposed: Whether the node reads the transpose of the array.
        source: The constant.
    """

    array: Array
    transposed: bool
    source: ir.Value

    @property
    def name(self) -> str:
        """What to call what is made of it."""
        return self.source.name or "weight"


class LeaveFloat(Exception):  # noqa: N818 - it is no error, it ends a rule
    """A node stays in float, for the reason given. Raised before anything is changed."""


@dataclass
class Writer:
    """Writes quantized nodes into a graph or a function.

    Attributes:
        root: The main graph or the function that the nodes are in, or their subgraphs.
        per_channel: Whether each output channel has a scale of its own.
        reduce_range: Whether weights keep to 7 bits.
        products: The matrices that products have stored in int8.
    """

    root: ir.Graph | ir.Function
    per_channel: bool = True
    reduce_range: bool = False
    products: list[ProductWeight] = field(default_factory=list)
    _activations: dict[ir.Value, list[ir.Value]] = field(default_factory=dict)
    _weights: dict[tuple[object, ...], tuple[ir.Value, Array]] = field(default_factory=dict)

    def activation(self, value: ir.Value, node: ir.Node) -> list[ir.Value]:
        """Return a value as uint8, its scale and its zero point; all who read it share them.

        Args:
            value: float32.
            node: Who reads it.
        """
        if value in self._activations:
            return self._activations[value]
        quantize = ir.node("DynamicQuantizeLinear", [value], num_outputs=3)
        name, kinds = value.name, (ir.DataType.UINT8, ir.DataType.FLOAT, ir.DataType.UINT8)
        for output, word, kind in zip(
            quantize.outputs, ("quantized", "scale", "zero"), kinds, strict=True
        ):
            output.name = f"{name}_{word}"
            output.type = ir.TensorType(kind)
            output.shape = value.shape if word == "quantized" else ir.Shape([])
        producer = value.producer()
        if producer is not None and producer.graph is not None:
            producer.graph.insert_after(producer, quantize)
        else:
            graph = value.graph or node.graph
            assert graph is not None  # the node is in a graph
            graph.insert_before(graph[0], quantize)
        self._activations[value] = list(quantize.outputs)
        return self._activations[value]

    def weight(self, weight: Weight, over: int) -> tuple[ir.Value, Array]:
        """Return a weight as int8, as the node reads it, and its scale.

        Args:
            weight: What to round.
            over: The axis of the array, as it lies, along which numbers share a scale.

        Returns:
            The new constant, shared by all who read the weight so, and its scale: one number, or
            of the array's shape with 1 along ``over``.
        """
        key = (weight.source, weight.transposed, over)
        if key not in self._weights:
            rounded, scale = self.round(weight.array, [over])
            if weight.transposed:
                rounded = np.ascontiguousarray(rounded.T)
            value = self.constant(rounded, f"{weight.name}_quantized")
            self._weights[key] = value, scale
        return self._weights[key]

    def product_weight(self, weight: Weight, over: int) -> tuple[ir.Value, Array]:
        """Return the weight of a product as :meth:`weight` does; a table may be tied to it."""
        value, scale = self.weight(weight, over)
        if weight.array.ndim == 2 and all(known.value is not value for known in self.products):
            known = ProductWeight(weight.source, weight.transposed, value, 1, scale.squeeze())
            self.products.append(known)
        return value, scale

    def tied_rows(self, table: Weight) -> tuple[ir.Value, Array] | None:
        """Return a table as a product has stored it, so that both read one constant.

        Where the product reads the transpose, the constant is stored as the table lies, and the
        runtime transposes it once, on loading: taking columns would be slow.

        Args:
            table: float32, of shape (rows, columns), not transposed.

        Returns:
            The int8 table and its scale, one number or one for each row; None where it is not tied.
        """
        found = find_tied(table.source, self.products)
        if found is None:
            return None
        if found.axis == 0:
            return found.value, found.scale
        stored = tensor_of(found.value)
        assert stored is not None  # it was written so
        rows = self.constant(np.ascontiguousarray(stored.numpy().T), f"{table.name}_rows")
        turn = ir.node("Transpose", [rows], {"perm": _BACKWARDS})
        turned = turn.outputs[0]
        turned.name, turned.type = f"{table.name}_turned", found.value.type
        turned.shape = found.value.shape
        made = rows.producer()
        if made is None:
            self.root.insert_before(self.root[0], turn)
        else:
            self.root.insert_after(made, turn)
        found.value.replace_all_uses_with(turned)
        for key, (value, scale) in self._weights.items():
            if value is found.value:
                self._weights[key] = turned, scale
        self.products.remove(found)
        self.products.append(ProductWeight(table.source, False, rows, 0, found.scale))
        return rows, found.scale

    def round(self, array: Array, over: Sequence[int]) -> tuple[Array, Array]:
        """Return an array as int8, and its scale: one number, or with 1 along ``over``."""
        limit = REDUCED_RANGE if self.reduce_range else FULL_RANGE
        axes = over if self.per_channel else range(array.ndim)
        rounded, scale = round_to_int8(array, axes, limit)
        return rounded, scale if self.per_channel else scale.reshape([])

    def constant(self, array: Array, name: str) -> ir.Value:
        """Return a new constant: an initializer, or in functions, which have none, a node."""
        if isinstance(self.root, ir.Graph):
            return add_constant(self.root, array, name)
        node = constant_node(array, name)
        self.root.insert_before(self.root[0], node)
        return node.outputs[0]


def weight_of(value: ir.Value | None) -> Weight:
    """Return a value as a weight.

    Raises:
        LeaveFloat: It is none, or not of float32.
    """
    source, transposed = value, False
    turn = made_by(value, "Transpose")
    if turn is not None and ints_attribute(turn, "perm") in (None, _BACKWARDS):
        source, transposed = turn.inputs[0], True
    tensor = tensor_of(source)
    if tensor is None or source is None:
        raise LeaveFloat("its weights are computed")
    if tensor.dtype != ir.DataType.FLOAT:
        raise LeaveFloat(f"its weights are {tensor.dtype.name.lower()}, not float32")
    if transposed and len(tensor.shape) != 2:
        raise LeaveFloat("its weights are computed")
    array = read_array(tensor)
    if not array.size:
        raise LeaveFloat("its weights are empty")
    if not np.isfinite(array.min()) or not np.isfinite(array.max()):
        raise LeaveFloat("its weights hold NaN or infinity")
    return Weight(array, transposed, source)


def activation_of(node: ir.Node, index: int = 0) -> ir.Value:
    """Return the operand that is quantized as it comes.

    Raises:
        LeaveFloat: It is constant, or known to be of another type than float32.
    """
    value = node.inputs[index]
    if value is None or tensor_of(value) is not None:
        raise LeaveFloat("its input is constant")
    if value.dtype not in (None, ir.DataType.FLOAT):
        raise LeaveFloat(f"its input is {value.dtype.name.lower()}, not float32")
    return value
