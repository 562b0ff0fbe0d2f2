"""The gradient of Resize.

Resize is linear in its input and treats one dimension after the other. So its gradient is a product
with one matrix a dimension, and the matrix is what Resize makes of the identity: exact for every
mode, coordinate transformation and rounding, and for sizes that are known at run time alone.

Source: Resize of ONNX.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.autodiff.backward import Backward, Gradients, NotDifferentiableError
from onnxsmith.passes.autodiff.writer import INT64, rank_of, static_shape
from onnxsmith.passes.match import array_of, same_dim

_BLOCKS = {("asymmetric", "floor"), ("half_pixel", "round_prefer_floor")}
"""Where each element, made larger by a whole number, becomes a block of itself."""


def resize(b: Backward) -> Gradients:
    """``dX`` is the gradient times the matrix of each dimension that changed its size."""
    if _crops(b) and len(b.needs) > 1 and b.needs[1]:
        raise NotDifferentiableError("where it crops depends on parameters (roi)")
    if b.string("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise NotDifferentiableError("its scales depend on each other (keep_aspect_ratio_policy)")
    rank = rank_of(b.x())
    axes = [axis % rank for axis in b.ints("axes") or range(rank)]
    changed = [(place, axis) for place, axis in enumerate(axes) if not _stays(b, place, axis)]
    factors = _blocks(b, changed)
    if factors is not None:
        return [_summed(b, factors)]
    grad = b.grad
    for place, axis in changed:
        grad = _times(b, grad, _matrix(b, place, axis), axis)
    return [grad]


def _crops(b: Backward) -> bool:
    return b.string("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize"


def _stays(b: Backward, place: int, axis: int) -> bool:
    """Tell whether a dimension is left as it is."""
    if _crops(b):
        roi = array_of(b.x(1))
        if roi is None or (roi[place], roi[place + len(roi) // 2]) != (0, 1):
            return False
    scales = array_of(_scales(b))
    if _scales(b) is not None:
        return scales is not None and float(scales[place]) == 1
    before, after = b.x().shape, b.y.shape
    return before is not None and after is not None and same_dim(before[axis], after[axis])


def _scales(b: Backward) -> ir.Value | None:
    """Return the factors; None where sizes are given."""
    given = b.optional(2)
    sizes = b.optional(3)
    return None if sizes is not None else given


def _blocks(b: Backward, changed: list[tuple[int, int]]) -> dict[int, int] | None:
    """Return the whole factor of each dimension where every element becomes a block."""
    kind = (
        b.string("coordinate_transformation_mode", "half_pixel"),
        b.string("nearest_mode", "round_prefer_floor"),
    )
    if b.string("mode", "nearest") != "nearest" or kind not in _BLOCKS:
        return None
    scales, before, after = array_of(_scales(b)), b.x().shape, b.y.shape
    factors = {}
    for place, axis in changed:
        if scales is not None:
            factor = float(scales[place])
        else:
            small, big = (None if s is None else s[axis] for s in (before, after))
            if not (isinstance(small, int) and isinstance(big, int)):
                return None
            factor = big / small
        if factor != int(factor):
            return None
        factors[axis] = int(factor)
    return factors


def _summed(b: Backward, factors: dict[int, int]) -> ir.Value:
    """Sum each block."""
    if not factors:
        return b.grad
    w, x = b.write, b.x()
    sizes, inner = [], []
    for axis in range(rank_of(x)):
        sizes.append(w.size_of(x, axis))
        if axis in factors:
            inner.append(len(sizes))
            sizes.append(w.ints([factors[axis]]))
    apart = w.op("Reshape", b.grad, w.op("Concat", *sizes, attributes={"axis": 0}))
    return w.reduce("ReduceSum", apart, inner, keep=False)


def _matrix(b: Backward, place: int, axis: int) -> ir.Value:
    """Resize the rows of the identity: row ``i`` is what element ``i`` becomes."""
    w, x = b.write, b.x()
    size = w.size_of(x, axis)
    sizes = static_shape(x)
    assert x.dtype is not None  # differentiated values have types
    if sizes is not None:
        eye = w.constant(np.eye(sizes[axis], dtype=x.dtype.numpy())[None, None])
    else:
        square = w.op("Concat", size, size, attributes={"axis": 0})
        eye = w.op("EyeLike", w.fill(square, x, 0))
        eye = w.op("Unsqueeze", eye, w.ints([0, 1]))
    attributes = {
        name: attribute for name, attribute in b.node.attributes.items() if name != "axes"
    }
    given = _scales(b)
    if given is not None:
        factor = w.op("Gather", given, w.ints([place]))
        ones = w.constant(np.ones(3, np.float32))
        bounds = [w.op("Concat", ones, factor, attributes={"axis": 0}), None]
    else:
        after = w.size_of(b.y, axis)
        whole = w.op("Concat", w.ints([1, 1]), size, after, attributes={"axis": 0}, dtype=INT64)
        bounds = [None, whole]
    node_attributes = {name: a.value for name, a in attributes.items()}
    if _crops(b):  # what lies outside is a number, which has no gradient
        node_attributes["extrapolation_value"] = 0.0
    rows = w.op("Resize", eye, _roi(b, place), *bounds, attributes=node_attributes)
    return w.op("Squeeze", rows, w.ints([0, 1]))


def _roi(b: Backward, place: int) -> ir.Value | None:
    """Return where the rows of the identity are cropped; None where nothing is."""
    if not _crops(b):
        return None
    w, roi = b.write, b.x(1)
    assert roi.dtype is not None  # it is a tensor of floats
    axes = b.ints("axes")
    count = rank_of(b.x()) if axes is None else len(axes)
    ends = [w.op("Gather", roi, w.ints([place + half])) for half in (0, count)]
    all_of = [w.constant(np.full(3, end, roi.dtype.numpy())) for end in (0, 1)]
    return w.op("Concat", all_of[0], ends[0], all_of[1], ends[1], attributes={"axis": 0})


def _times(b: Backward, grad: ir.Value, matrix: ir.Value, axis: int) -> ir.Value:
    """Multiply along one dimension."""
    w, rank = b.write, rank_of(b.x())
    if axis == rank - 2:
        return w.op("MatMul", matrix, grad)
    turned = w.op("Transpose", matrix, attributes={"perm": [1, 0]})
    if axis == rank - 1:
        return w.op("MatMul", grad, turned)
    order = [*(place for place in range(rank) if place != axis), axis]
    back = sorted(range(rank), key=order.__getitem__)
    last = w.op("Transpose", grad, attributes={"perm": order})
    return w.op("Transpose", w.op("MatMul", last, turned), attributes={"perm": back})
