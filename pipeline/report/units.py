"""Numbers as a reader wants them: three significant digits, a unit, a real minus sign.

The examples are in ASCII; what comes out has the proper signs and non-breaking spaces.
"""

from __future__ import annotations

import math
import re

MISSING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"
NARROW = "\N{NO-BREAK SPACE}"

_RATES = re.compile(
    r"(balanced[-_ ])?(accuracy|precision|recall|f1|top|auc|map|iou|specificity)(?![a-z])"
)
_HIGHER_IS_BETTER = ("r2", "snr")
_LOWER_IS_BETTER = ("loss", "error", "mse", "mae", "rmse", "perplexity", "latency")


def number(value: float | None, digits: int = 3) -> str:
    """Format with significant digits: ``1,234``, ``0.0123``, ``1.2e-7``."""
    if value is None:
        return MISSING
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("∞" if value > 0 else f"{MINUS}∞")
    if value == 0:
        return "0"
    # The exponent after rounding: 0.9996 is 1.00, not 1.000.
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])
    if not -3 <= exponent < 9:
        mantissa, _, power = f"{value:.{digits - 1}e}".partition("e")
        text = f"{mantissa}e{int(power)}"
    else:
        text = f"{value:,.{max(0, digits - 1 - exponent)}f}"
    return text.replace("-", MINUS)


def threshold(value: float | None) -> str:
    """Format a limit that somebody chose, without digits it does not have: ``1e-4``, ``0.025``."""
    if value is None or not math.isfinite(value) or value == 0:
        return number(value)
    mantissa, _, power = f"{value:.2e}".partition("e")
    if -3 <= int(power) < 4:
        return f"{value:.3g}".replace("-", MINUS)
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(power)}".replace("-", MINUS)


def count(value: int | None) -> str:
    """Format a count with thousands separators."""
    return MISSING if value is None else f"{value:,}".replace("-", MINUS)


def size(value: float | None) -> str:
    """Format bytes in decimal units: ``340 kB``, ``1.25 MB``."""
    return _scaled(value, (("B", 1.0), ("kB", 1e3), ("MB", 1e6), ("GB", 1e9), ("TB", 1e12)))


def milliseconds(value: float | None) -> str:
    """Format a duration given in ms: ``812 ns``, ``12.3 µs``, ``1.23 ms``, ``2.05 s``."""
    return _scaled(value, (("ns", 1e-6), ("µs", 1e-3), ("ms", 1.0), ("s", 1e3)))


def seconds(value: float | None) -> str:
    """Format a wall time given in s: ``3.2 ms``, ``12.3 s``, ``2 min 3 s``, ``1 h 20 min``."""
    if value is None or not math.isfinite(value) or value < 99.95:
        return milliseconds(None if value is None else value * 1e3)
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes}{NARROW}min {rest}{NARROW}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}{NARROW}h {minutes}{NARROW}min"


def rate(value: float | None) -> str:
    """Format samples a second: ``12.3 k/s``."""
    return _scaled(value, (("/s", 1.0), ("k/s", 1e3), ("M/s", 1e6), ("G/s", 1e9)))


def percent(value: float | None, digits: int = 2) -> str:
    """Format a share of one: ``97.78 %``."""
    if value is None or not math.isfinite(value):
        return number(value)
    return f"{value * 100:.{digits}f}{NARROW}%".replace("-", MINUS)


def points(value: float | None) -> str:
    """Format a difference of two shares in percentage points, always signed: ``-0.22 points``."""
    if value is None or not math.isfinite(value):
        return number(value)
    text = signed(f"{value * 100:.2f}")
    return "no change" if float(f"{value * 100:.2f}") == 0 else f"{text}{NARROW}points"


def times(value: float | None) -> str:
    """Format a ratio: ``1.80x``, ``0.970x``, ``12x``."""
    if value is None or not math.isfinite(value):
        return number(value)
    return f"{number(value, 2 if abs(value) >= 2 else 3)}{TIMES}"


def span(low: float, high: float) -> str:
    """Format an interval of ratios: ``1.72-1.94``, the dash a real one."""
    return f"{number(low)}{MISSING}{number(high)}"


def change(before: int | None, after: int | None) -> str:
    """Format how a count went: ``42 → 31 (-26 %)``."""
    if before is None or after is None:
        return count(after if before is None else before)
    if before == after or before == 0:
        return f"{count(before)} → {count(after)}"
    share = signed(f"{(after - before) / before * 100:.0f}")
    return f"{count(before)} → {count(after)} ({share}{NARROW}%)"


def signed(text: str) -> str:
    """Put a sign before a formatted number."""
    return text.replace("-", MINUS) if text.startswith("-") else f"+{text}"


def is_rate(name: str, value: float | None = None) -> bool:
    """Say whether a metric is a share of one, to be shown in percent."""
    known = _RATES.match(name.lower()) is not None
    return known and (value is None or not math.isfinite(value) or 0 <= value <= 1)


def metric(name: str, value: float | None) -> str:
    """Format a metric: rates in percent, others with four digits."""
    return percent(value) if is_rate(name, value) else number(value, 4)


def metric_change(name: str, before: float | None, after: float | None) -> str:
    """Format how a metric went: percentage points for rates, a signed difference otherwise."""
    if before is None or after is None:
        return MISSING
    difference = after - before
    if is_rate(name, before) and is_rate(name, after):
        return points(difference)
    if difference == 0:
        return "no change"
    text = number(difference, 3)
    return f"+{text}" if difference > 0 else text


def higher_is_better(name: str) -> bool | None:
    """Say which way a metric is good; None where its name does not tell."""
    lowered = name.lower()
    if any(word in lowered for word in _LOWER_IS_BETTER):
        return False
    return True if is_rate(name) or lowered in _HIGHER_IS_BETTER else None


def _scaled(value: float | None, units: tuple[tuple[str, float], ...]) -> str:
    if value is None or not math.isfinite(value):
        return number(value)
    unit, factor = units[0]
    for name, scale in units:
        # 999.6 would be rounded to four digits, so the next unit starts a little early.
        if abs(value) >= scale * 0.9995:
            unit, factor = name, scale
    scaled = value / factor
    text = f"{scaled:.0f}" if unit == "B" else number(scaled)
    return f"{text}{NARROW}{unit}"
