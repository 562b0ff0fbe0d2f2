"""Numbers as small integers: scales, zero points, and rounding to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

Array = np.ndarray[Any, Any]

LIMITS: dict[ir.DataType, tuple[int, int]] = {
    ir.DataType.UINT4: (0, 15),
    ir.DataType.INT4: (-8, 7),
    ir.DataType.UINT8: (0, 255),
    ir.DataType.INT8: (-128, 127),
    ir.DataType.UINT16: (0, 65535),
    ir.DataType.INT16: (-32768, 32767),
    ir.DataType.INT32: (-(2**31), 2**31 - 1),
}

# Below this a scale would be a subnormal number, which some devices take for zero.
_LEAST_SCALE = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Affine:
    """How integers stand for numbers: ``x = scale * (q - zero)``.

    Attributes:
        dtype: The type of ``q``.
        scale: float32, one number or one for each channel.
        zero: The integer that stands for 0, int64, shaped like ``scale``.
        axis: The axis of the channels; None for one scale.
    """

    dtype: ir.DataType
    scale: Array
    zero: Array
    axis: int | None = None

    def quantize(self, x: Array) -> Array:
        """Return the nearest integers (ties to even, as QuantizeLinear), clipped to the type."""
        scale, zero = self._spread(x.ndim)
        low, high = LIMITS[self.dtype]
        rounded = np.rint(np.asarray(x, np.float32) / scale) + zero
        clipped: Array = np.clip(rounded, low, high)
        return clipped.astype(self.dtype.numpy())

    def dequantize(self, q: Array) -> Array:
        """Return the numbers that integers stand for, float32."""
        scale, zero = self._spread(q.ndim)
        return ((q.astype(np.int64) - zero) * scale).astype(np.float32)

    def _spread(self, rank: int) -> tuple[Array, Array]:
        """Return scale and zero point shaped to broadcast over a tensor of this rank."""
        if self.axis is None:
            return self.scale, self.zero
        shape = [1] * rank
        shape[self.axis] = -1
        return self.scale.reshape(shape), self.zero.reshape(shape)


def fit_range(
    low: Array | float, high: Array | float, dtype: ir.DataType, symmetric: bool
) -> Affine:
    """Return what covers the range from ``low`` to ``high``, and 0, which is always exact.

    Symmetric types keep their zero point in the middle and do not use their lowest integer, so
    that a number and its negative are equally far from it.
    """
    low = np.minimum(np.asarray(low, np.float64), 0.0)
    high = np.maximum(np.asarray(high, np.float64), 0.0)
    least, most = LIMITS[dtype]
    if symmetric:
        middle = (least + most + 1) // 2
        scale = np.maximum(-low, high) / (most - middle)
        zero = np.full(scale.shape, middle, np.int64)
        return Affine(dtype, _usable(scale), zero)
    scale = _usable((high - low) / (most - least))
    zero = np.clip(np.rint(least - low / scale), least, most).astype(np.int64)
    return Affine(dtype, scale, zero)


def fit_weight(
    weight: Array, dtype: ir.DataType, axis: int | None, *, reduce_range: bool = False
) -> Affine:
    """Return a symmetric scale for a weight, one for each channel along ``axis`` if given.

    ``reduce_range`` leaves a bit unused: products of uint8 and int8 that older x86 CPUs add up in
    16 bits cannot overflow then.
    """
    others = None if axis is None else tuple(i for i in range(weight.ndim) if i != axis)
    largest = np.abs(weight).max(axis=others, initial=0).astype(np.float64)
    affine = fit_range(-largest, largest, dtype, symmetric=True)
    scale = affine.scale * np.float32(2) if reduce_range else affine.scale
    return Affine(dtype, scale, affine.zero, axis)


def _usable(scale: Array) -> Array:
    """Return scales as float32, with 1 where everything is 0."""
    scale = np.asarray(scale)
    return np.where(scale < _LEAST_SCALE, 1.0, scale).astype(np.float32)
