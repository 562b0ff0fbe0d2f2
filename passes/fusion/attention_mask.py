"""What is added to an attention's scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.fusion.attention_operand import Operand
from onnxsmith.passes.fusion.contrib import version_of
from onnxsmith.passes.match import add_constant, array_of, made_by, same_dim, tensor_of
from onnxsmith.passes.views import Size

_LOW = {ir.DataType.FLOAT: -1e9, ir.DataType.FLOAT16: -6e4}
_PARTS_OF_SHAPES = 15  # from which opset on Shape gives a part of the sizes

Sizes = Mapping[str, tuple[ir.Value, int]]
"""For each named size an input of the model and the dimension that has it."""


@dataclass(frozen=True)
class Term:
    """A mask.

    Attributes:
        value: What is added, or the condition of a choice.
        rank: The rank of the scores that it meets: 3, 4, or 5 with the windows of an image in front
            of the heads.
        outer: At rank 5 how many images there are; each has as many windows.
        chooses: Whether the value is a condition; else it is added.
        low: What stands for a score where the condition says so; None for the lowest number.
        masked: Whether that is where the condition is true.
    """

    value: ir.Value
    rank: int
    outer: Size | None = None
    chooses: bool = False
    low: ir.Value | None = None
    masked: bool = True

    def dims(self) -> list[Size]:
        """Return the mask's sizes, filled up to the rank of the scores with ones in front."""
        assert self.value.shape is not None  # fits() asked for it
        given = list(self.value.shape)
        return [*[1] * (self.rank - len(given)), *given]


def named_sizes(model: ir.Model) -> Sizes:
    """Return where the model's inputs tell sizes that are known by name only."""
    if version_of(model) < _PARTS_OF_SHAPES:
        return {}
    return {
        size.value: (value, axis)
        for value in model.graph.inputs
        if value.shape is not None
        for axis, size in enumerate(value.shape)
        if isinstance(size, ir.SymbolicDim) and size.value is not None
    }


def is_low(value: ir.Value | None) -> bool:
    """Tell whether a value is a number so low that a score added to it is lost."""
    array = array_of(value, 1)
    limit = None if value is None or value.dtype is None else _LOW.get(value.dtype)
    return array is not None and array.size == 1 and limit is not None and array.item() <= limit


def without_infinity(term: Term) -> tuple[Term, bool] | None:
    """Return a mask that hides the same keys with finite numbers.

    Returns:
        The mask, and whether it may hide all keys of a query with infinities; None where it may
        hold infinities in other ways.
    """
    if term.chooses:
        if term.low is None or is_finite(term.low):
            return term, False
        return replace(term, low=None), True
    if is_finite(term.value):
        return term, False
    choice = made_by(term.value, "Where")
    condition = None if choice is None else choice.inputs[0]
    if choice is None or condition is None:
        return None
    for kept, hidden, masked in ((2, 1, True), (1, 2, False)):
        zero, low = array_of(choice.inputs[kept], 1), array_of(choice.inputs[hidden], 1)
        if zero is None or low is None or zero.size != 1 or low.size != 1:
            continue
        if zero.item() == 0 and low.item() == -np.inf:
            return Term(condition, term.rank, term.outer, chooses=True, masked=masked), True
    return None


def is_finite(mask: ir.Value) -> bool:
    """Tell whether a mask is known to hold finite numbers only."""
    tensor = tensor_of(mask)
    if tensor is not None:
        return bool(np.isfinite(tensor.numpy().astype(np.float32)).all())
    views = made_by(mask, "Expand", "Reshape", "Unsqueeze", "Squeeze", "Slice", "Transpose")
    if views is not None and views.inputs[0] is not None:
        return is_finite(views.inputs[0])
    choice = made_by(mask, "Where")
    if choice is None:
        return False
    return all(v is not None and is_finite(v) for v in choice.inputs[1:])


def is_causal(terms: Sequence[Term], query: Operand, key: Operand) -> bool:
    """Tell whether the mask is the constant that hides from each query the keys behind its own."""
    if len(terms) != 1 or not same_dim(query.length, key.length):
        return False
    (term,) = terms
    tensor = tensor_of(term.value)
    if tensor is None or not isinstance(query.length, int) or len(tensor.shape) < 2:
        return False
    array = tensor.numpy()
    if array.shape[-2:] != (query.length, query.length):
        return False
    seen = np.tril(np.ones(array.shape[-2:], bool))
    if term.chooses:
        return bool((array != seen).all() if term.masked else (array == seen).all())
    limit = _LOW.get(tensor.dtype, -np.inf)
    return bool((array[..., seen] == 0).all() and (array[..., ~seen] <= limit).all())


def fits(terms: Sequence[Term], query: Operand, key: Operand, sizes: Sizes) -> bool:
    """Tell whether masks can be written as one of shape (batch or 1, heads or 1, queries, keys)."""
    windows = any(term.rank == 5 for term in terms)
    for term in terms:
        if term.value.shape is None or len(term.value.shape) > term.rank:
            return False
        wanted = term.value.dtype == (ir.DataType.BOOL if term.chooses else query.value.dtype)
        *outer, queries, keys = term.dims()
        pairs = ((queries, query.length), (keys, key.length))
        if not wanted or not all(_can_be(a, b, sizes) for a, b in pairs):
            return False
        if windows and term.rank != 5 and outer[0] != 1:
            return False
        if not _outer_fits(term, outer, query, sizes):
            return False
    return True


def _outer_fits(term: Term, outer: list[Size], query: Operand, sizes: Sizes) -> bool:
    if term.rank == 3:
        heads_are_known = query.heads == 1 or isinstance(outer[0], int)
        return outer[0] == 1 or (heads_are_known and same_dim(outer[0], query.rows))
    batch, heads = outer[0], outer[-1]
    if heads != 1 and heads != query.heads:
        return False
    if term.rank == 4:
        return batch == 1 or same_dim(batch, query.batch)
    known = term.outer is not None and _can_be(batch, term.outer, sizes)
    return known and isinstance(outer[1], int)


def _can_be(size: Size, wanted: Size, sizes: Sizes) -> bool:
    """Tell whether a size is another, or can be expanded to it.

    A size that is not known meets the scores, so that it is 1 or as it has to be.
    """
    if same_dim(size, wanted):
        return True
    if isinstance(wanted, int):
        return size == 1 or not isinstance(size, int)
    return size == 1 and wanted.value in sizes


class MaskWriter:
    """Writes the mask of one attention as a value of rank 4, in front of a node.

    Args:
        before: The node.
        like: A value of the scores' element type.
        sizes: Where named sizes are told.
    """

    def __init__(self, before: ir.Node, like: ir.Value, sizes: Sizes) -> None:
        """Keep them."""
        graph = before.graph
        assert graph is not None  # matchers only see nodes of graphs
        self._before, self._graph, self._like, self._sizes = before, graph, like, sizes

    def write(self, terms: Sequence[Term], query: Operand, key: Operand) -> ir.Value | None:
        """Return the sum of masks that fit; None without any."""
        wide = next((term for term in terms if term.rank == 5), None)
        total: ir.Value | None = None
        for term in terms:
            value = self._lift(term, query, 5 if wide else 4)
            total = value if total is None else self._sum(total, value)
        if total is not None and wide is not None:
            total = self._join_windows(total, wide, query)
        return None if total is None else self.expand(total, [query.length, key.length])

    def _lift(self, term: Term, query: Operand, rank: int) -> ir.Value:
        """Return what a mask adds, with a rank of 4 or 5."""
        value, dims = term.value, term.dims()
        if term.chooses:
            dtype = self._like.dtype
            assert dtype is not None  # the softmax is of a known type
            zero = add_constant(self._graph, np.array(0, dtype.numpy()), "mask_zero")
            lowest = np.array(dtype.min, dtype.numpy())
            low = term.low or add_constant(self._graph, lowest, "mask_low")
            choices = (low, zero) if term.masked else (zero, low)
            value = self._make("Where", [value, *choices], value.shape)
        if term.rank == 3 and dims[0] != 1 and query.heads != 1:
            assert isinstance(dims[0], int)  # fits() asked for it
            return self._reshape(value, [dims[0] // query.heads, query.heads, *dims[1:]])
        if term.rank == 3:
            dims.insert(1, 1)
        return self._reshape(value, [*[1] * (rank - len(dims)), *dims])

    def _sum(self, first: ir.Value, second: ir.Value) -> ir.Value:
        assert first.shape is not None  # _lift() gives them
        assert second.shape is not None
        pairs = zip(first.shape, second.shape, strict=True)
        return self._make("Add", [first, second], ir.Shape([b if a == 1 else a for a, b in pairs]))

    def _join_windows(self, mask: ir.Value, wide: Term, query: Operand) -> ir.Value:
        """Make (images, windows, heads, queries, keys) to (images * windows, heads, ...)."""
        assert mask.shape is not None  # fits() asked for it
        assert wide.outer is not None
        inner = list(mask.shape)[1:]
        if not same_dim(mask.shape[0], wide.outer):
            mask = self.expand(mask, [wide.outer, *inner])
        return self._reshape(mask, [query.batch, *inner[1:]])

    def expand(self, mask: ir.Value, wanted: Sequence[Size]) -> ir.Value:
        """Broadcast the last dimensions of a mask."""
        assert mask.shape is not None  # _lift() gives it
        given = list(mask.shape)
        inner = given[len(given) - len(wanted) :]
        if all(map(same_dim, inner, wanted)):
            return mask
        sizes = [1 if a == b else b for a, b in zip(inner, wanted, strict=True)]
        shape = ir.Shape([*given[: len(given) - len(wanted)], *wanted])
        return self._make("Expand", [mask, self._vector(sizes)], shape)

    def _vector(self, sizes: Sequence[Size]) -> ir.Value:
        if all(isinstance(size, int) for size in sizes):
            return add_constant(self._graph, np.array(sizes, np.int64), "mask_shape")
        parts = [self._size(size) for size in sizes]
        return self._make("Concat", parts, ir.Shape([len(parts)]), {"axis": 0})

    def _size(self, size: Size) -> ir.Value:
        if isinstance(size, int):
            return add_constant(self._graph, np.array([size], np.int64), "mask_size")
        assert size.value is not None  # fits() asked for it
        value, axis = self._sizes[size.value]
        return self._make("Shape", [value], ir.Shape([1]), {"start": axis, "end": axis + 1})

    def _reshape(self, value: ir.Value, dims: Sequence[Size]) -> ir.Value:
        """Give a value other sizes, of which one may be known by name only."""
        given = list(value.shape or ())
        if len(given) == len(dims):
            return value
        front = len(dims) - len(given)
        if list(dims) == [*[1] * front, *given]:
            axes = add_constant(self._graph, np.arange(front), "mask_axes")
            return self._make("Unsqueeze", [value, axes], ir.Shape(dims))
        target = np.array([d if isinstance(d, int) else -1 for d in dims], np.int64)
        shape = add_constant(self._graph, target, "mask_shape")
        return self._make("Reshape", [value, shape], ir.Shape(dims))

    def _make(
        self,
        kind: str,
        inputs: Sequence[ir.Value],
        shape: ir.Shape | None,
        attributes: Mapping[str, int] | None = None,
    ) -> ir.Value:
        node = ir.node(kind, inputs, attributes)
        self._graph.insert_before(self._before, node)
        result = node.outputs[0]
        whole = kind in ("Shape", "Concat")
        result.type = ir.TensorType(ir.DataType.INT64) if whole else self._like.type
        result.shape = shape
        return result
