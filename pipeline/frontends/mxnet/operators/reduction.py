"""Fewer values from many: sums, extremes and their places, orders.

Source: MXNet ``src/operator/tensor/broadcast_reduce_op.h``, ``ordering_op-inl.h``,
``nn/moments-inl.h``.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxsmith.pipeline.frontends.mxnet.call import Call, Family, Operator
from onnxsmith.pipeline.frontends.mxnet.graph import dims_of


def _reduction(op_type: str, nan: float | None = None) -> Operator:
    """Return the operator of a reduction; ``nan`` is what takes the place of NaN before."""

    def convert(call: Call) -> ir.Value:
        x = call[0]
        if nan is not None:
            graph = call.graph
            x = graph.add("Where", [graph.add("IsNaN", [x]), graph.scalar(nan, x, "nan"), x])
        return _reduce(call, op_type, x)

    return Operator(convert)


def _axes(call: Call, rank: int) -> list[int]:
    given = sorted({call.normal(axis, rank) for axis in call.attrs.integers("axis")})
    if not given:
        return list(range(rank))
    if call.attrs.flag("exclude", False):
        return [axis for axis in range(rank) if axis not in given]
    return given


def _reduce(call: Call, op_type: str, x: ir.Value) -> ir.Value:
    """Reduce; all axes without ``keepdims`` leave a vector of one, for MXNet has no scalars."""
    rank = call.rank()
    axes = _axes(call, rank)
    keep = call.attrs.flag("keepdims", False)
    if len(axes) == rank and not keep:
        flat = x if rank == 1 else call.graph.reshape(x, [-1])
        return call.graph.reduce(op_type, flat, [0], keep=True)
    return call.graph.reduce(op_type, x, axes, keep) if axes else x


def norm(call: Call) -> ir.Value:
    """The root of the sum of squares, or the sum of sizes (``ord=1``)."""
    order = call.attrs.integer("ord", 2)
    if order not in (1, 2):
        raise call.refuse(f"the norm of order {order}")
    result = _reduce(call, f"ReduceL{order}", call[0])
    dtype = result.dtype or ir.DataType.FLOAT
    return call.graph.cast(result, call.attrs.dtype("out_dtype", dtype))


def moments(call: Call) -> list[ir.Value]:
    """Mean and variance over ``axes``."""
    graph, x, rank = call.graph, call[0], call.rank()
    axes = sorted({call.normal(axis, rank) for axis in call.attrs.integers("axes")})
    axes = axes or list(range(rank))
    keep = call.attrs.flag("keepdims", False)
    mean = graph.reduce("ReduceMean", x, axes, keep=True)
    centered = graph.add("Sub", [x, mean])
    variance = graph.reduce("ReduceMean", graph.add("Mul", [centered, centered]), axes, keep=True)
    if keep:
        return [mean, variance]
    if len(axes) == rank:
        return [graph.reshape(value, [1]) for value in (mean, variance)]
    return [graph.squeeze(value, axes) for value in (mean, variance)]


def _extreme(op_type: str) -> Operator:
    """Return the operator of the place of an extreme, as a number of the input's type."""

    def convert(call: Call) -> ir.Value:
        graph, x = call.graph, call[0]
        keep = call.attrs.flag("keepdims", False)
        rank = call.rank()
        if call.attrs.has("axis"):
            axis = call.axis("axis", 0)
            whole = rank == 1
        else:
            x, axis, whole = graph.reshape(x, [-1]), 0, True
        place = graph.add(op_type, [x], {"axis": axis, "keepdims": int(keep or whole)})
        if keep and not call.attrs.has("axis") and rank > 1:
            place = graph.reshape(place, [1] * rank)
        return graph.cast(place, x.dtype or ir.DataType.FLOAT)

    return Operator(convert)


def argmax_channel(call: Call) -> ir.Value:
    """The place of the largest value along axis 1."""
    place = call.graph.add("ArgMax", [call[0]], {"axis": 1, "keepdims": 0})
    return call.graph.cast(place, call[0].dtype or ir.DataType.FLOAT)


def topk(call: Call) -> list[ir.Value]:
    """The ``k`` largest values (smallest with ``is_ascend``), their places, or a mask of them."""
    kind = call.attrs.text("ret_typ", "indices", ("indices", "value", "both", "mask"))
    x, axis = _sorted_axis(call)
    count = call.attrs.bounded("k", 1, -(2**31), 2**31)
    values, places = _topk(call, x, axis, count, smallest=call.attrs.flag("is_ascend", False))
    if kind == "value":
        return [values]
    if kind == "mask":
        return [_mask(call, x, places, axis)]
    numbers = call.graph.cast(places, call.attrs.dtype("dtype", ir.DataType.FLOAT))
    return [numbers] if kind == "indices" else [values, numbers]


def sort(call: Call) -> ir.Value:
    """The values in order."""
    x, axis = _sorted_axis(call)
    return _topk(call, x, axis, 0, smallest=call.attrs.flag("is_ascend", True))[0]


def argsort(call: Call) -> ir.Value:
    """The places of the values in order."""
    x, axis = _sorted_axis(call)
    places = _topk(call, x, axis, 0, smallest=call.attrs.flag("is_ascend", True))[1]
    return call.graph.cast(places, call.attrs.dtype("dtype", ir.DataType.FLOAT))


def _sorted_axis(call: Call) -> tuple[ir.Value, int]:
    """Return what is sorted and along which axis; axis None flattens."""
    if "axis" in call.attrs.values and not call.attrs.has("axis"):
        return call.graph.reshape(call[0], [-1]), 0
    return call[0], call.axis("axis", -1)


def _topk(
    call: Call, x: ir.Value, axis: int, count: int, *, smallest: bool
) -> tuple[ir.Value, ir.Value]:
    """Return values and places; a count below 1 stands for all."""
    graph = call.graph
    number = graph.integers([count], "k") if count >= 1 else graph.shape([(x, axis)])
    attributes = {"axis": axis, "largest": 0 if smallest else 1}
    values, places = graph.add_many("TopK", [x, number], attributes, 2)
    return values, places


def _mask(call: Call, x: ir.Value, places: ir.Value, axis: int) -> ir.Value:
    graph = call.graph
    dtype = x.dtype or ir.DataType.FLOAT
    zeros, ones = (
        graph.add(
            "ConstantOfShape",
            [graph.shape([(like, a) for a in range(len(dims_of(like)))])],
            {"value": ir.tensor(np.array([number]).astype(dtype.numpy()))},
        )
        for like, number in ((x, 0), (places, 1))
    )
    return graph.add("ScatterElements", [zeros, places, ones], {"axis": axis})


def cumsum(call: Call) -> ir.Value:
    """Running sums along an axis, or of all values in order."""
    graph, x = call.graph, call[0]
    axis = call.axis("axis", 0) if call.attrs.has("axis") else 0
    if not call.attrs.has("axis"):
        x = graph.reshape(x, [-1])
    x = graph.cast(x, call.attrs.dtype("dtype", x.dtype or ir.DataType.FLOAT))
    return graph.add("CumSum", [x, graph.constant(np.array(axis, np.int64), "axis")])


_TOPK = Operator(topk, numbered=lambda attrs: attrs.get("ret_typ") in ("value", "both"))

OPERATORS: Family = {
    "sum": _reduction("ReduceSum"),
    "sum_axis": _reduction("ReduceSum"),
    "mean": _reduction("ReduceMean"),
    "max": _reduction("ReduceMax"),
    "max_axis": _reduction("ReduceMax"),
    "min": _reduction("ReduceMin"),
    "min_axis": _reduction("ReduceMin"),
    "prod": _reduction("ReduceProd"),
    "nansum": _reduction("ReduceSum", 0.0),
    "nanprod": _reduction("ReduceProd", 1.0),
    "_square_sum": _reduction("ReduceSumSquare"),
    "norm": Operator(norm),
    "moments": Operator(moments),
    "argmax": _extreme("ArgMax"),
    "argmin": _extreme("ArgMin"),
    "argmax_channel": Operator(argmax_channel),
    "topk": _TOPK,
    "_npx_topk": _TOPK,
    "sort": Operator(sort, numbered=lambda attrs: True),
    "argsort": Operator(argsort),
    "cumsum": Operator(cumsum),
    "_np_cumsum": Operator(cumsum),
}
