"""Where the elements of reshaped, transposed and sliced values come from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from onnxsmith.passes.match import (
    STANDARD,
    array_of,
    input_of,
    int_attribute,
    ints_attribute,
    ints_of,
    same_dim,
)

Size = int | ir.SymbolicDim
MAX_DEPTH = 16
"""How many nodes a view is followed through."""


@dataclass(frozen=True)
class Atom:
    """A factor of a dimension: ``size`` elements of the root's ``axis``, ``stride`` apart.

    A dimension of unknown size is one atom of stride 1.
    """

    size: Size
    axis: int
    stride: int


@dataclass(frozen=True)
class View:
    """A value whose elements are some of another's, in another order.

    Attributes:
        root: The other value.
        dims: For each dimension its atoms, outer to inner; dimensions of size 1 have none.
        starts: For each dimension of the root, where the view begins.
    """

    root: ir.Value
    dims: tuple[tuple[Atom, ...], ...]
    starts: tuple[int, ...]

    def is_whole(self, place: int, axis: int) -> bool:
        """Tell whether a dimension is just a dimension of the root, from end to end."""
        assert self.root.shape is not None  # trace() asked for it
        size, atoms = self.root.shape[axis], self.dims[place]
        if self.starts[axis]:
            return False
        if size == 1:
            return not atoms
        return len(atoms) == 1 and atoms[0] == Atom(size, axis, 1)


def trace(value: ir.Value, depth: int = MAX_DEPTH) -> View | None:
    """Return what a value is a view of, at most ``depth`` nodes away; None if its rank is unknown.

    Followed are Reshape, Transpose, Squeeze, Unsqueeze, Flatten, Identity, and Gather, Slice and
    Split with constant places. Where one of them cannot be followed, its result is the root.
    """
    node = value.producer()
    if depth and node is not None and node.domain in STANDARD:
        rule = _RULES.get(node.op_type)
        source = input_of(node, 0)
        before = None if rule is None or source is None else trace(source, depth - 1)
        if rule is not None and before is not None:
            found = rule(node, value, before)
            if found is not None:
                return found
    if value.shape is None or any(size == 0 for size in value.shape):
        return None
    sizes = list(value.shape)
    dims = tuple(() if size == 1 else (Atom(size, axis, 1),) for axis, size in enumerate(sizes))
    return View(value, dims, (0,) * len(dims))


def is_view(node: ir.Node) -> bool:
    """Tell whether an operator may give a view of its first input."""
    return node.domain in STANDARD and node.op_type in _RULES


def merge_atoms(atoms: Sequence[Atom]) -> tuple[Atom, ...]:
    """Join neighbors that are one run of elements."""
    found: list[Atom] = []
    for atom in atoms:
        last = found[-1] if found else None
        if (
            last is not None
            and isinstance(last.size, int)
            and isinstance(atom.size, int)
            and last.axis == atom.axis
            and last.stride == atom.stride * atom.size
        ):
            found[-1] = Atom(last.size * atom.size, atom.axis, atom.stride)
        else:
            found.append(atom)
    return tuple(found)


def _reshape(node: ir.Node, value: ir.Value, view: View) -> View | None:
    """Give the atoms to the dimensions, from both ends; one of them may take what is left."""
    if value.shape is None or any(size == 0 for size in value.shape):
        return None
    atoms = list(merge_atoms([atom for dim in view.dims for atom in dim]))
    sizes = list(value.shape)
    first: list[tuple[Atom, ...]] = []
    last: list[tuple[Atom, ...]] = []
    while sizes and (taken := _take(atoms, sizes[0], outer=True)) is not None:
        first.append(taken)
        sizes.pop(0)
    while len(sizes) > 1 and (taken := _take(atoms, sizes[-1], outer=False)) is not None:
        last.insert(0, taken)
        sizes.pop()
    if len(sizes) > 1 or (not sizes and atoms):
        return None
    rest = [tuple(atoms)] if sizes else []
    if sizes and isinstance(sizes[0], int):
        return None  # it would have been taken
    return View(view.root, (*first, *rest, *last), view.starts)


def _take(atoms: list[Atom], size: Size, *, outer: bool) -> tuple[Atom, ...] | None:
    """Take a dimension of this size from one end of the atoms; nothing, and None, if none fits."""
    place = 0 if outer else -1
    if not isinstance(size, int):
        return (atoms.pop(place),) if atoms and same_dim(atoms[place].size, size) else None
    left, kept = list(atoms), list[Atom]()
    while size > 1:
        if not left or not isinstance(left[place].size, int):
            return None
        atom = left.pop(place)
        whole = int(atom.size) if isinstance(atom.size, int) else 0
        if size % whole == 0:
            size //= whole
            kept.append(atom)
        elif whole % size == 0:
            inner = whole // size if outer else size
            parts = (
                Atom(whole // inner, atom.axis, atom.stride * inner),
                Atom(inner, atom.axis, atom.stride),
            )
            kept.append(parts[place])
            left.insert(0 if outer else len(left), parts[1 + place])
            size = 1
        else:
            return None
    atoms[:] = left
    return tuple(kept if outer else reversed(kept))


def _transpose(node: ir.Node, value: ir.Value, view: View) -> View | None:
    perm = ints_attribute(node, "perm")
    if perm is None:
        if "perm" in node.attributes:
            return None
        perm = list(reversed(range(len(view.dims))))
    return View(view.root, tuple(view.dims[axis] for axis in perm), view.starts)


def _axes(node: ir.Node, rank: int) -> list[int] | None:
    given = ints_of(input_of(node, 1)) if len(node.inputs) > 1 else ints_attribute(node, "axes")
    return None if given is None else [axis % rank for axis in given]


def _squeeze(node: ir.Node, value: ir.Value, view: View) -> View | None:
    axes = _axes(node, len(view.dims))
    if axes is None or any(view.dims[axis] for axis in axes):
        return None
    dims = tuple(dim for axis, dim in enumerate(view.dims) if axis not in axes)
    return View(view.root, dims, view.starts)


def _unsqueeze(node: ir.Node, value: ir.Value, view: View) -> View | None:
    count = input_of(node, 1)
    given = ints_of(count) if count is not None else ints_attribute(node, "axes")
    axes = None if given is None else _axes(node, len(view.dims) + len(given))
    if axes is None:
        return None
    dims = list(view.dims)
    for axis in sorted(axes):
        dims.insert(axis, ())
    return View(view.root, tuple(dims), view.starts)


def _gather(node: ir.Node, value: ir.Value, view: View) -> View | None:
    """Pick one place of a dimension."""
    array, axis = array_of(input_of(node, 1), 1), int_attribute(node, "axis", 0)
    if array is None or array.size != 1 or array.ndim > 1 or axis is None:
        return None
    axis %= len(view.dims)
    found = _range(view, axis, int(array.item()), 1)
    if found is None or array.ndim:
        return found
    return View(found.root, found.dims[:axis] + found.dims[axis + 1 :], found.starts)


def _slice(node: ir.Node, value: ir.Value, view: View) -> View | None:
    if len(node.inputs) < 3:
        return None  # before opset 10 the places are attributes
    starts, ends = ints_of(node.inputs[1]), ints_of(node.inputs[2])
    given, steps = input_of(node, 3), input_of(node, 4)
    if starts is None or ends is None:
        return None
    axes = list(range(len(starts))) if given is None else ints_of(given)
    strides = [1] * len(starts) if steps is None else ints_of(steps)
    if axes is None or strides is None or any(stride != 1 for stride in strides):
        return None
    found: View | None = view
    for axis, start, end in zip(axes, starts, ends, strict=True):
        if found is None:
            return None
        place = axis % len(view.dims)
        size = math.prod(a.size if isinstance(a.size, int) else 0 for a in found.dims[place])
        if not size:
            return None
        first, last = (min(max(n + size if n < 0 else n, 0), size) for n in (start, end))
        found = _range(found, place, first, last - first)
    return found


def _split(node: ir.Node, value: ir.Value, view: View) -> View | None:
    axis, result = int_attribute(node, "axis", 0), value.shape
    index = value.index()
    if axis is None or result is None or index is None:
        return None
    axis %= len(view.dims)
    sizes = [None if v.shape is None else v.shape[axis] for v in node.outputs[: index + 1]]
    known = [size for size in sizes if isinstance(size, int)]
    return _range(view, axis, sum(known[:-1]), known[-1]) if len(known) == len(sizes) else None


def _range(view: View, place: int, first: int, count: int) -> View | None:
    """Return ``count`` neighbors of one dimension."""
    atoms = merge_atoms(view.dims[place])
    sizes = [atom.size for atom in atoms if isinstance(atom.size, int)]
    if len(sizes) != len(atoms) or count < 1:
        return None
    total = math.prod(sizes)
    first = first + total if first < 0 else first
    if not 0 <= first <= total - count:
        return None
    if count == total:
        return view
    starts = list(view.starts)
    for index, atom in enumerate(atoms):
        inner = math.prod(sizes[index + 1 :])
        digit, first = divmod(first, inner)
        starts[atom.axis] += digit * atom.stride
        if count < inner:
            continue  # all of it lies in one element of this atom
        number, over = divmod(count, inner)
        if first or over or digit + number > sizes[index]:
            return None  # its ends lie within elements of this atom
        head = () if number == 1 else (Atom(number, atom.axis, atom.stride),)
        dims = (*view.dims[:place], (*head, *atoms[index + 1 :]), *view.dims[place + 1 :])
        return View(view.root, dims, tuple(starts))
    return None


def _identity(node: ir.Node, value: ir.Value, view: View) -> View | None:
    return view


_RULES = {
    "Flatten": _reshape,
    "Gather": _gather,
    "Identity": _identity,
    "Reshape": _reshape,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
