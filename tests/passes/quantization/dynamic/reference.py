"""Dynamic quantization as the operators' specification has it, in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxsmith.passes.quantization.integer_weight import FULL_RANGE, round_to_int8

Array = np.ndarray[Any, Any]


def activation(x: Array) -> Array:
    """Return what DynamicQuantizeLinear leaves of an array."""
    low, high = min(0.0, float(x.min())), max(0.0, float(x.max()))
    scale = np.float32((high - low) / 255)
    zero = np.clip(np.rint(-np.float32(low) / scale), 0, 255)
    rounded = np.clip(np.rint(x / scale) + zero, 0, 255)
    return ((rounded - zero) * np.float64(scale)).astype(np.float64)


def weight(
    array: Array, over: tuple[int, ...], largest: int = FULL_RANGE, *, per_channel: bool = True
) -> Array:
    """Return what rounding to int8 leaves of an array."""
    axes = over if per_channel else tuple(range(array.ndim))
    rounded, scale = round_to_int8(array, axes, largest)
    return rounded * scale.astype(np.float64)
