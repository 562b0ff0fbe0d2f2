"""Layers that normalize: BatchNorm, Scale, Bias, LRN, MVN, Normalize, Softmax.

Source: BVLC Caffe, src/caffe/layers/*_layer.cpp of each name; Normalize: its SSD branch.
"""

from __future__ import annotations

import numpy as np

from onnxsmith.pipeline.frontends.caffe.builder import Tensor
from onnxsmith.pipeline.frontends.caffe.dims import Dims, count
from onnxsmith.pipeline.frontends.caffe.layers.activation import multiply, plus
from onnxsmith.pipeline.frontends.caffe.layers.pooling import average_pool, square_windows
from onnxsmith.pipeline.frontends.caffe.scope import Scope

_REGIONS = {"ACROSS_CHANNELS": 0, "WITHIN_CHANNEL": 1}


def softmax(scope: Scope) -> Tensor:
    """Softmax along one axis."""
    bottom = scope.bottom()
    axis = scope.axis(scope.param("softmax_param").integer("axis", 1), bottom.rank)
    return scope.op("Softmax", [bottom], bottom.dims, {"axis": axis})


def batch_norm(scope: Scope, following: Scope | None = None) -> Tensor:
    """BatchNormalization, together with the Scale layer that follows it.

    The file holds mean and variance times a common factor.
    """
    bottom = scope.bottom()
    param = scope.param("batch_norm_param")
    eps = param.number("eps", 1e-5)
    channels = _channels(scope, bottom)
    if not param.flag("use_global_stats", True):
        scope.warnings.append(
            f"layer {scope.layer.name!r} normalizes by the mean of the batch it is given, "
            "as its use_global_stats: false says; set it to true to use the stored one"
        )
        return _scaled(following, _standardize(scope, bottom, eps))
    (factor,) = scope.array(2, (1,), "scale factor")
    factor = 0.0 if factor == 0 else 1.0 / float(factor)
    statistics = [
        (scope.array(at, (channels,), name) * np.float64(factor)).astype(np.float32)
        for at, name in ((0, "mean"), (1, "variance"))
    ]
    weights = _affine(scope, following, channels)
    stored = [scope.constant(s, n) for s, n in zip(statistics, ("mean", "variance"), strict=True)]
    attributes = {"epsilon": eps} if eps != 1e-5 else None
    return scope.op("BatchNormalization", [bottom, *weights, *stored], bottom.dims, attributes)


def _affine(scope: Scope, following: Scope | None, channels: int) -> list[Tensor]:
    """Return what multiplies and what is added: by a Scale layer, or here in NVIDIA's Caffe."""
    if following is not None:
        scale = following.weight(0, (channels,), "scale")
        if following.param("scale_param").flag("bias_term", False):
            return [scale, following.weight(1, (channels,), "bias")]
        return [scale, following.constant(np.zeros(channels, np.float32), "bias")]
    if scope.param("batch_norm_param").flag("scale_bias", False):
        return [scope.weight(3, (channels,), "scale"), scope.weight(4, (channels,), "bias")]
    return [
        scope.constant(np.ones(channels, np.float32), "scale"),
        scope.constant(np.zeros(channels, np.float32), "bias"),
    ]


def is_channel_scale(scope: Scope) -> bool:
    """Return whether a Scale layer multiplies each channel by a weight of its own."""
    param = scope.param("scale_param")
    return (
        len(scope.bottoms) == 1
        and param.integer("axis", 1) == 1
        and param.integer("num_axes", 1) == 1
        and scope.bottoms[0].rank >= 2
        and scope.blob_count >= 1
    )


def old_batch_norm(scope: Scope) -> Tensor:
    """BN of SegNet (scale and shift alone) and of PSPNet (with mean and variance)."""
    bottom = scope.bottom()
    channels = _channels(scope, bottom)
    eps = scope.param("bn_param").number("eps", 1e-5)
    if scope.blob_count == 2:
        shape = (channels, *[1] * (bottom.rank - 2))
        found = scope.op("Mul", [bottom, scope.weight(0, shape, "scale")], bottom.dims)
        return scope.op("Add", [found, scope.weight(1, shape, "shift")], bottom.dims)
    names = ("scale", "shift", "mean", "variance")
    weights = [scope.weight(at, (channels,), name) for at, name in enumerate(names)]
    return scope.op("BatchNormalization", [bottom, *weights], bottom.dims, {"epsilon": eps})


def scale(scope: Scope) -> Tensor:
    """X * weight + bias, the weight along some axes, or a second blob."""
    bottom = scope.bottom(1, 2)
    param = scope.param("scale_param")
    factor, shape = _operand(scope, "scale_param", "scale")
    found = scope.op("Mul", [bottom, factor], bottom.dims)
    if param.flag("bias_term", False):
        at = 1 if len(scope.bottoms) == 1 else 0
        bias = scope.weight(at, scope.known(shape), "bias")
        found = scope.op("Add", [found, bias], bottom.dims)
    return found


def bias(scope: Scope) -> Tensor:
    """X + bias, along some axes, or a second blob."""
    bottom = scope.bottom(1, 2)
    term, _ = _operand(scope, "bias_param", "bias")
    return scope.op("Add", [bottom, term], bottom.dims)


def lrn(scope: Scope) -> Tensor:
    """LRN across channels, or x / (1 + alpha * average of squares) ^ beta within each."""
    bottom = scope.bottom()
    param = scope.param("lrn_param")
    size = param.size("local_size", 5)
    alpha, beta, k = param.number("alpha", 1), param.number("beta", 0.75), param.number("k", 1)
    if size % 2 == 0:
        raise scope.refuse(f"its local_size {size} is even", "Caffe takes odd sizes only")
    if bottom.rank != 4:
        raise scope.refuse(f"it reads a blob of {bottom.rank} dimensions", "give it N x C x H x W")
    if param.choice("norm_region", _REGIONS, "ACROSS_CHANNELS") == "ACROSS_CHANNELS":
        attributes = {"size": size, "alpha": alpha, "beta": beta, "bias": k}
        return scope.op("LRN", [bottom], bottom.dims, attributes)
    squares = scope.op("Mul", [bottom, bottom], bottom.dims)
    average = average_pool(scope, squares, square_windows(bottom.dims[2:], size))
    # Caffe leaves k out of account here.
    inner = plus(scope, multiply(scope, average, alpha, "alpha"), 1, "one")
    divisor = scope.op("Pow", [inner, scope.scalar(beta, "beta")], bottom.dims)
    return scope.op("Div", [bottom, divisor], bottom.dims)


def mvn(scope: Scope) -> Tensor:
    """(x - mean) / (standard deviation + eps), over each channel or each sample."""
    bottom = scope.bottom()
    param = scope.param("mvn_param")
    axes = list(range(1 if param.flag("across_channels", False) else 2, bottom.rank))
    if not axes:
        raise scope.refuse("its channels have one value each", "set across_channels: true")
    mean = scope.reduce("ReduceMean", bottom, axes)
    centered = scope.op("Sub", [bottom, mean], bottom.dims)
    eps = param.number("eps", 1e-9)
    if not param.flag("normalize_variance", True):
        return centered
    squares = scope.op("Mul", [centered, centered], bottom.dims)
    variance = scope.reduce("ReduceMean", squares, axes)
    deviation = scope.op("Sqrt", [variance], variance.dims)
    return scope.op("Div", [centered, plus(scope, deviation, eps, "eps")], bottom.dims)


def normalize(scope: Scope) -> Tensor:
    """SSD: x / sqrt(sum of squares + eps) * scale, over the channels or the whole sample."""
    bottom = scope.bottom()
    param = scope.param("norm_param")
    is_shared = param.flag("channel_shared", True)
    axes = list(range(1, bottom.rank)) if param.flag("across_spatial", True) else [1]
    if bottom.rank < 2:
        raise scope.refuse("it has no channels", "give it N x C x ...")
    channels = _channels(scope, bottom)
    squares = scope.reduce("ReduceSumSquare", bottom, axes)
    norm = plus(scope, squares, param.number("eps", 1e-10), "eps")
    found = scope.op("Div", [bottom, scope.op("Sqrt", [norm], norm.dims)], bottom.dims)
    shape = (1,) if is_shared else (channels, *[1] * (bottom.rank - 2))
    return scope.op("Mul", [found, scope.weight(0, shape, "scale")], bottom.dims)


def _channels(scope: Scope, bottom: Tensor) -> int:
    if bottom.rank < 2:
        return 1 if bottom.rank else 0
    (channels,) = scope.known(bottom.dims[1:2])
    return channels


def _standardize(scope: Scope, bottom: Tensor, eps: float) -> Tensor:
    axes = [at for at in range(bottom.rank) if at != 1]
    centered = scope.op("Sub", [bottom, scope.reduce("ReduceMean", bottom, axes)], bottom.dims)
    squares = scope.op("Mul", [centered, centered], bottom.dims)
    variance = plus(scope, scope.reduce("ReduceMean", squares, axes), eps, "eps")
    deviation = scope.op("Sqrt", [variance], variance.dims)
    return scope.op("Div", [centered, deviation], bottom.dims)


def _scaled(following: Scope | None, tensor: Tensor) -> Tensor:
    if following is None:
        return tensor
    following.bottoms = (tensor,)
    return scale(following)


def _operand(scope: Scope, param_name: str, label: str) -> tuple[Tensor, Dims]:
    """Return the second operand, shaped to stand at ``axis``, and its shape before that."""
    bottom = scope.bottoms[0]
    param = scope.param(param_name)
    other = scope.bottoms[1] if len(scope.bottoms) == 2 else None
    axis = param.integer("axis", 1)
    num_axes = param.integer("num_axes", 1)
    if other is not None and other.rank == 0:
        return other, ()
    if num_axes == 0 and other is None:
        return scope.weight(0, (), label), ()
    start = scope.axis(axis, bottom.rank)
    length = other.rank if other is not None else num_axes
    stop = bottom.rank if length == -1 else start + length
    if not start < stop <= bottom.rank:
        raise scope.refuse(
            f"{length} axes from {start} are beyond a blob of {bottom.rank}", "mend the .prototxt"
        )
    behind = (1,) * (bottom.rank - stop)
    if other is None:
        sizes = scope.known(bottom.dims[start:stop])
        return scope.weight(0, (*sizes, *behind), label), sizes + behind
    if other.dims != bottom.dims[start:stop] and count(other.dims) != 1:
        scope.known((*other.dims, *bottom.dims))
        raise scope.refuse(
            f"its second blob has other sizes than axes {start} to {stop - 1} of the first",
            "mend the .prototxt",
        )
    return scope.reshape(other, (*other.dims, *behind)), (*other.dims, *behind)
