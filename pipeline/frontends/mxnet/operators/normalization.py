"""Normalizations.

Source: MXNet ``src/operator/nn/batch_norm.cc``, ``layer_norm.cc``, ``group_norm.cc``, ``lrn.cc``,
``instance_norm-inl.h``, ``l2_normalization-inl.h``.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxsmith.pipeline.frontends.mxnet.call import Call, Family, Operator, SizesNeededError
from onnxsmith.pipeline.frontends.mxnet.graph import Part
from onnxsmith.pipeline.frontends.mxnet.weights import reshaped


def batch_norm(call: Call) -> ir.Value:
    """``gamma (x - mean) / sqrt(var + eps) + beta`` with the stored mean and variance.

    ``fix_gamma``, the default, makes gamma 1 whatever the file holds.
    """
    rank = call.rank()
    axis = call.axis("axis", 1)
    if call.outputs - {0}:
        raise call.refuse("BatchNorm with its mean and variance as outputs")
    _check_channels(call, axis)
    eps = call.attrs.number("eps", 1e-3)
    gamma, beta, mean, variance = (call[number] for number in range(1, 5))
    if call.attrs.flag("fix_gamma", True):
        ones = np.ones(_length(call, 1), (gamma.dtype or ir.DataType.FLOAT).numpy())
        gamma = call.graph.weight(ir.tensor(ones), f"{call.node.name}_gamma_fixed")
    if axis == 1 or rank == 1:
        inputs = [call[0], gamma, beta, mean, variance]
        if call[0].dtype != gamma.dtype:
            return _mixed(call, inputs, eps)
        return call.graph.add("BatchNormalization", inputs, {"epsilon": eps})
    order = [a for a in range(rank) if a != axis]
    order.insert(1, axis)
    moved = call.graph.transpose(call[0], order)
    result = call.graph.add(
        "BatchNormalization", [moved, gamma, beta, mean, variance], {"epsilon": eps}
    )
    return call.graph.transpose(result, [order.index(a) for a in range(rank)])


def _mixed(call: Call, inputs: list[ir.Value], eps: float) -> ir.Value:
    """Normalize half precision with float32 statistics, as MXNet does."""
    dtype = inputs[1].dtype or ir.DataType.FLOAT
    wide = call.graph.cast(inputs[0], dtype)
    result = call.graph.add("BatchNormalization", [wide, *inputs[1:]], {"epsilon": eps})
    return call.graph.cast(result, inputs[0].dtype or ir.DataType.FLOAT16)


def batch_norm_relu(call: Call) -> ir.Value:
    """BatchNorm, then relu."""
    return call.graph.add("Relu", [batch_norm(call)])


def instance_norm(call: Call) -> ir.Value:
    """Each channel of each sample by its own mean and variance."""
    _check_channels(call, 1)
    eps = call.attrs.number("eps", 1e-3)
    return call.graph.add("InstanceNormalization", [call[0], call[1], call[2]], {"epsilon": eps})


def layer_norm(call: Call) -> ir.Value:
    """Along one axis, by its own mean and variance."""
    if call.outputs - {0}:
        raise call.refuse("LayerNorm with its mean and deviation as outputs")
    graph, x, rank = call.graph, call[0], call.rank()
    axis = call.axis("axis", -1)
    eps = call.attrs.number("eps", 1e-5)
    _check_channels(call, axis)
    if axis == rank - 1 and graph.opset >= 17:
        inputs = [x, call[1], call[2]]
        return graph.add("LayerNormalization", inputs, {"axis": -1, "epsilon": eps})
    centered = graph.add("Sub", [x, graph.reduce("ReduceMean", x, [axis], keep=True)])
    square = graph.add("Mul", [centered, centered])
    variance = graph.reduce("ReduceMean", square, [axis], keep=True)
    deviation = graph.add("Sqrt", [graph.add("Add", [variance, graph.scalar(eps, x, "eps")])])
    shape = (_length(call, 1), *(1,) * (rank - 1 - axis))
    scaled = graph.add("Mul", [graph.add("Div", [centered, deviation]), _shaped(call, 1, shape)])
    return graph.add("Add", [scaled, _shaped(call, 2, shape)])


def group_norm(call: Call) -> ir.Value:
    """Each group of channels by its own mean and variance; gamma by channel or by group."""
    if call.outputs - {0}:
        raise call.refuse("GroupNorm with its mean and deviation as outputs")
    graph, x, rank = call.graph, call[0], call.rank()
    groups = call.attrs.bounded("num_groups", 1, 1, 2**20)
    channels = call.size(1)
    if channels % groups:
        raise call.error(f"{channels} channels do not divide into {groups} groups")
    eps = call.attrs.number("eps", 1e-5)
    dtype = (x.dtype or ir.DataType.FLOAT).numpy()
    ones = graph.constant(np.ones(groups, dtype), "ones")
    zeros = graph.constant(np.zeros(groups, dtype), "zeros")
    flat = graph.reshape(x, (0, groups, -1))
    normal = graph.add("InstanceNormalization", [flat, ones, zeros], {"epsilon": eps})
    tail = (1,) * (rank - 2)
    if _length(call, 1) == groups != channels:  # before 1.6 gamma and beta went by group
        grouped = graph.add("Mul", [normal, _shaped(call, 1, (groups, 1))])
        normal = graph.add("Add", [grouped, _shaped(call, 2, (groups, 1))])
        return graph.reshape_to(normal, _same_shape(x, rank))
    whole = graph.reshape_to(normal, _same_shape(x, rank))
    scaled = graph.add("Mul", [whole, _shaped(call, 1, (channels, *tail))])
    return graph.add("Add", [scaled, _shaped(call, 2, (channels, *tail))])


def l2_normalization(call: Call) -> ir.Value:
    """``x / sqrt(sum x^2 + eps)`` over a sample, its channels, or its positions."""
    graph, x, rank = call.graph, call[0], call.rank()
    mode = call.attrs.text("mode", "instance", ("instance", "channel", "spatial"))
    axes = {"instance": range(1, rank), "channel": range(1, 2), "spatial": range(2, rank)}[mode]
    eps = graph.scalar(call.attrs.number("eps", 1e-10), x, "eps")
    total = graph.reduce("ReduceSumSquare", x, list(axes), keep=True)
    return graph.add("Div", [x, graph.add("Sqrt", [graph.add("Add", [total, eps])])])


def local_response(call: Call) -> ir.Value:
    """``x / (knorm + alpha / nsize * sum x^2)^beta`` over neighboring channels."""
    size = call.attrs.bounded("nsize", 1, 1, 2**16)
    if size % 2 == 0:
        raise call.error(f"nsize={size} is even")
    return call.graph.add(
        "LRN",
        [call[0]],
        {
            "alpha": call.attrs.number("alpha", 1e-4),
            "beta": call.attrs.number("beta", 0.75),
            "bias": call.attrs.number("knorm", 2.0),
            "size": size,
        },
    )


def _same_shape(x: ir.Value, rank: int) -> list[Part]:
    return [(x, axis) for axis in range(rank)]


def _shaped(call: Call, number: int, shape: tuple[int, ...]) -> ir.Value:
    return call[number] if len(shape) == 1 else reshaped(call, number, shape, "by_channel")


def _length(call: Call, number: int) -> int:
    dims = call.dims(number)
    if len(dims) != 1 or not isinstance(dims[0], int):
        raise call.error(f"its input {number} is no vector of a known length")
    return dims[0]


def _check_channels(call: Call, axis: int) -> None:
    if not 0 <= axis < call.rank():
        raise call.error(f"its input has {call.rank()} dimensions")
    have, want = call.dims()[axis], _length(call, 1)
    if isinstance(have, int) and have != want:
        raise SizesNeededError(
            f"{call.node} takes {want} channels, but gets {have}", "check the sizes in --input"
        )


_STATISTICS = ("data", "gamma", "beta", "moving_mean", "moving_var")
_AFFINE = ("data", "gamma", "beta")
_BATCH_NORM = Operator(
    batch_norm, _STATISTICS, frozenset({1, 2, 3, 4}), outputs=("output", "mean", "var")
)
_BATCH_NORM_RELU = Operator(
    batch_norm_relu, _STATISTICS, frozenset({1, 2, 3, 4}), outputs=("output", "mean", "var")
)
_LAYER_NORM = Operator(layer_norm, _AFFINE, frozenset({1, 2}), outputs=("output", "mean", "std"))

OPERATORS: Family = {
    "BatchNorm": _BATCH_NORM,
    "BatchNorm_v1": _BATCH_NORM,
    "CuDNNBatchNorm": _BATCH_NORM,
    "_contrib_SyncBatchNorm": _BATCH_NORM,
    "_npx_batch_norm": _BATCH_NORM,
    "_contrib_BatchNormWithReLU": _BATCH_NORM_RELU,
    "InstanceNorm": Operator(instance_norm, _AFFINE, frozenset({1, 2}), outputs=("output",)),
    "LayerNorm": _LAYER_NORM,
    "_npx_layer_norm": _LAYER_NORM,
    "GroupNorm": Operator(
        group_norm, _AFFINE, frozenset({1, 2}), outputs=("output", "mean", "std")
    ),
    "L2Normalization": Operator(l2_normalization, outputs=("output",)),
    "LRN": Operator(local_response, outputs=("output",)),
}
