"""Queries, keys and values of an attention, and where they come from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.match import add_constant, is_op, made_by, same_dim
from onnxsmith.passes.views import Atom, Size, View, is_view, merge_atoms, trace

Dims = tuple[tuple[Atom, ...], tuple[Atom, ...], tuple[Atom, ...], tuple[Atom, ...]]


@dataclass(frozen=True)
class Source:
    """A value of rank 3 that holds an operand's heads side by side in its last dimension.

    Attributes:
        value: Of shape (batch, length, width), or (length, batch, width).
        lengths_first: Whether the lengths come before the batch.
        columns: For each head and element of it, its place in the last dimension.
    """

    value: ir.Value
    lengths_first: bool
    columns: np.ndarray[Any, np.dtype[np.int64]]

    @property
    def is_flat(self) -> bool:
        """Tell whether the heads lie side by side, and nothing else beside them."""
        assert self.value.shape is not None  # it has rank 3
        width = self.value.shape[2]
        return self.columns.size == width and self.start == 0

    @property
    def start(self) -> int | None:
        """Where the columns begin, if they follow each other; else None."""
        flat = self.columns.reshape(-1)
        first = int(flat[0])
        return first if np.array_equal(flat, np.arange(first, first + flat.size)) else None


@dataclass(frozen=True)
class Operand:
    """Queries, keys or values.

    Attributes:
        value: Of shape (batch, heads, length, size), or (batch * heads, length, size); with the
            last two turned for keys.
        turned: Whether they are.
        heads: How many heads there are.
        repeats: How often each head of ``value`` is used, one after the other: ``heads`` are more
            than those of ``value`` by this factor.
        view: What ``value`` is a view of.
    """

    value: ir.Value
    turned: bool
    heads: int
    repeats: int
    view: View

    @property
    def rows(self) -> Size:
        """The first size of the value: the batch, at rank 3 times the heads."""
        return _shape(self.value)[0]

    @property
    def batch(self) -> Size:
        """The size of the batch."""
        shown = self.rows if len(_shape(self.value)) == 4 else ir.SymbolicDim(None)
        return _size(_dims(self.view, self.turned)[0], shown)

    @property
    def length(self) -> Size:
        """How many queries, keys or values there are."""
        shown = _shape(self.value)[-1 if self.turned else -2]
        return _size(_dims(self.view, self.turned)[2], shown)

    @property
    def size(self) -> int:
        """How many elements a head has."""
        size = _shape(self.value)[-2 if self.turned else -1]
        assert isinstance(size, int)  # find_operand() asked for it
        return size

    def source(self) -> Source | None:
        """Return the value of rank 3 that this is a view of, if it is one."""
        root, (batch, heads, lengths, sizes) = self.view.root, _dims(self.view, self.turned)
        if root.shape is None or len(root.shape) != 3:
            return None
        if any(atom.axis != 2 for atom in (*heads, *sizes)):
            return None
        places = [self.view.starts[2]]
        for atom in (*heads, *sizes):
            if not isinstance(atom.size, int):
                return None
            places = [place + i * atom.stride for place in places for i in range(atom.size)]
        heads_of_value = self.heads // self.repeats
        if len(places) != heads_of_value * self.size:
            return None  # the heads are still one with the batch
        columns = np.array(places, np.int64).reshape(heads_of_value, self.size)
        whole = View(root, (batch, lengths), self.view.starts)
        for batch_axis in (0, 1):
            if whole.is_whole(0, batch_axis) and whole.is_whole(1, 1 - batch_axis):
                return Source(root, batch_axis == 1, columns)
        return None


def find_operand(value: ir.Value, *, turned: bool) -> Operand | None:
    """Return the operand that a value is, its heads told apart; None where their number is unknown.

    Args:
        value: Of rank 3 or 4.
        turned: Whether the lengths come last.
    """
    view = trace(value)
    if view is None or value.shape is None or len(value.shape) not in (3, 4):
        return None
    if not isinstance(value.shape[-2 if turned else -1], int):
        return None
    grouped = _ungrouped(value, view, turned)
    if grouped is not None:
        return grouped
    if len(value.shape) == 4:
        heads = value.shape[1]
        return Operand(value, turned, heads, 1, view) if isinstance(heads, int) else None
    heads_of_view = _dims(view, turned)[1]
    count = 1
    for atom in heads_of_view:
        if not isinstance(atom.size, int):
            return None
        count *= atom.size
    return Operand(value, turned, count, 1, view)


def _ungrouped(value: ir.Value, view: View, turned: bool) -> Operand | None:
    """Return the operand with its heads but once, where each is repeated by an Expand."""
    expand = made_by(view.root, "Expand")
    inner = None if expand is None else expand.inputs[0]
    before = None if inner is None else trace(inner)
    if inner is None or before is None or inner.shape is None or len(view.dims) != 4:
        return None
    batch, heads, lengths, sizes = _dims(view, turned)
    if len(inner.shape) != 5 or len(_shape(view.root)) != 5 or not heads:
        return None
    group, kept = heads[-1], inner.shape[1]
    whole = View(view.root, (batch, heads[:-1], (group,), lengths, sizes), view.starts)
    places = all(whole.is_whole(axis, axis) for axis in range(5))
    same = all(same_dim(inner.shape[axis], _shape(view.root)[axis]) for axis in (0, 1, 3, 4))
    if not places or not same or inner.shape[2] != 1 or not isinstance(kept, int):
        return None
    if not isinstance(group.size, int) or kept * group.size != _shape(value)[1]:
        return None
    root = _without_ones(inner)
    found = None if root is None else find_operand(root, turned=False)
    if found is None or found.repeats != 1:
        return None
    return Operand(found.value, False, kept * group.size, group.size, found.view)


def _without_ones(value: ir.Value) -> ir.Value | None:
    """Return the value of rank 4 that one of rank 5, its third dimension of size 1, is made of.

    One head may not be told apart: then it is.
    """
    node = made_by(value, "Unsqueeze", "Reshape")
    source = None if node is None else node.inputs[0]
    if node is None or node.graph is None or source is None or source.shape is None:
        return None
    wanted = [*_shape(value)[:2], *_shape(value)[3:]]
    if len(source.shape) == 4:
        return source if all(map(same_dim, source.shape, wanted)) else None
    single = [wanted[0], *wanted[2:]]
    if len(source.shape) != 3 or not all(map(same_dim, source.shape, single)):
        return None
    axes = add_constant(node.graph, np.array([1]), "one_head")
    apart = ir.node("Unsqueeze", [source, axes])
    node.graph.insert_before(node, apart)
    apart.outputs[0].type, apart.outputs[0].shape = source.type, ir.Shape(wanted)
    return apart.outputs[0]


def _dims(view: View, turned: bool) -> Dims:
    """Return the atoms of batch, heads, lengths and sizes."""
    *outer, first, second = view.dims
    lengths, sizes = (second, first) if turned else (first, second)
    if len(outer) == 2:
        return outer[0], merge_atoms(outer[1]), lengths, sizes
    last = len(_shape(view.root)) - 1
    place = next((i for i, atom in enumerate(outer[0]) if atom.axis == last), len(outer[0]))
    return outer[0][:place], outer[0][place:], lengths, sizes


def _size(atoms: tuple[Atom, ...], shown: Size) -> Size:
    """Return the size of a dimension as its atoms tell it, or else as inference shows it."""
    sizes = [atom.size for atom in atoms]
    known = [size for size in sizes if isinstance(size, int)]
    if len(known) == len(sizes):
        return math.prod(known)
    return sizes[0] if len(sizes) == 1 else shown


def _shape(value: ir.Value) -> ir.Shape:
    assert value.shape is not None  # find_operand() asked for it
    return value.shape


def is_straight(operand: Operand) -> bool:
    """Tell whether an operand is its view's root, but that lengths and sizes may be turned."""
    view = View(operand.view.root, _dims(operand.view, operand.turned), operand.view.starts)
    return len(_shape(view.root)) == 4 and all(view.is_whole(axis, axis) for axis in range(4))


def readers(value: ir.Value) -> Iterator[ir.Node | None]:
    """Yield the nodes that read a value or a view of it; None where it is a graph output."""
    if value.is_graph_output():
        yield None
    for use in value.uses():
        if is_view(use.node) and use.idx == 0 and is_op(use.node, use.node.op_type):
            for output in use.node.outputs:
                yield from readers(output)
        else:
            yield use.node
