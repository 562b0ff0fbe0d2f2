"""Candidates by what they take and what they keep, with the ones that none beats in both."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from onnxsmith.pipeline.report import units
from onnxsmith.pipeline.report.plots import svg
from onnxsmith.pipeline.report.quantization import Search, TrialPoint

_HEIGHT = 260.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 64.0, 20.0, 24.0, 44.0


def front(search: Search, width: int, label: str) -> Markup:
    """Draw the measured candidates; further left is faster, further up is better."""
    drawn = [t for t in search.trials if _drawable(t)]
    if not drawn:
        return svg.frame(width, 20, label, [svg.text(0, 14, "nothing was measured", "t m")])
    across, up = _scales(drawn, search.limit, width)
    children = _axes(across, up, width, search)
    if search.limit is not None and up.low <= search.limit <= up.high:
        y = up(search.limit)
        children.append(svg.line(_LEFT, y, width - _RIGHT, y, "one"))
        words = "least allowed"
        children.append(svg.text(width - _RIGHT, y + 14, words, "t m small halo", anchor="end"))
    best = sorted((t for t in drawn if t.on_front), key=lambda t: t.latency_ms or 0.0)
    if len(best) > 1:
        children.append(svg.path([_place(t, across, up) for t in best], "edge s2"))
    rest = [_place(t, across, up) for t in drawn if not t.on_front]
    children.append(svg.dots(rest, "dot even"))
    children.append(svg.dots([_place(t, across, up) for t in best], "dot s2"))
    children += [_mark(t, across, up, width) for t in drawn if t.chosen]
    return svg.frame(width, _HEIGHT, label, children)


def _mark(trial: TrialPoint, across: svg.Scale, up: svg.Scale, width: int) -> Markup:
    x, y = _place(trial, across, up)
    anchor = "start" if x < width / 2 else "end"
    return Markup("").join(
        (
            svg.dots([(x, y)], "dot good"),
            svg.text(x, y - 11, svg.fit(trial.name, width / 2), "t b halo", anchor, trial.name),
        )
    )


def _place(trial: TrialPoint, across: svg.Scale, up: svg.Scale) -> tuple[float, float]:
    return across(trial.latency_ms or 0.0), up(_bounded(trial.score))


def _bounded(score: float | None) -> float:
    return 120.0 if score is None or math.isinf(score) else score


def _drawable(trial: TrialPoint) -> bool:
    finite = trial.latency_ms is not None and math.isfinite(trial.latency_ms)
    return finite and trial.score is not None and not math.isnan(trial.score)


def _scales(
    drawn: Sequence[TrialPoint], limit: float | None, width: int
) -> tuple[svg.Scale, svg.Scale]:
    times = [t.latency_ms or 0.0 for t in drawn]
    scores = [_bounded(t.score) for t in drawn]
    high = max(scores)
    # A wrecked candidate must not squeeze the others against the top.
    floor = high - 6 * (high - limit) if limit is not None and high > limit else min(scores)
    low = max(min([*scores, high if limit is None else limit]), floor)
    pad = (high - low) * 0.08 or abs(high) * 0.02 or 1.0
    return (
        svg.Scale(0.0, max(times) * 1.06, _LEFT, width - _RIGHT),
        svg.Scale(low - pad, high + pad, _HEIGHT - _BOTTOM, _TOP),
    )


def _axes(across: svg.Scale, up: svg.Scale, width: int, search: Search) -> list[Markup]:
    marks = [svg.text(0, 12, search.score, "t m small")]
    for value in svg.ticks(up.low, up.high, 5):
        y = up(value)
        marks.append(svg.line(_LEFT, y, width - _RIGHT, y, "grid"))
        text = units.metric(search.score, value)
        marks.append(svg.text(_LEFT - 6, y + 4, text, "t m small", anchor="end"))
    bottom = _HEIGHT - _BOTTOM
    marks.append(svg.line(_LEFT, bottom, width - _RIGHT, bottom, "axis"))
    for value in svg.ticks(across.low, across.high, 6 if width > 500 else 4):
        x = across(value)
        marks.append(svg.line(x, bottom, x, bottom + 4, "axis"))
        text = units.milliseconds(value) if value else "0"
        marks.append(svg.text(x, bottom + 17, text, "t m small", anchor="middle"))
    marks.append(svg.text(_LEFT, _HEIGHT - 8, "← faster", "t m small"))
    return marks
