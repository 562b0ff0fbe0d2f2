"""Layers that join blobs value by value, or reduce them.

Source: BVLC Caffe, src/caffe/layers/eltwise_layer.cpp, reduction_layer.cpp, argmax_layer.cpp;
Axpy: the fork of SENet.
"""

from __future__ import annotations

from functools import reduce

from onnxsmith.pipeline.frontends.caffe.builder import Tensor
from onnxsmith.pipeline.frontends.caffe.dims import Dims
from onnxsmith.pipeline.frontends.caffe.layers.activation import multiply
from onnxsmith.pipeline.frontends.caffe.scope import FLOAT, INT64, Scope

_ELTWISE = {"PROD": 0, "SUM": 1, "MAX": 2}
_REDUCTIONS = {"SUM": 1, "ASUM": 2, "SUMSQ": 3, "MEAN": 4}
_REDUCERS = {
    "SUM": "ReduceSum",
    "ASUM": "ReduceL1",
    "SUMSQ": "ReduceSumSquare",
    "MEAN": "ReduceMean",
}


def eltwise(scope: Scope) -> Tensor:
    """Sum with coefficients, product, or maximum."""
    first = scope.bottom(2, max(2, len(scope.bottoms)))
    param = scope.param("eltwise_param")
    operation = param.choice("operation", _ELTWISE, "SUM")
    factors = param.floats("coeff")
    for other in scope.bottoms[1:]:
        if other.dims != first.dims:
            scope.known((*first.dims, *other.dims))
            raise scope.refuse(
                f"its blobs differ: {'x'.join(map(str, first.dims))} "
                f"and {'x'.join(map(str, other.dims))}",
                "mend the .prototxt",
            )
    if factors and (operation != "SUM" or len(factors) != len(scope.bottoms)):
        raise scope.refuse(
            f"it has {len(factors)} coefficients for {len(scope.bottoms)} blobs and {operation}",
            "give a sum one coefficient a blob",
        )
    if operation == "MAX":
        return scope.op("Max", scope.bottoms, first.dims)
    if operation == "PROD":
        return reduce(lambda a, b: scope.op("Mul", [a, b], first.dims), scope.bottoms)
    return _sum(scope, factors or [1.0] * len(scope.bottoms), first.dims)


def axpy(scope: Scope) -> Tensor:
    """A * x + y, with one ``a`` a channel."""
    scale = scope.bottom(3, 3)
    _, x, y = scope.bottoms
    if x.dims != y.dims or scale.rank < 2 or scale.dims[:2] != x.dims[:2]:
        scope.known((*scale.dims, *x.dims, *y.dims))
        raise scope.refuse("its blobs do not fit each other", "give N x C, and two N x C x H x W")
    factor = scope.reshape(scale, (*x.dims[:2], *[1] * (x.rank - 2)))
    product = scope.op("Mul", [factor, x], x.dims)
    return scope.op("Add", [product, y], x.dims)


def reduction(scope: Scope) -> Tensor:
    """Sum, sum of magnitudes, sum of squares or mean over all axes from one on."""
    bottom = scope.bottom()
    param = scope.param("reduction_param")
    operation = param.choice("operation", _REDUCTIONS, "SUM")
    axis = scope.axis(param.integer("axis", 0), bottom.rank)
    axes = range(axis, bottom.rank)
    found = scope.reduce(_REDUCERS[operation], bottom, list(axes), keep=False)
    return multiply(scope, found, param.number("coeff", 1), "coeff")


def argmax(scope: Scope) -> Tensor:
    """The places of the ``top_k`` greatest values, as floats, or the values, or both."""
    bottom = scope.bottom()
    param = scope.param("argmax_param")
    top_k, wants_values = param.size("top_k", 1), param.flag("out_max_val", False)
    if "axis" in param:
        axis = scope.axis(param.integer("axis", 0), bottom.rank)
        (size,) = scope.known(bottom.dims[axis : axis + 1])
        _check_top_k(scope, top_k, size)
        values, places = _top(scope, bottom, axis, top_k, wants_values=wants_values)
        return values if wants_values else places
    flat = scope.flatten(bottom, 1)
    (size,) = scope.known(flat.dims[1:])
    _check_top_k(scope, top_k, size)
    values, places = _top(scope, flat, 1, top_k, wants_values=wants_values)
    behind = (1,) * max(0, bottom.rank - 3)
    parts = [
        scope.reshape(part, (bottom.dims[0], 1, top_k, *behind))
        for part in ([places, values] if wants_values else [places])
    ]
    if len(parts) == 1:
        return parts[0]
    return scope.op("Concat", parts, (bottom.dims[0], 2, top_k, *behind), {"axis": 1})


def _sum(scope: Scope, factors: list[float], dims: Dims) -> Tensor:
    blobs = scope.bottoms
    if len(blobs) > 2 and set(factors) == {1.0}:
        return scope.op("Sum", blobs, dims)
    total = multiply(scope, blobs[0], factors[0], "coeff")
    for blob, factor in zip(blobs[1:], factors[1:], strict=True):
        if factor == -1:
            total = scope.op("Sub", [total, blob], dims)
        else:
            total = scope.op("Add", [total, multiply(scope, blob, factor, "coeff")], dims)
    return total


def _check_top_k(scope: Scope, top_k: int, size: int) -> None:
    if not 1 <= top_k <= size:
        raise scope.refuse(f"its top_k {top_k} is not from 1 to {size}", "mend argmax_param")


def _top(
    scope: Scope, tensor: Tensor, axis: int, top_k: int, *, wants_values: bool
) -> tuple[Tensor, Tensor]:
    """Return the greatest values along an axis and their places, as floats.

    Of equal values Caffe takes the last.
    """
    dims = (*tensor.dims[:axis], top_k, *tensor.dims[axis + 1 :])
    if top_k == 1:
        attributes = {"axis": axis, "select_last_index": 1}
        places = scope.op("ArgMax", [tensor], dims, attributes, INT64)
        values = scope.reduce("ReduceMax", tensor, [axis]) if wants_values else tensor
        return values, scope.op("Cast", [places], dims, {"to": int(FLOAT)})
    (size,) = scope.known(tensor.dims[axis : axis + 1])
    # TopK takes the first of equal values, so it looks at them from behind.
    turned = scope.op(
        "Slice",
        [
            tensor,
            scope.integers([-1], "starts"),
            scope.integers([-(2**31)], "ends"),
            scope.integers([axis], "axes"),
            scope.integers([-1], "steps"),
        ],
        tensor.dims,
    )
    values, places = scope.ops(
        "TopK",
        [turned, scope.integers([top_k], "top_k")],
        [dims, dims],
        {"axis": axis},
        FLOAT,
        INT64,
    )
    as_floats = scope.op("Cast", [places], dims, {"to": int(FLOAT)})
    return values, scope.op("Sub", [scope.scalar(size - 1, "last"), as_floats], dims)
