"""Horizontal bars: one amount a model, from zero."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from onnxsmith.pipeline.report.plots import svg

_ROW = 40.0
_BAR = 14.0


@dataclass(frozen=True)
class Bar:
    """One bar: its name, how long it is, the value and a remark in words, its series' number."""

    name: str
    value: float
    label: str
    note: str = ""
    series: int = 0


def bars(items: Sequence[Bar], width: int, label: str) -> Markup:
    """Draw bars under each other; values that are not finite and positive get no bar."""
    highest = max((b.value for b in items if math.isfinite(b.value)), default=0.0)
    children: list[Markup] = []
    for index, bar in enumerate(items):
        children += _row(bar, highest, index * _ROW, width)
    return svg.frame(width, max(1.0, len(items) * _ROW - 4), label, children)


def _row(bar: Bar, highest: float, top: float, width: int) -> list[Markup]:
    words = f"{bar.label}  ·  {bar.note}" if bar.note else bar.label
    room = width - svg.text_width(words) - 16
    share = bar.value / highest if highest > 0 and math.isfinite(bar.value) else 0.0
    length = max(0.0, share) * width
    marks = [
        svg.text(0, top + 13, svg.fit(bar.name, room), "t", full=bar.name),
        svg.text(width, top + 13, words, "t m", anchor="end"),
        svg.rect(0, top + 19, width, _BAR, "track"),
    ]
    if length > 0:
        marks.append(svg.rect(0, top + 19, max(1.5, length), _BAR, svg.series(bar.series)))
    return marks
