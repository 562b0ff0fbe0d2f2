"""Histograms counted inside a graph, and the ranges that are chosen from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.quantization.calibration.observe import Reduction, append, constant

Array = np.ndarray[Any, Any]

BINS = 2048

_LEFT_OUT = 1e-5
_TRIALS = 80
_LEAST_SHARE = 0.2


@dataclass(frozen=True)
class Histogram:
    """How many values fell into each of equally wide bins from ``low`` to ``high``."""

    counts: Array
    low: float
    high: float

    @property
    def width(self) -> float:
        """The width of a bin."""
        return (self.high - self.low) / len(self.counts)

    @property
    def centers(self) -> Array:
        """The middle of each bin."""
        return self.low + (np.arange(len(self.counts)) + 0.5) * self.width


def counting(low: float, high: float) -> Reduction:
    """Return the reduction of a value to its counts in ``BINS`` bins, int32."""

    def reduce(graph: ir.Graph, value: ir.Value) -> Sequence[ir.Value]:
        per_unit = np.asarray(BINS / (high - low), np.float32)
        moved = append(graph, "Sub", value, constant(graph, np.asarray(low, np.float32)))
        places = append(graph, "Mul", moved, constant(graph, per_unit))
        flat = append(graph, "Reshape", places, constant(graph, np.array([-1])))
        limits = [constant(graph, np.asarray(limit, np.float32)) for limit in (0, BINS - 1)]
        index = append(graph, "Cast", append(graph, "Clip", flat, *limits), to=7)
        one = constant(graph, np.array([1], np.int32))
        ones = append(graph, "Expand", one, append(graph, "Shape", index))
        none = constant(graph, np.zeros(BINS, np.int32))
        return [append(graph, "ScatterElements", none, index, ones, axis=0, reduction="add")]

    return reduce


def percentile(histogram: Histogram, left_out: float = _LEFT_OUT) -> tuple[float, float]:
    """Return the range without the share ``left_out`` of the values, half of it on each side."""
    share = np.cumsum(histogram.counts) / histogram.counts.sum()
    first = int(np.searchsorted(share, left_out / 2, side="right"))
    last = int(np.searchsorted(share, 1 - left_out / 2, side="left"))
    last = min(last, len(share) - 1)
    return histogram.low + first * histogram.width, histogram.low + (last + 1) * histogram.width


def least_error(histogram: Histogram, levels: int) -> tuple[float, float]:
    """Return the range with the least squared error of rounding and clipping.

    ``sum_i c_i max(0, x_i - high, low - x_i)^2 + n_inside (step / sqrt(12))^2`` over ranges that
    shrink one side, then the other, to a fifth at least.
    """
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    shares = np.linspace(_LEAST_SHARE, 1, _TRIALS)
    for _ in range(2):
        high = min((high * s for s in shares), key=lambda h: _error(histogram, low, h, levels))
        low = min((low * s for s in shares), key=lambda v: _error(histogram, v, high, levels))
    return low, high


def _error(histogram: Histogram, low: float, high: float, levels: int) -> float:
    x = histogram.centers
    beyond = np.maximum(np.maximum(x - high, low - x), 0)
    step = (high - low) / (levels - 1)
    # A value of exactly 0 is never rounded: many layers make nothing else half of the time.
    rounded = np.where((beyond == 0) & (np.abs(x) > histogram.width), step**2 / 12, 0)
    return float(histogram.counts @ (beyond**2 + rounded))


def least_divergence(histogram: Histogram, levels: int) -> tuple[float, float]:
    """Return the range whose quantized distribution diverges least from the clipped one.

    Magnitudes are counted; for each threshold those above are added to the last bin (``p``), the
    bins are merged into as many as there are levels and spread again over those that were not
    empty (``q``), and ``sum p log(p / q)`` is compared.

    Source: Migacz, "8-bit Inference with TensorRT", GTC 2017.
    """
    magnitudes, width = _magnitudes(histogram)
    levels = min(levels if histogram.low >= 0 or histogram.high <= 0 else levels // 2, BINS // 4)
    if len(magnitudes) <= levels:
        return histogram.low, histogram.high
    ends = np.unique(np.linspace(levels, len(magnitudes), _TRIALS).astype(int))
    best = min(ends, key=lambda end: _divergence(magnitudes, int(end), levels))
    threshold = float(best) * width
    return max(histogram.low, -threshold), min(histogram.high, threshold)


def _magnitudes(histogram: Histogram) -> tuple[Array, float]:
    """Return counts of magnitudes in bins from 0, and the width of a bin."""
    largest = max(abs(histogram.low), abs(histogram.high))
    index = np.abs(histogram.centers) / largest * BINS
    counts = np.bincount(
        np.minimum(index.astype(int), BINS - 1), weights=histogram.counts, minlength=BINS
    )
    # Zero is exact in any range, and as often as not the most frequent value by far.
    counts[0] = counts[1]
    return counts, largest / BINS


def _divergence(counts: Array, end: int, levels: int) -> float:
    inside = counts[:end].astype(np.float64)
    clipped = inside.copy()
    clipped[-1] += counts[end:].sum()
    if not clipped.sum():
        return float("inf")
    group = np.minimum(np.arange(end) * levels // end, levels - 1)
    filled = inside > 0
    totals = np.bincount(group, weights=inside, minlength=levels)
    members = np.bincount(group, weights=filled, minlength=levels)
    spread = np.where(filled, (totals / np.maximum(members, 1))[group], 0)
    p, q = clipped / clipped.sum(), spread / max(spread.sum(), 1e-300)
    both = p > 0
    return float(np.sum(p[both] * np.log(p[both] / np.maximum(q[both], 1e-12))))
