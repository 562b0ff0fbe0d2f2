"""Ranges chosen from histograms, against what was counted by hand or searched exhaustively."""

import numpy as np
import pytest

from onnxsmith.passes.quantization.calibration.histogram import (
    BINS,
    Histogram,
    least_divergence,
    least_error,
    percentile,
)

RNG = np.random.default_rng(4)


def test_half_of_what_is_left_out_lies_on_each_side() -> None:
    counts = np.array([30, 30, 0, 880, 0, 0, 0, 0, 40, 20])
    histogram = Histogram(counts, -1.0, 4.0)  # bins of width 0.5
    # 5 % on each side: 3 % lie in the first bin, 2 % in the last.
    assert percentile(histogram, 0.1) == (-0.5, 3.5)
    # 3 % on each side: the first bin is just what may go.
    assert percentile(histogram, 0.06) == (-0.5, 3.5)
    assert percentile(histogram, 0.05) == (-1.0, 3.5)
    assert percentile(histogram, 0.0) == (-1.0, 4.0)


def error(histogram: Histogram, low: float, high: float, levels: int) -> float:
    """The squared error of clipping, and of rounding but at 0, one bin at a time."""
    step, total = (high - low) / (levels - 1), 0.0
    for index, count in enumerate(histogram.counts):
        x = histogram.low + (index + 0.5) * histogram.width
        if x > high:
            total += count * (x - high) ** 2
        elif x < low:
            total += count * (low - x) ** 2
        elif abs(x) > histogram.width:
            total += count * step**2 / 12
    return total


def counted(values: np.ndarray, bins: int = 120) -> Histogram:
    counts, edges = np.histogram(values, bins)
    return Histogram(counts, float(edges[0]), float(edges[-1]))


DISTRIBUTIONS = {
    "two tails": np.concatenate([RNG.laplace(size=4000), [25, -9]]),
    "one tail": np.abs(RNG.standard_t(3, 4000)),
    "mostly zero": np.concatenate([np.zeros(50000), RNG.exponential(size=500)]),
    "negative": -np.abs(RNG.laplace(size=3000)),
}


@pytest.mark.parametrize("levels", [16, 256])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_no_other_range_has_a_smaller_error(name: str, levels: int) -> None:
    histogram = counted(DISTRIBUTIONS[name])
    low, high = least_error(histogram, levels)
    shares = np.linspace(0.04, 1, 41)
    lows = [min(histogram.low, 0) * share for share in shares]
    highs = [max(histogram.high, 0) * share for share in shares]
    best = min(error(histogram, a, b, levels) for a in set(lows) for b in set(highs) if b > a)
    assert error(histogram, low, high, levels) <= 1.03 * best


def test_few_integers_cost_as_much_as_they_are_few() -> None:
    histogram = counted(DISTRIBUTIONS["one tail"])
    low, high = least_error(histogram, 3)
    highs = [histogram.high * share for share in np.linspace(0.04, 1, 97)]
    best = min(error(histogram, 0, b, 3) for b in highs)
    assert low == 0
    assert error(histogram, 0, high, 3) <= 1.01 * best


def test_ranges_hold_0_whatever_the_values() -> None:
    low, high = least_error(Histogram(np.array([5, 9, 5]), 2.0, 4.0), 256)
    assert low == 0
    assert 3.6 < high <= 4
    low, high = least_error(Histogram(np.array([5, 9, 5]), -4.0, -2.0), 256)
    assert -4 <= low < -3.6
    assert high == 0


def test_signs_cost_half_of_the_levels() -> None:
    magnitudes = np.bincount(
        np.minimum(RNG.exponential(120, 30000), BINS - 1).astype(int), minlength=BINS
    )
    pairs = magnitudes.reshape(-1, 2).sum(axis=1)
    one = Histogram(pairs, 0.0, 8.0)
    both = Histogram(np.concatenate([pairs[::-1], pairs]), -8.0, 8.0)
    low, high = least_divergence(both, 128)
    assert low == -high
    half, whole = least_divergence(one, 64), least_divergence(one, 128)
    assert abs(half[1] - whole[1]) > 0.5  # or the comparison below would say nothing
    assert high == pytest.approx(half[1], abs=0.01)
