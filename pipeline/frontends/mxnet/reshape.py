"""MXNet's codes of a shape, turned into ONNX's Reshape, sizes left open where they may be.

==== =========================================================================
n    this size
0    the size of the input's axis here
-1   what is left
-2   all further axes of the input
-3   the product of two axes of the input
-4   one axis split into the two sizes that follow, of which one may be -1
==== =========================================================================

Source: MXNet ``InferReshapeShape`` in ``src/operator/tensor/matrix_op-inl.h``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from onnxsmith.pipeline.frontends.mxnet.call import Call
from onnxsmith.pipeline.frontends.mxnet.graph import Dim, dims_of


@dataclass
class _Term:
    """One size of the result: a number, or a product of axes divided by a number, or what is left.

    Attributes:
        size: The number, where it is known.
        axes: The input's axes that are multiplied.
        divisor: What their product is divided by.
        rest: Whether it is what is left.
    """

    size: int | None = None
    axes: list[int] = field(default_factory=list)
    divisor: int = 1
    rest: bool = False


def reshape_to_codes(call: Call, codes: Sequence[int], *, reverse: bool) -> ir.Value:
    """Return input 0 of the node in the shape that the codes describe.

    Raises:
        SmithError: The codes do not fit the input's axes.
    """
    dims = call.dims()
    rank = len(dims)
    order = list(reversed(range(rank))) if reverse else list(range(rank))
    terms = _terms(call, list(reversed(codes)) if reverse else list(codes), order, dims)
    if reverse:
        terms.reverse()
    return _emit(call, call[0], terms)


def _terms(call: Call, codes: list[int], order: list[int], dims: list[Dim]) -> list[_Term]:
    """Read the codes from left to right, taking the input's axes in ``order``."""
    terms: list[_Term] = []
    left = list(order)

    def take() -> int:
        if not left:
            raise call.error(f"shape={codes} asks for more axes than its input has")
        return left.pop(0)

    at = 0
    while at < len(codes):
        code = codes[at]
        if code == 0:
            terms.append(_Term(axes=[take()]))
        elif code == -2:
            terms += [_Term(axes=[axis]) for axis in left]
            left.clear()
        elif code == -3:
            terms.append(_Term(axes=[take(), take()]))
        elif code == -4:
            terms += _split(call, codes[at + 1 : at + 3], take(), dims)
            at += 2
        elif code == -1 or code > 0:
            terms.append(_Term(rest=True) if code == -1 else _Term(size=code))
            left[:1] = []
        else:
            raise call.error(f"shape={codes} holds the unknown code {code}")
        at += 1
    if sum(term.rest for term in terms) > 1:
        raise call.error(f"shape={codes} leaves more than one size open")
    _fill_in(terms, dims)
    return terms


def _fill_in(terms: list[_Term], dims: list[Dim]) -> None:
    """Work out the sizes whose axes are all known."""
    for term in terms:
        known = [dim for dim in (dims[axis] for axis in term.axes) if isinstance(dim, int)]
        if term.axes and len(known) == len(term.axes):
            size = 1
            for dim in known:
                size *= dim
            term.size = size // term.divisor


def _split(call: Call, sizes: list[int], axis: int, dims: list[Dim]) -> list[_Term]:
    if len(sizes) != 2 or any(size == 0 or size < -1 for size in sizes) or sizes == [-1, -1]:
        raise call.error(f"shape splits an axis into {sizes}")
    dim = dims[axis]
    if isinstance(dim, int):
        known = abs(sizes[0] * sizes[1])
        if (-1 in sizes and dim % known) or (-1 not in sizes and known != dim):
            raise call.error(f"shape splits an axis of {dim} into {sizes}")
    first, second = sizes
    if first == -1:
        return [_Term(axes=[axis], divisor=second), _Term(size=second)]
    if second == -1:
        return [_Term(size=first), _Term(axes=[axis], divisor=first)]
    return [_Term(size=first), _Term(size=second)]


def _emit(call: Call, x: ir.Value, terms: list[_Term]) -> ir.Value:
    graph = call.graph
    shape: list[int | None] = []
    for at, term in enumerate(terms):
        if term.rest:
            shape.append(-1)
        elif term.size is not None:
            shape.append(term.size)
        elif term.axes == [at] and term.divisor == 1:
            shape.append(0)  # a copy of the axis at the same place
        else:
            shape.append(None)
    zero_sized = any(term.size == 0 for term in terms)
    if shape.count(None) == 1 and -1 not in shape and not zero_sized:
        shape[shape.index(None)] = -1
    if None not in shape and not zero_sized:
        return graph.reshape(x, [size or 0 for size in shape])
    parts: list[ir.Value] = []
    for size, term in zip(shape, terms, strict=True):
        if size is None or (size == 0 and term.size is None):
            parts.append(_computed(call, x, term))
        else:
            parts.append(graph.integers([size], "size"))
    target = graph.add("Concat", parts, {"axis": 0})
    result = graph.add("Reshape", [x, target])
    _note_shape(x, result, terms)
    return result


def _computed(call: Call, x: ir.Value, term: _Term) -> ir.Value:
    graph = call.graph
    size = graph.sizes(x, term.axes[0], term.axes[0] + 1)
    for axis in term.axes[1:]:
        size = graph.add("Mul", [size, graph.sizes(x, axis, axis + 1)])
    if term.divisor == 1:
        return size
    return graph.add("Div", [size, graph.integers([term.divisor], "divisor")])


def _note_shape(x: ir.Value, result: ir.Value, terms: list[_Term]) -> None:
    """Say what is known of the shape, which the inference does not see through the arithmetic."""
    dims = dims_of(x)
    known: list[Dim] = []
    for term in terms:
        if term.size is not None:
            known.append(term.size)
        elif len(term.axes) == 1 and term.divisor == 1:
            known.append(dims[term.axes[0]])
        else:
            known.append(None)
    result.shape = ir.Shape(known)
