import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxsmith.pipeline.report import units

NBSP = "\N{NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"
DASH = "\N{EN DASH}"
TIMES = "\N{MULTIPLICATION SIGN}"


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        (units.size, 0, "0 B"),
        (units.size, 999, "999 B"),
        (units.size, 1000, "1.00 kB"),
        (units.size, 340_123, "340 kB"),
        (units.size, 999_600, "1.00 MB"),
        (units.size, 5_412_233, "5.41 MB"),
        (units.size, 2.5e9, "2.50 GB"),
        (units.size, None, DASH),
        (units.milliseconds, 0.000812, "812 ns"),
        (units.milliseconds, 0.0123, "12.3 µs"),
        (units.milliseconds, 1.234, "1.23 ms"),
        (units.milliseconds, 2050, "2.05 s"),
        (units.seconds, 0.31, "310 ms"),
        (units.seconds, 12.34, "12.3 s"),
        (units.seconds, 123, "2 min 3 s"),
        (units.seconds, 4800, "1 h 20 min"),
        (units.rate, 151_200, "151 k/s"),
        (units.percent, 0.97777, "97.78 %"),
        (units.points, -0.0022, f"{MINUS}0.22 points"),
        (units.points, 0.005, "+0.50 points"),
        (units.points, 0.00001, "no change"),
        (units.points, -0.00001, "no change"),
        (units.times, 1.834, f"1.83{TIMES}"),
        (units.times, 3.93, f"3.9{TIMES}"),
        (units.number, 0.9996, "1.00"),
        (units.number, -1234.5, f"{MINUS}1,234"),
        (units.number, 2.4e-7, f"2.40e{MINUS}7"),
        (units.number, math.nan, "NaN"),
        (units.number, -math.inf, f"{MINUS}∞"),
        (units.threshold, 1e-4, f"1e{MINUS}4"),
        (units.threshold, 2.5e-5, f"2.5e{MINUS}5"),
        (units.threshold, 0.025, "0.025"),
        (units.count, 1_337_866, "1,337,866"),
    ],
)
def test_numbers_read_well(function, value, text):
    assert function(value).replace(NBSP, " ") == text


def test_a_count_says_how_it_went():
    assert units.change(42, 31).replace(NBSP, " ") == f"42 → 31 ({MINUS}26 %)"
    assert units.change(9, 21).replace(NBSP, " ") == "9 → 21 (+133 %)"
    assert units.change(9, 9) == "9 → 9"
    assert units.change(0, 4) == "0 → 4"
    assert units.change(None, 4) == "4"


def test_rates_are_in_percent_and_points_and_losses_are_not():
    assert units.metric("f1_macro", 0.9751) == f"97.51{NBSP}%"
    assert units.metric("log_loss", 0.0841) == "0.08410"
    assert units.metric("precision", 97.0) == "97.00"
    assert units.metric_change("accuracy", 0.9778, 0.9756) == f"{MINUS}0.22{NBSP}points"
    assert units.metric_change("log_loss", 0.5, 0.75) == "+0.250"
    assert units.metric_change("log_loss", 0.75, 0.5) == f"{MINUS}0.250"
    assert units.metric_change("log_loss", None, 0.5) == DASH


def test_the_good_way_of_a_metric_is_known_or_left_open():
    assert units.higher_is_better("accuracy") is True
    assert units.higher_is_better("Log-Loss") is False
    assert units.higher_is_better("my_score") is None
    assert units.higher_is_better("snr") is True


def test_only_whole_words_make_a_rate():
    rates = ("f1-weighted", "top-5", "top_1", "balanced_accuracy", "mAP@50", "Recall", "top5")
    assert all(units.is_rate(name) for name in rates)
    assert not any(units.is_rate(name) for name in ("mape", "topology", "rmse", "r2", "snr"))


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_any_float_is_formatted_in_few_characters(value):
    for function in (units.number, units.size, units.milliseconds, units.seconds, units.rate):
        assert 0 < len(function(value)) < 400
    assert "-" not in units.number(value)


@given(st.floats(1e-9, 1e12))
def test_a_formatted_size_is_within_half_a_percent(value):
    figure, unit = units.size(value * 1e3).split(NBSP)
    scale = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}[unit]
    read = float(figure.replace(",", "")) * scale
    assert math.isclose(read, value * 1e3, rel_tol=0.0051, abs_tol=0.5)
