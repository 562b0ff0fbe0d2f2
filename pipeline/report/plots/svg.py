"""Small helpers to write SVG: elements, text that fits, scales and ticks.

Plots are written by hand instead of with matplotlib: a tenth of the bytes, real text, and colors
that are CSS variables, so that the page's dark mode and print styles hold inside them as well.
Text is sized in pixels of the viewBox; the plots are drawn once for a page's width and once for a
phone's, so that it stays readable in both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from onnxsmith.pipeline.report.text import one_line, shorten

WIDE = 772
NARROW = 336
TEXT = 12.0
SMALL = 11.0
# Mean advance of a proportional sans-serif face, in em; a little wide to be safe.
_EM = 0.58
SERIES = 6
"""How many series colors the style sheet has."""


@dataclass(frozen=True)
class Scale:
    """Maps values to pixels, linearly or by logarithm."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the pixel of ``value``, held inside the range."""
        low, high, at = self.low, self.high, min(max(value, self.low), self.high)
        if self.log:
            low, high, at = math.log(low), math.log(high), math.log(at)
        # Divide first: the difference of two huge values times a width may overflow.
        share = (at - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.stop - self.start)


def element(name: str, attributes: Iterable[tuple[str, object]], *children: str) -> Markup:
    """Return one element; attribute values and plain strings are escaped."""
    head = Markup("").join(Markup(' {}="{}"').format(key, _plain(v)) for key, v in attributes)
    body = Markup("").join(escape(child) for child in children)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), head, body)


def frame(width: float, height: float, label: str, children: Iterable[Markup]) -> Markup:
    """Return the ``<svg>`` around a plot; ``label`` is what a screen reader says."""
    attributes = (
        ("class", "plot"),
        ("viewBox", f"0 0 {_plain(width)} {_plain(height)}"),
        ("width", width),
        ("height", height),
        ("role", "img"),
        ("aria-label", label),
    )
    return element("svg", attributes, *children)


def text(
    x: float, y: float, content: str, css: str = "", anchor: str = "start", full: str = ""
) -> Markup:
    """Return a line of text on its baseline; ``full`` is shown by pointing where it was cut."""
    attributes = [("x", x), ("y", y), ("text-anchor", anchor), ("class", css or "t")]
    tip = (element("title", (), shorten(full)),) if full and full != content else ()
    return element("text", attributes, content, *tip)


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> Markup:
    """Return a straight line."""
    return element(
        "path", (("d", f"M{_plain(x1)} {_plain(y1)}L{_plain(x2)} {_plain(y2)}"), ("class", css))
    )


def rect(x: float, y: float, width: float, height: float, css: str, opacity: float = 1.0) -> Markup:
    """Return a rectangle with slightly round corners."""
    attributes: list[tuple[str, object]] = [
        ("x", x),
        ("y", y),
        ("width", width),
        ("height", height),
    ]
    attributes += [("rx", min(2.0, width / 2)), ("class", css)]
    if opacity < 1:
        attributes.append(("fill-opacity", opacity))
    return element("rect", attributes)


def path(points: Sequence[tuple[float, float]], css: str, close: bool = False) -> Markup:
    """Return a line through ``points``, or the area inside it."""
    steps = "L".join(f"{_plain(x)} {_plain(y)}" for x, y in points)
    return element("path", (("d", f"M{steps}{'Z' if close else ''}"), ("class", css)))


def dots(points: Iterable[tuple[float, float]], css: str) -> Markup:
    """Return many dots as one path: no-length strokes with round caps take few bytes each."""
    steps = "".join(f"M{_plain(x)} {_plain(y)}h0" for x, y in points)
    return element("path", (("d", steps), ("class", css)))


def fit(content: str, width: float, size: float = TEXT) -> str:
    """Cut ``content`` in its middle so that it takes at most ``width`` pixels."""
    room = max(3, int(width / (size * _EM)))
    content = one_line(content)
    if len(content) <= room:
        return content
    head = room // 2
    return f"{content[:head]}…{content[len(content) - (room - 1 - head) :]}"


def text_width(content: str, size: float = TEXT) -> float:
    """Estimate how wide a text comes out, in pixels."""
    return len(content) * size * _EM


def ticks(low: float, high: float, wanted: int) -> tuple[float, ...]:
    """Return round values between ``low`` and ``high``: steps of 1, 2 or 5 times a power of ten."""
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return (low,)
    raw = span / max(1, wanted)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next((m * power for m in (1, 2, 5) if m * power >= raw), 10 * power)
    first, last = math.ceil(low / step), math.floor(high / step)
    if not 0 <= last - first <= 4 * wanted + 4:
        return (low,)
    # Rounding may carry a product beyond the end that it stands for.
    return tuple(min(max(i * step, low), high) for i in range(first, last + 1))


def log_ticks(low: float, high: float, wanted: int) -> tuple[float, ...]:
    """Return 1-2-5 values between ``low`` and ``high`` (positive), about ``wanted`` of them."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    if last - first > wanted:
        step = math.ceil((last - first) / wanted)
        values = [10.0**e for e in range(first, last + 1, step)]
    else:
        values = [m * 10.0**e for e in range(first, last + 1) for m in (1, 2, 5)]
    inside = tuple(v for v in values if low * 0.999 <= v <= high * 1.001)
    if len(inside) > wanted:
        decades = tuple(v for v in inside if math.isclose(math.log10(v) % 1, 0, abs_tol=1e-9))
        inside = decades if len(decades) >= 2 else inside[:: math.ceil(len(inside) / wanted)]
    return inside or (low,)


def series(index: int) -> str:
    """Return the style class of the ``index``-th model's color."""
    return f"s{index % SERIES}"


def _plain(value: object) -> object:
    """Write numbers with at most one decimal and never as an exponent."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if not math.isfinite(value):
        raise ValueError("a coordinate must be finite")
    rounded = f"{value:.2f}" if abs(value) < 1 else f"{value:.1f}"
    return rounded.rstrip("0").rstrip(".") or "0"
