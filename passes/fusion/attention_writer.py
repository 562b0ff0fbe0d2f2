"""Bring the operands of an attention to an operator, and its result to those that read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.cleanup.merge_views import merge_views
from onnxsmith.passes.fusion.attention_core import Core
from onnxsmith.passes.fusion.attention_mask import Term
from onnxsmith.passes.fusion.attention_operand import Operand, Source
from onnxsmith.passes.fusion.contrib import take_over
from onnxsmith.passes.match import add_constant, made_by, only_user, remove_if_dead
from onnxsmith.passes.views import MAX_DEPTH, Size, trace

_HEADS_INNER = [0, 2, 1, 3]
_TURNED = [0, 1, 3, 2]
_AXES_ARE_INPUTS = 18
_MOVES = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten")


class AttentionWriter:
    """Writes what stands around an operator that takes the place of a core.

    Args:
        core: The attention.
        version: The version of the standard operators.
    """

    def __init__(self, core: Core, version: int) -> None:
        """Keep them."""
        self._core, self._version = core, version
        self._moves: list[ir.Node] = []
        self._parts: dict[ir.Value, dict[int, ir.Value]] = {}

    def can_finish(self) -> bool:
        """Tell whether the result can be given the shape of the second product's."""
        shape, empty = self._core.product.outputs[0].shape, self._core.empty
        if shape is None or (empty is not None and empty.dims()[1] != 1):
            return False
        return len(shape) == 4 or self._core.heads == 1 or self._split_target() is not None

    def _split_target(self) -> list[int] | None:
        """Return the target of the Reshape to (batch * heads, length, size)."""
        shape = self._core.product.outputs[0].shape
        assert shape is not None  # can_finish() asks for it
        target = [size if isinstance(size, int) else -1 for size in shape]
        return target if target.count(-1) <= 1 else None

    def operands(self) -> list[ir.Value | None] | None:
        """Return queries (batch, length, width), and keys and values of that form or with heads."""
        core = self._core
        pair = (core.key, core.value)
        flat = core.key.repeats == 1 and all(self._usable(operand) for operand in pair)
        # With heads, the kernel asks for keys and values of one shape.
        if not flat and (
            core.key.size != core.value.size
            or any(len(operand.value.shape or ()) != 4 for operand in pair)
        ):
            return None
        query = self._flat(core.query) or self._merged(core.query)
        if query is None:
            return None
        return [query, *(self._flat(o) if flat else self._apart(o) for o in pair)]

    def cached_operands(self, new: Sequence[Operand]) -> list[ir.Value] | None:
        """Return queries, and keys and values of this step alone, all (batch, length, width)."""
        query = self._flat(self._core.query) or self._merged(self._core.query)
        found = [self._flat(operand) or self._merged(operand) for operand in new]
        values = [value for value in (query, *found) if value is not None]
        return values if len(values) == 3 else None

    def flat_operands(self) -> list[ir.Value] | None:
        """Return queries, keys and values (batch, length, width), if they come from such."""
        operands = (self._core.query, self._core.key, self._core.value)
        if not all(self._usable(operand) for operand in operands):
            return None
        found = [self._flat(operand) for operand in operands]
        return [value for value in found if value is not None]

    def split_operands(self) -> list[ir.Value] | None:
        """Return queries, keys and values of shape (batch, heads, length, size)."""
        operands = (self._core.query, self._core.key, self._core.value)
        if any(len(operand.value.shape or ()) != 4 for operand in operands):
            return None
        return [self._straight(operand) for operand in operands]

    def _usable(self, operand: Operand) -> Source | None:
        """Return the nearest value with an operand's heads side by side, or one that has a run."""
        for depth in range(1, MAX_DEPTH):
            view = trace(operand.value, depth)
            near = None if view is None else replace(operand, view=view).source()
            if near is not None and near.is_flat:
                return near
        source = operand.source()
        return source if source is not None and source.start is not None else None

    def _flat(self, operand: Operand) -> ir.Value | None:
        """Return an operand with its heads side by side, if its source or a part of it is that."""
        source = self._usable(operand)
        if source is None:
            return None
        value = self.batch_first(source.value) if source.lengths_first else source.value
        return value if source.is_flat else self._part(value, source)

    def _part(self, value: ir.Value, source: Source) -> ir.Value:
        """Return a run of the source's columns: one of a Split, if all of them are asked for."""
        assert source.start is not None  # _usable() asked for it
        if value not in self._parts:
            self._parts[value] = self._split(value, source)
        parts = self._parts[value]
        if source.start in parts:
            return parts[source.start]
        ends = (source.start, source.start + source.columns.size, 2)
        names = ("start", "end", "axis")
        numbers = [
            add_constant(self._core.graph, np.array([number], np.int64), f"columns_{name}")
            for name, number in zip(names, ends, strict=True)
        ]
        assert value.shape is not None  # it has rank 3
        shape = [*value.shape[:2], source.columns.size]
        return self._add(ir.node("Slice", [value, *numbers]), value, shape)

    def _split(self, value: ir.Value, source: Source) -> dict[int, ir.Value]:
        """Return the runs of a source by where they begin; nothing if they are not all of it."""
        operands = (self._core.query, self._core.key, self._core.value)
        found = [self._usable(operand) for operand in operands]
        sizes = {
            s.start: s.columns.size
            for s in found
            if s is not None and s.start is not None and s.value is source.value
        }
        starts = sorted(sizes)
        ends = [start + sizes[start] for start in starts]
        assert value.shape is not None  # it has rank 3
        if [0, *ends] != [*starts, value.shape[2]] or len(starts) < 2:
            return {}
        numbers = np.array([sizes[start] for start in starts], np.int64)
        inputs = [value, add_constant(self._core.graph, numbers, "columns")]
        node = ir.node("Split", inputs, {"axis": 2}, num_outputs=len(starts))
        self._core.graph.insert_before(self._core.product, node)
        for start, output in zip(starts, node.outputs, strict=True):
            output.type, output.shape = value.type, ir.Shape([*value.shape[:2], sizes[start]])
        return dict(zip(starts, node.outputs, strict=True))

    def _merged(self, operand: Operand) -> ir.Value | None:
        """Return an operand of rank 4 with its heads moved side by side."""
        value = operand.value
        if value.shape is None or len(value.shape) != 4 or operand.turned:
            return None
        batch, heads, length, size = value.shape
        turned = ir.node("Transpose", [value], {"perm": _HEADS_INNER})
        inner = self._add(turned, value, [batch, length, heads, size])
        width = operand.heads * operand.size
        target = add_constant(self._core.graph, np.array([0, 0, width]), "heads_merged")
        return self._add(ir.node("Reshape", [inner, target]), value, [batch, length, width])

    def _apart(self, operand: Operand) -> ir.Value:
        """Return keys or values (batch, heads, length, size), each head as often as it is used."""
        value = self._straight(operand)
        if operand.repeats == 1 or value.shape is None:
            return value
        order = np.repeat(np.arange(operand.heads // operand.repeats), operand.repeats)
        places = add_constant(self._core.graph, order, "heads_repeated")
        shape = [value.shape[0], operand.heads, *value.shape[2:]]
        return self._add(ir.node("Gather", [value, places], {"axis": 1}), value, shape)

    def _straight(self, operand: Operand) -> ir.Value:
        """Return an operand (batch, heads, length, size)."""
        value = operand.value
        if not operand.turned:
            return value
        assert value.shape is not None  # find_operand() asked for it
        node = ir.node("Transpose", [value], {"perm": _TURNED})
        self._moves.append(node)
        return self._add(node, value, [value.shape[axis] for axis in _TURNED])

    def batch_first(self, value: ir.Value) -> ir.Value:
        """Return a value of shape (length, batch, width) with its first two dimensions swapped."""
        before = made_by(value, "Transpose")
        if before is not None and before.inputs[0] is not None:
            perm = before.attributes.get("perm")
            if perm is not None and not perm.is_ref() and list(perm.as_ints()) == [1, 0, 2]:
                return before.inputs[0]
        assert value.shape is not None  # it has rank 3
        first, second, width = value.shape
        node = ir.node("Transpose", [value], {"perm": [1, 0, 2]})
        return self._add(node, value, [second, first, width])

    def _add(self, node: ir.Node, like: ir.Value, shape: Sequence[Size]) -> ir.Value:
        self._core.graph.insert_before(self._core.product, node)
        node.outputs[0].type, node.outputs[0].shape = like.type, ir.Shape(shape)
        return node.outputs[0]

    def finish(self, node: ir.Node) -> None:
        """Put an operator whose result has the heads side by side where the second product stood.

        The views around it are merged.
        """
        core, old = self._core, self._core.product.outputs[0]
        query, depth = core.query, core.value.size
        name = old.name
        result = self._add(node, old, [core.query.batch, query.length, core.heads * depth])
        result.name = f"{name}_merged"
        result = self._without_empty(result)
        target = np.array([0, 0, core.heads, depth])
        split = ir.node("Reshape", [result, add_constant(core.graph, target, "heads_split")])
        inner = self._add(split, old, [core.query.batch, query.length, core.heads, depth])
        turned = ir.node("Transpose", [inner], {"perm": _HEADS_INNER})
        last = self._add(turned, old, [core.query.batch, core.heads, query.length, depth])
        rows = self._split_target()
        if len(old.shape or ()) == 3 and rows is not None:
            shape = add_constant(core.graph, np.array(rows, np.int64), "heads_batched")
            last = self._add(ir.node("Reshape", [last, shape]), old, list(old.shape or ()))
        self._hand_over(last)

    def finish_split(self, node: ir.Node) -> None:
        """Put an operator with a result of rank 4 where the second product stood."""
        old = self._core.product.outputs[0]
        self._hand_over(self._without_empty(self._add(node, old, list(old.shape or ()))))

    def _without_empty(self, result: ir.Value) -> ir.Value:
        """Set the results of queries that see no key to zero."""
        term = self._core.empty
        if term is None or result.shape is None or result.dtype is None:
            return result
        seen = self._seen(term)
        if len(result.shape) == 3 and len(term.value.shape or ()) == 4:
            axis = add_constant(self._core.graph, np.array([1]), "empty_axis")
            batch, _, queries, _ = term.dims()
            node = ir.node("Squeeze", [seen, axis])
            seen = self._add(node, seen, [batch, queries, 1])
        zero = add_constant(self._core.graph, np.zeros((), result.dtype.numpy()), "empty_zero")
        node = ir.node("Where", [seen, result, zero])
        return self._add(node, result, list(result.shape))

    def _seen(self, term: Term) -> ir.Value:
        """Return whether each query sees a key, of shape (batch, 1, queries, 1) or less of it."""
        value = term.value
        dims = term.dims()[-len(value.shape or ()) :]
        if term.masked:
            value = self._add(ir.node("Not", [value]), value, dims)
        number = ir.TensorType(ir.DataType.FLOAT)
        found = self._add(ir.node("Cast", [value], {"to": int(ir.DataType.FLOAT)}), value, dims)
        found.type = number
        if self._version < _AXES_ARE_INPUTS:
            node = ir.node("ReduceMax", [found], {"axes": [-1], "keepdims": 1})
        else:
            last = add_constant(self._core.graph, np.array([-1]), "empty_last")
            node = ir.node("ReduceMax", [found, last], {"keepdims": 1})
        found = self._add(node, found, [*dims[:-1], 1])
        to_bool = ir.node("Cast", [found], {"to": int(ir.DataType.BOOL)})
        return self._add(to_bool, value, [*dims[:-1], 1])

    def _hand_over(self, result: ir.Value) -> None:
        take_over(self._core.product.outputs[0], result)
        remove_if_dead(self._core.product)
        end = result.producer()
        while end is not None and (after := only_user(end.outputs[0], *_MOVES)) is not None:
            end = after
        for move in (*self._moves, end):
            if move is not None:
                merge_views(move)
