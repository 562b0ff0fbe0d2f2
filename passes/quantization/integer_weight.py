"""Round large weights to int8, a block at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from onnxsmith.passes.match import Array

FULL_RANGE = 127
REDUCED_RANGE = 63
"""The largest integer where a CPU adds two products of uint8 and int8 up in 16 bits."""

_BLOCK_ELEMENTS = 1 << 18  # what stays in a core's cache
_LEAST_SCALE = float(np.finfo(np.float32).tiny)


def round_to_int8(weight: Array, over: Sequence[int], largest: int) -> tuple[Array, Array]:
    """Return ``(q, scale)`` with ``weight`` about ``scale * q``, symmetric around zero.

    Args:
        weight: float32, of rank 1 or more.
        over: The axes that share a scale.
        largest: The largest magnitude of ``q``.

    Returns:
        ``q``, int8, of the weight's shape, rounded to nearest, ties to even; and ``scale``,
        float32, with size 1 along ``over``.
    """
    peak = np.zeros([1 if a in over else n for a, n in enumerate(weight.shape)], np.float32)
    for rows in _blocks(weight):
        part = weight[rows]
        high = np.maximum(
            part.max(axis=tuple(over), keepdims=True, initial=0),
            -part.min(axis=tuple(over), keepdims=True, initial=0),
        )
        target = peak if 0 in over else peak[rows]
        np.maximum(target, high, out=target)
    scale = peak / np.float32(largest)
    scale[scale < _LEAST_SCALE] = 1  # all zeros
    rounded = np.empty(weight.shape, np.int8)
    for rows in _blocks(weight):
        part = weight[rows] / (scale if 0 in over else scale[rows])
        np.rint(part, out=part)
        rounded[rows] = part
    return rounded, scale


def _blocks(weight: Array) -> Iterator[slice]:
    count = len(weight)
    step = max(1, _BLOCK_ELEMENTS * count // max(1, weight.size))
    for start in range(0, count, step):
        yield slice(start, start + step)
