"""Cosines and sines of a rotary position embedding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.fusion.attention_mask import MaskWriter, named_sizes
from onnxsmith.passes.fusion.contrib import rank
from onnxsmith.passes.match import add_constant, int_attribute, made_by, same_dim, tensor_of
from onnxsmith.passes.views import Size

_POINTWISE = ("Cast", "Cos", "Mul", "Sin")
_VIEWS = ("Identity", "Reshape", "Squeeze", "Unsqueeze")


@dataclass(frozen=True)
class Table:
    """Cosines or sines that are alike in both halves of the last dimension.

    Attributes:
        value: Of shape (length, size), (batch or 1, length, size) or (batch or 1, 1, length, size);
            or the rows (count, size) that positions choose from.
        positions: Of shape (batch, length); None where the value is as long as what is rotated.
    """

    value: ir.Value
    positions: ir.Value | None = None

    @property
    def is_single(self) -> bool:
        """Tell whether all items of the batch have the same rows."""
        shape = self.value.shape
        assert shape is not None  # find_table() asked for it
        return len(shape) == 2 or shape[0] == 1


def find_table(value: ir.Value | None, x: ir.Value) -> Table | None:
    """Return the table that a factor of x is, of shape (batch, heads, length, size)."""
    if value is None or value.shape is None or x.shape is None or value.dtype != x.dtype:
        return None
    dims = list(value.shape)
    if len(dims) not in (2, 4) or not same_dim(dims[-1], x.shape[-1]):
        return None
    if not same_dim(dims[-2], x.shape[-2]) or (len(dims) == 4 and dims[1] != 1):
        return None
    rows = _gathered(value, x)
    if rows is not None:
        return rows
    return Table(value) if _is_doubled(value) else None


def _gathered(value: ir.Value, x: ir.Value) -> Table | None:
    """Return the table of which a value holds the rows at some positions."""
    view = made_by(value, *_VIEWS)
    gather = made_by(None if view is None else view.inputs[0], "Gather")
    if gather is None or int_attribute(gather, "axis", 0) != 0:
        return None
    rows, positions = gather.inputs
    if rows is None or positions is None or rank(rows) != 2 or rank(positions) != 2:
        return None
    if positions.dtype != ir.DataType.INT64 or positions.shape is None or x.shape is None:
        return None
    wanted = (x.shape[0], x.shape[2])
    if not all(map(same_dim, positions.shape, wanted)) or tensor_of(rows) is None:
        return None
    return Table(rows, positions) if _is_doubled(rows) else None


def _is_doubled(value: ir.Value | None) -> bool:
    """Tell whether both halves of a value's last dimension are known to be alike."""
    tensor = tensor_of(value)
    if tensor is not None:
        first, second = np.split(tensor.numpy(), 2, axis=-1)
        return np.array_equal(first, second)
    node = made_by(value, *_POINTWISE, *_VIEWS, "Concat")
    if node is None or value is None or value.shape is None:
        return False
    if node.op_type == "Concat":
        last = int_attribute(node, "axis") in (-1, len(value.shape) - 1)
        return last and len(node.inputs) == 2 and node.inputs[0] is node.inputs[1]
    source = node.inputs[0]
    if node.op_type == "Mul":
        numbers = [v for v in node.inputs if (t := tensor_of(v)) is not None and t.size == 1]
        if len(numbers) != 1:
            return False
        source = next(v for v in node.inputs if v is not numbers[0])
    if source is None or source.shape is None or not source.shape:
        return False
    return same_dim(source.shape[-1], value.shape[-1]) and _is_doubled(source)


class RotaryTables:
    """Writes the tables and positions that a rotary embedding takes.

    The runtime's own operator takes tables of shape (count, size / 2), and either the first
    position or those of shape (batch, length); the standard one has no first position, but takes
    tables of shape (batch, length, size / 2) as well.

    Args:
        model: The model, whose inputs tell named sizes.
        standard: Whether the operator is that of the standard.
    """

    def __init__(self, model: ir.Model, *, standard: bool) -> None:
        """Keep them."""
        self.standard = standard
        self._sizes = named_sizes(model)
        self._halves: dict[tuple[ir.Graph, ir.Value], ir.Value] = {}

    def can_write(self, table: Table, x: ir.Value) -> bool:
        """Tell whether the operator takes such a table for x of shape (batch, heads, length, n)."""
        if table.positions is not None or table.is_single:
            return table.positions is not None or not self.standard or self._can_count(x)
        return self.standard

    def _can_count(self, x: ir.Value) -> bool:
        """Tell whether the positions from 0 on can be written for each item of the batch."""
        assert x.shape is not None  # find_table() asked for it
        batch, _, length, _ = x.shape
        known = isinstance(batch, int) or batch.value in self._sizes
        return isinstance(length, int) and known

    def write(self, before: ir.Node, x: ir.Value, cos: Table, sin: Table) -> list[ir.Value]:
        """Return the operator's inputs behind the first, written in front of a node."""
        tables = [self._half(before, table) for table in (cos, sin)]
        if not self.standard:
            return [self._positions(before, x, cos), *tables]
        if cos.positions is None and not cos.is_single:
            return tables
        return [*tables, self._positions(before, x, cos)]

    def _positions(self, before: ir.Node, x: ir.Value, table: Table) -> ir.Value:
        graph = before.graph
        assert graph is not None  # matchers only see nodes of graphs
        if table.positions is not None:
            return table.positions
        if not self.standard:
            return add_constant(graph, np.zeros(1, np.int64), "rotary_start")
        assert x.shape is not None  # find_table() asked for it
        batch, _, length, _ = x.shape
        assert isinstance(length, int)  # can_write() asked for it
        rows = add_constant(graph, np.arange(length)[None], "rotary_positions")
        writer = MaskWriter(before, rows, self._sizes)
        return writer.expand(rows, [batch, length])

    def _half(self, before: ir.Node, table: Table) -> ir.Value:
        """Return the first half of a table's last dimension, in front of a node."""
        graph, value = before.graph, table.value
        assert graph is not None  # matchers only see nodes of graphs
        assert value.shape is not None  # find_table() asked for it
        width = value.shape[-1]
        assert isinstance(width, int)  # it is as wide as x
        outer = [-1] if table.positions is not None or table.is_single else [0, -1]
        target = [*outer, width // 2]
        tensor = tensor_of(value)
        if tensor is None:
            return self._computed(before, value, target)
        key = (graph, value)
        if key not in self._halves:
            array = tensor.numpy()[..., : width // 2]
            array = array.reshape(-1, width // 2) if len(target) == 2 else array[:, 0]
            self._halves[key] = add_constant(graph, array, f"{value.name}_half")
        return self._halves[key]

    def _computed(self, before: ir.Node, value: ir.Value, target: list[int]) -> ir.Value:
        source = made_by(value, "Unsqueeze")
        inner = None if source is None else source.inputs[0]
        value = inner if inner is not None and rank(inner) == 3 else value
        assert value.shape is not None  # find_table() asked for it
        outer = list(value.shape)[:-1]
        ends = ((0, "first"), (target[-1], "last"), (-1, "axis"))
        places = [self._vector(before, [number], name) for number, name in ends]
        half = self._add(before, "Slice", [value, *places], [*outer, target[-1]])
        if len(outer) == len(target) - 1:
            return half
        shape = self._vector(before, target, "shape")
        kept = [outer[0], outer[-1]] if len(target) == 3 else [outer[-1]]
        return self._add(before, "Reshape", [half, shape], [*kept, target[-1]])

    def _vector(self, before: ir.Node, numbers: list[int], name: str) -> ir.Value:
        graph = before.graph
        assert graph is not None  # matchers only see nodes of graphs
        return add_constant(graph, np.array(numbers, np.int64), f"rotary_{name}")

    def _add(
        self, before: ir.Node, kind: str, inputs: list[ir.Value], shape: list[Size]
    ) -> ir.Value:
        graph, node = before.graph, ir.node(kind, inputs)
        assert graph is not None  # matchers only see nodes of graphs
        graph.insert_before(before, node)
        node.outputs[0].type, node.outputs[0].shape = inputs[0].type, ir.Shape(shape)
        return node.outputs[0]
