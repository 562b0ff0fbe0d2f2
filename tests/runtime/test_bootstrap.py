import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from onnxsmith.runtime.bootstrap import _resampled_medians, _student_quantile, _tail


@given(st.floats(0.55, 0.999), st.integers(1, 60))
def test_student_quantiles_agree_with_scipy(probability, degrees):
    expected = stats.t.ppf(probability, degrees)
    assert _student_quantile(probability, degrees) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 20])
def test_medians_drawn_directly_are_distributed_as_medians_of_resamples(size):
    samples = np.random.default_rng(size).exponential(1.0, size)
    drawn = _resampled_medians(samples.tolist(), 20_000, np.random.default_rng(1))
    resampled = np.median(np.random.default_rng(2).choice(samples, (20_000, size)), axis=1)
    for fraction in (0.05, 0.25, 0.5, 0.75, 0.95):
        # Each distribution function, read at the other's quantile, must agree to the draw's error.
        point = np.quantile(resampled, fraction)
        assert np.mean(drawn <= point + 1e-12) == pytest.approx(
            np.mean(resampled <= point + 1e-12), abs=0.02
        )
    assert drawn.mean() == pytest.approx(resampled.mean(), abs=0.02)


def test_few_rounds_move_the_percentiles_outward():
    assert _tail(0.95, 1) == pytest.approx(0.025)
    assert _tail(0.95, 5) == pytest.approx(stats.norm.cdf(-np.sqrt(5 / 4) * stats.t.ppf(0.975, 4)))
    assert _tail(0.95, 3) < _tail(0.95, 5) < _tail(0.95, 10) < _tail(0.95, 1000) < 0.025
