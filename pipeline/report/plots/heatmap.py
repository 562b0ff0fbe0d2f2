"""The confusion matrix as a heat map: right answers on the diagonal, mistakes beside it."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from onnxsmith.pipeline.report import units
from onnxsmith.pipeline.report.plots import svg

LARGEST = 40
"""More classes than this are not drawn: the cells would be smaller than a finger or a letter."""

_CELL = 44.0
_DEEP = 0.55


def heatmap(
    matrix: Sequence[Sequence[int]], classes: Sequence[str], width: int, label: str
) -> Markup:
    """Draw the counts; a row is a true class, and its colors are shares of that class.

    Args:
        matrix: Counts, [classes, classes].
        classes: Names, one a row.
        width: Pixels.
        label: What a screen reader says.
    """
    size = len(matrix)
    longest = max((svg.text_width(name, svg.SMALL) for name in classes), default=0.0)
    left = min(max(longest + 10, 28.0), width * 0.28)
    cell = min(_CELL, (width - left - 20) / size)
    top = 38.0
    upright = longest > cell - 2
    below = min(longest, 90.0) if upright else 0.0
    top += below
    children = [
        svg.text(left + cell * size / 2, 13, "predicted class", "t m small", anchor="middle"),
        *_names(classes, left, top, cell, upright),
    ]
    for y, row in enumerate(matrix):
        total = sum(row)
        for x, count in enumerate(row):
            children += _cell(count, total, x == y, (left + x * cell, top + y * cell), cell)
    words = "true class ↑"
    bottom = top + cell * size
    children.append(svg.text(0, bottom + 16, words, "t m small"))
    return svg.frame(max(left + cell * size + 2, 120.0), bottom + 22, label, children)


def _names(
    classes: Sequence[str], left: float, top: float, cell: float, upright: bool
) -> list[Markup]:
    marks: list[Markup] = []
    every = max(1, round(12 / cell + 0.49))
    for index, name in enumerate(classes):
        if index % every:
            continue
        middle = (index + 0.5) * cell
        short = svg.fit(name, left - 8, svg.SMALL)
        marks.append(svg.text(left - 6, top + middle + 4, short, "t small", "end", full=name))
        if not upright:
            marks.append(svg.text(left + middle, top - 6, name, "t small", "middle"))
            continue
        x, y = left + middle + 4, top - 6
        short = svg.fit(name, 84, svg.SMALL)
        turned = svg.text(0, 0, short, "t small", full=name)
        marks.append(
            svg.element("g", (("transform", f"translate({x:.1f} {y:.1f}) rotate(-90)"),), turned)
        )
    return marks


def _cell(
    count: int, total: int, right: bool, at: tuple[float, float], cell: float
) -> list[Markup]:
    share = count / total if total > 0 else 0.0
    # The square root lifts the few mistakes of a good model out of the background.
    depth = share if right else min(1.0, share**0.5)
    gap = min(2.0, cell * 0.08)
    x, y = at
    marks = [svg.rect(x, y, cell - gap, cell - gap, "track")]
    if count > 0:
        css = "hit" if right else "miss"
        marks.append(svg.rect(x, y, cell - gap, cell - gap, css, opacity=max(0.08, depth)))
    words = units.count(count)
    if count > 0 and svg.text_width(words, svg.SMALL) <= cell and cell >= 14:
        css = "t small on" if depth > _DEEP else "t small"
        marks.append(svg.text(x + (cell - gap) / 2, y + (cell - gap) / 2 + 4, words, css, "middle"))
    return marks
