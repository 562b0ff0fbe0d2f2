"""Signal to noise along a network, from its input to its output."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from onnxsmith.pipeline.report.plots import svg
from onnxsmith.pipeline.report.quantization import LayerNoise

_HEIGHT = 210.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 44.0, 14.0, 22.0, 34.0
# Beyond this, two tensors are as good as equal.
_HIGHEST = 120.0
_LOWEST = -20.0


def trace(layers: Sequence[LayerNoise], marked: Sequence[int], width: int, label: str) -> Markup:
    """Draw the signal to noise of each layer, and number the marked ones.

    Args:
        layers: In the order of computation.
        marked: Positions of those that add most noise, the worst first.
        width: Pixels.
        label: What a screen reader says.
    """
    levels = [_held(layer.snr_db) for layer in layers]
    scale = _scale(levels)
    across = svg.Scale(0, max(len(levels) - 1, 1), _LEFT, width - _RIGHT)
    points = [(across(index), scale(level)) for index, level in enumerate(levels)]
    children = _grid(scale, width)
    if len(points) > 1:
        children.append(svg.path(points, "edge s2"))
    children.append(svg.dots(points, "speck s2"))
    taken: list[float] = []
    for rank, index in enumerate(marked, start=1):
        x, y = points[index]
        children.append(svg.dots([(x, y)], "dot bad"))
        # Numbers on top of each other cannot be read; the table has all of them.
        if all(abs(x - other) > 14 for other in taken):
            children.append(svg.text(x, y - 9, str(rank), "t b halo bad", anchor="middle"))
            taken.append(x)
    children.append(svg.text(_LEFT, _HEIGHT - 8, "← input", "t m small"))
    children.append(svg.text(width - _RIGHT, _HEIGHT - 8, "output →", "t m small", anchor="end"))
    return svg.frame(width, _HEIGHT, label, children)


def _held(level: float | None) -> float:
    if level is None or math.isnan(level):
        return _HIGHEST
    return min(max(level, _LOWEST), _HIGHEST)


def _scale(levels: Sequence[float]) -> svg.Scale:
    low = min([*levels, 30.0])
    high = max([*levels, 40.0])
    return svg.Scale(math.floor(low / 10) * 10, math.ceil(high / 10) * 10, _HEIGHT - _BOTTOM, _TOP)


def _grid(scale: svg.Scale, width: int) -> list[Markup]:
    marks = [svg.text(0, 12, "SNR in dB", "t m small")]
    for value in svg.ticks(scale.low, scale.high, 5):
        y = scale(value)
        marks.append(svg.line(_LEFT, y, width - _RIGHT, y, "grid"))
        text = f"≥ {value:g}" if value >= _HIGHEST else f"{value:g}"
        marks.append(svg.text(_LEFT - 6, y + 4, text, "t m small", anchor="end"))
    return marks
