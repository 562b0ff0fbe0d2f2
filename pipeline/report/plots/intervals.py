"""Ratios with their intervals, against the line that says "no change"."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from onnxsmith.pipeline.report import units
from onnxsmith.pipeline.report.model import Speedup
from onnxsmith.pipeline.report.plots import svg

_ROW = 46.0
_AXIS = 34.0
_MARGIN = 14.0
_TONES = {"faster": "good", "slower": "bad"}


def intervals(rows: Sequence[Speedup], width: int, label: str) -> Markup:
    """Draw a dot and a bar a row on a logarithmic axis; right of 1 is faster."""
    drawn = [row for row in rows if _positive(row.ratio)]
    scale = _scale(drawn, width)
    bottom = len(drawn) * _ROW + 6
    one = scale(1.0)
    # The line at 1 stands behind the dots only, where no text is.
    spans = [(index * _ROW + 20, index * _ROW + 40) for index in range(len(drawn))]
    children = [svg.line(one, top, one, end, "one") for top, end in spans]
    for index, row in enumerate(drawn):
        children += _row(row, scale, index * _ROW, width)
    children += _axis(scale, bottom, width)
    return svg.frame(width, bottom + _AXIS, label, children)


def _scale(rows: Sequence[Speedup], width: int) -> svg.Scale:
    ends = [
        v for row in rows for v in (row.ratio, row.low, row.high) if v is not None and _positive(v)
    ]
    # A hundredfold either way is enough: beyond it, the value in words tells more than the place.
    low = max(min([*ends, 1.0]) / 1.12, 0.01)
    high = min(max([*ends, 1.0]) * 1.12, 100.0)
    return svg.Scale(low, high, _MARGIN, width - _MARGIN, log=True)


def _row(row: Speedup, scale: svg.Scale, top: float, width: int) -> list[Markup]:
    ratio = row.ratio or 1.0
    words = f"{units.times(row.ratio)} {row.verdict}"
    name = f"{row.candidate} against {row.baseline}"
    room = width - svg.text_width(words) - 16
    tone = _TONES.get(row.verdict, "even")
    middle = top + 30
    marks = [
        svg.text(0, top + 14, svg.fit(name, room), "t halo", full=name),
        svg.text(width, top + 14, words, f"t b halo {tone}", anchor="end"),
    ]
    if row.low is not None and row.high is not None and _positive(row.low) and _positive(row.high):
        left, right = scale(row.low), scale(row.high)
        marks.append(svg.line(left, middle, right, middle, f"whisker {tone}"))
        marks += [svg.line(x, middle - 5, x, middle + 5, f"whisker {tone}") for x in (left, right)]
    marks.append(svg.dots([(scale(ratio), middle)], f"dot {tone}"))
    return marks


def _axis(scale: svg.Scale, top: float, width: int) -> list[Markup]:
    marks = [svg.line(scale.start, top, scale.stop, top, "axis")]
    wide_enough = scale.high / scale.low > 4
    wanted = 7 if width > 500 else 4
    values = (
        svg.log_ticks(scale.low, scale.high, wanted)
        if wide_enough
        else svg.ticks(scale.low, scale.high, wanted)
    )
    for value in {*values, 1.0}:
        x = scale(value)
        if value != 1.0 and abs(x - scale(1.0)) < 30:
            continue
        marks.append(svg.line(x, top, x, top + 4, "axis"))
        marks.append(svg.text(x, top + 16, f"{value:g}{units.TIMES}", "t m small", anchor="middle"))
    marks.append(svg.text(0, top + 31, "← slower", "t m small"))
    marks.append(svg.text(width, top + 31, "faster →", "t m small", anchor="end"))
    return marks


def _positive(value: float | None) -> bool:
    return value is not None and math.isfinite(value) and value > 0
