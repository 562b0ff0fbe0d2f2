"""A figure over the epochs of a training run."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from onnxsmith.pipeline.report.plots import svg

_HEIGHT = 210.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 54.0, 14.0, 22.0, 34.0


def curve(
    values: Sequence[float | None], best: int | None, width: int, label: str, color: int = 1
) -> Markup:
    """Draw a value an epoch; what is not finite leaves a gap.

    Args:
        values: From the first epoch to the last.
        best: The epoch to mark, from 0.
        width: Pixels.
        label: What a screen reader says.
        color: The number of the series' color.
    """
    finite = [v for v in values if v is not None and math.isfinite(v)]
    up, across = _up(finite), svg.Scale(1, max(len(values), 2), _LEFT, width - _RIGHT)
    children = _grid(up, across, len(values), width)
    for stretch in _stretches(values):
        points = [(across(index + 1), up(value)) for index, value in stretch]
        if len(points) > 1:
            children.append(svg.path(points, f"edge {svg.series(color)}"))
        children.append(svg.dots(points, f"speck {svg.series(color)}"))
    marked = values[best] if best is not None else None
    if best is not None and marked is not None and math.isfinite(marked):
        children.append(svg.dots([(across(best + 1), up(marked))], "dot good"))
    return svg.frame(width, _HEIGHT, label, children)


def _up(finite: Sequence[float]) -> svg.Scale:
    """Return a scale with a little room; a flat line lies in its middle."""
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    room = (high / 20 - low / 20) or abs(high) / 20 or 1.0
    # Beyond this, neither a difference nor a step between two ticks is a number any more.
    low, high = max(low - room, -1e300), min(high + room, 1e300)
    return svg.Scale(low, high, _HEIGHT - _BOTTOM, _TOP)


def _stretches(values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    found: list[list[tuple[int, float]]] = [[]]
    for index, value in enumerate(values):
        if value is None or not math.isfinite(value):
            found.append([])
        else:
            found[-1].append((index, min(max(value, -1e300), 1e300)))
    return [stretch for stretch in found if stretch]


def _grid(up: svg.Scale, across: svg.Scale, count: int, width: int) -> list[Markup]:
    marks: list[Markup] = []
    for value in svg.ticks(up.low, up.high, 5):
        y = up(value)
        marks.append(svg.line(_LEFT, y, width - _RIGHT, y, "grid"))
        marks.append(svg.text(_LEFT - 6, y + 4, f"{value:.4g}", "t m small", anchor="end"))
    for value in svg.ticks(1, max(count, 2), 8 if width > 500 else 4):
        if value == int(value) and 1 <= value <= count:
            x = across(value)
            marks.append(svg.text(x, _HEIGHT - 18, f"{value:g}", "t m small", anchor="middle"))
    marks.append(svg.text(width - _RIGHT, _HEIGHT - 4, "epoch →", "t m small", anchor="end"))
    return marks
