"""Layers that work on each value by itself.

Source: BVLC Caffe, src/caffe/layers/*_layer.cpp of each name.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from onnxsmith.pipeline.frontends.caffe.builder import Tensor
from onnxsmith.pipeline.frontends.caffe.scope import BOOL, FLOAT, Scope


def same(scope: Scope) -> list[Tensor]:
    """Dropout at inference and Split: each top is the bottom."""
    return [scope.bottom()] * len(scope.layer.tops)


def relu(scope: Scope) -> Tensor:
    """Relu, or LeakyRelu where the slope is not 0."""
    slope = scope.param("relu_param").number("negative_slope", 0)
    if slope == 0:
        return _plain(scope, "Relu")
    bottom = scope.bottom()
    return scope.op("LeakyRelu", [bottom], bottom.dims, {"alpha": slope})


def relu6(scope: Scope) -> Tensor:
    """Clip from 0 to 6."""
    return _clip(scope, 0.0, scope.param("relu6_param").number("threshold", 6))


def clip(scope: Scope) -> Tensor:
    """Clip."""
    param = scope.param("clip_param")
    if "min" not in param or "max" not in param:
        raise scope.refuse("it has no min or no max", "mend the .prototxt")
    return _clip(scope, param.number("min", 0), param.number("max", 0))


def prelu(scope: Scope) -> Tensor:
    """PRelu with a slope a channel, or one for all."""
    bottom = scope.bottom()
    if scope.param("prelu_param").flag("channel_shared", False):
        slope = scope.weight(0, (1,), "slope")
    else:
        if bottom.rank < 2:
            raise scope.refuse("it has no channels", "give it N x C x ...")
        (channels,) = scope.known(bottom.dims[1:2])
        slope = scope.weight(0, (channels, *[1] * (bottom.rank - 2)), "slope")
    return scope.op("PRelu", [bottom, slope], bottom.dims)


def elu(scope: Scope) -> Tensor:
    """Elu."""
    bottom = scope.bottom()
    alpha = scope.param("elu_param").number("alpha", 1)
    return scope.op("Elu", [bottom], bottom.dims, {"alpha": alpha} if alpha != 1 else None)


def sigmoid(scope: Scope) -> Tensor:
    """1 / (1 + exp(-x))."""
    return _plain(scope, "Sigmoid")


def tanh(scope: Scope) -> Tensor:
    """Tanh."""
    return _plain(scope, "Tanh")


def absolute(scope: Scope) -> Tensor:
    """|x|."""
    return _plain(scope, "Abs")


def bnll(scope: Scope) -> Tensor:
    """log(1 + exp(x))."""
    return _plain(scope, "Softplus")


def swish(scope: Scope) -> Tensor:
    """X * sigmoid(beta * x)."""
    bottom = scope.bottom()
    beta = scope.param("swish_param").number("beta", 1)
    gate = scope.op("Sigmoid", [multiply(scope, bottom, beta, "beta")], bottom.dims)
    return scope.op("Mul", [bottom, gate], bottom.dims)


def power(scope: Scope) -> Tensor:
    """(shift + scale * x) ^ power."""
    bottom = scope.bottom()
    param = scope.param("power_param")
    exponent, scale, shift = (
        param.number("power", 1),
        param.number("scale", 1),
        param.number("shift", 0),
    )
    if exponent == 0 or scale == 0:
        # Caffe gives a constant whatever x is, even NaN.
        try:
            value = 1.0 if exponent == 0 else math.pow(shift, exponent)
        except (ValueError, OverflowError, ZeroDivisionError) as error:
            raise scope.refuse(f"{shift} ^ {exponent} is no number", "mend power_param") from error
        return _fill_like(scope, bottom, value)
    found = plus(scope, multiply(scope, bottom, scale, "scale"), shift, "shift")
    if exponent == 1:
        return found
    return scope.op("Pow", [found, scope.scalar(exponent, "power")], found.dims)


def exponential(scope: Scope) -> Tensor:
    """Base ^ (shift + scale * x), where a base of -1 stands for e."""
    bottom = scope.bottom()
    base, scale, shift = _exponents(scope, "exp_param")
    inner = multiply(scope, bottom, math.log(base) * scale, "scale")
    found = scope.op("Exp", [inner], bottom.dims)
    try:
        outer = math.pow(base, shift)
    except OverflowError as error:
        raise scope.refuse(f"{base} ^ {shift} is beyond float32", "mend exp_param") from error
    return multiply(scope, found, outer, "factor")


def logarithm(scope: Scope) -> Tensor:
    """log(shift + scale * x) to a base, where -1 stands for e."""
    bottom = scope.bottom()
    base, scale, shift = _exponents(scope, "log_param")
    if base == 1:
        raise scope.refuse("there is no logarithm to base 1", "mend log_param")
    inner = plus(scope, multiply(scope, bottom, scale, "scale"), shift, "shift")
    found = scope.op("Log", [inner], bottom.dims)
    return multiply(scope, found, 1 / math.log(base), "factor")


def threshold(scope: Scope) -> Tensor:
    """1 where x is greater than the threshold, else 0."""
    bottom = scope.bottom()
    limit = scope.scalar(scope.param("threshold_param").number("threshold", 0), "threshold")
    above = scope.op("Greater", [bottom, limit], bottom.dims, dtype=BOOL)
    return scope.op("Cast", [above], bottom.dims, {"to": int(FLOAT)})


def multiply(scope: Scope, tensor: Tensor, factor: float, label: str) -> Tensor:
    """Add a Mul by a number, unless that is 1."""
    if factor == 1:
        return tensor
    return scope.op("Mul", [tensor, scope.scalar(factor, label)], tensor.dims)


def plus(scope: Scope, tensor: Tensor, term: float, label: str) -> Tensor:
    """Add an Add of a number, unless that is 0."""
    if term == 0:
        return tensor
    return scope.op("Add", [tensor, scope.scalar(term, label)], tensor.dims)


def _plain(scope: Scope, op_type: str) -> Tensor:
    bottom = scope.bottom()
    return scope.op(op_type, [bottom], bottom.dims)


def _clip(scope: Scope, low: float, high: float) -> Tensor:
    bottom = scope.bottom()
    limits = [scope.scalar(low, "min"), scope.scalar(high, "max")]
    return scope.op("Clip", [bottom, *limits], bottom.dims)


def _fill_like(scope: Scope, bottom: Tensor, value: float) -> Tensor:
    fill = {"value": ir.tensor(np.array([value], np.float32))}
    return scope.op("ConstantOfShape", [scope.shape_like(bottom)], bottom.dims, fill)


def _exponents(scope: Scope, name: str) -> tuple[float, float, float]:
    param = scope.param(name)
    base, scale, shift = (
        param.number("base", -1),
        param.number("scale", 1),
        param.number("shift", 0),
    )
    if base != -1 and base <= 0:
        raise scope.refuse(f"its base is {base}", "give a positive base, or -1 for e")
    return math.e if base == -1 else base, scale, shift
