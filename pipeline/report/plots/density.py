"""Distributions of latency: per model a density, the samples themselves and p50, p90, p99."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from onnxsmith.pipeline.report import units
from onnxsmith.pipeline.report.model import Latency
from onnxsmith.pipeline.report.plots import svg

_HILL = 42.0
_STRIP = 12.0
_AXIS = 40.0
_MARGIN = 16.0
_POINTS = 120
_DOTS = 240
_QUANTILES = (("p50", 50.0), ("p90", 90.0), ("p99", 99.0))

Floats = np.ndarray[tuple[int], np.dtype[np.float64]]


def density(rows: Sequence[tuple[Latency, int]], width: int, label: str) -> Markup:
    """Draw one ridge a model on a shared axis in ms.

    Args:
        rows: Latencies with the number of their series' color; those without samples are left out.
        width: Pixels.
        label: What a screen reader says.
    """
    drawn = [(row, color, _usable(row)) for row, color in rows]
    drawn = [(row, color, samples) for row, color, samples in drawn if samples.size]
    scale = _scale([samples for _, _, samples in drawn], width)
    head = 20.0 if width > 500 else 36.0
    height = head + _HILL + _STRIP + 14
    children = _grid(scale, len(drawn) * height, width)
    for index, (row, color, samples) in enumerate(drawn):
        children += _head(row, samples, index * height, width)
        children += _ridge(samples, scale, index * height + head, svg.series(color))
    children += _legend(len(drawn) * height + 34, width)
    return svg.frame(width, len(drawn) * height + _AXIS, label, children)


def _usable(row: Latency) -> Floats:
    samples = np.asarray(row.samples_ms, dtype=np.float64)
    # Times of a second in a thousand years or of nothing at all are no measurements.
    return samples[np.isfinite(samples) & (samples > 1e-9) & (samples < 1e12)]


def _scale(groups: Sequence[Floats], width: int) -> svg.Scale:
    if not groups:
        return svg.Scale(0.0, 1.0, _MARGIN, width - _MARGIN)
    low = min(float(group.min()) for group in groups)
    # A single hiccup must not squeeze the rest: the axis ends a little after the largest p99.
    tail = max(float(np.percentile(group, 99)) for group in groups)
    high = min(max(float(group.max()) for group in groups), tail * 1.08)
    if high / low > 6:
        return svg.Scale(low / 1.1, high * 1.1, _MARGIN, width - _MARGIN, log=True)
    pad = max((high - low) * 0.06, high * 0.02)
    return svg.Scale(max(low - pad, 0.0), high + pad, _MARGIN, width - _MARGIN)


def _head(row: Latency, samples: Floats, top: float, width: int) -> list[Markup]:
    figures = " · ".join(
        f"{name} {units.milliseconds(float(np.percentile(samples, q)))}" for name, q in _QUANTILES
    )
    if width <= 500:
        return [
            svg.text(0, top + 13, svg.fit(row.model, width), "t b halo", full=row.model),
            svg.text(0, top + 29, figures, "t m small halo"),
        ]
    room = width - svg.text_width(figures) - 16
    return [
        svg.text(0, top + 13, svg.fit(row.model, room), "t b halo", full=row.model),
        svg.text(width, top + 13, figures, "t m halo", anchor="end"),
    ]


def _ridge(samples: Floats, scale: svg.Scale, top: float, css: str) -> list[Markup]:
    base = top + _HILL
    places, heights = _estimate(samples, scale)
    outline = [(x, base - h * (_HILL - 4)) for x, h in zip(places, heights, strict=True)]
    area = [(places[0], base), *outline, (places[-1], base)]
    marks = [svg.path(area, f"hill {css}", close=True), svg.path(outline, f"edge {css}")]
    for name, q in _QUANTILES:
        x = scale(float(np.percentile(samples, q)))
        marks.append(svg.line(x, top + 2, x, base + _STRIP - 1, f"q {name}"))
    marks.append(svg.dots(_strip(samples, scale, base), f"speck {css}"))
    beyond = int((samples > scale.high).sum())
    if beyond:
        words = f"{beyond} more up to {units.milliseconds(float(samples.max()))} →"
        marks.append(
            svg.text(scale.stop + _MARGIN, base + 11, words, "t m small halo", anchor="end")
        )
    return marks


def _estimate(samples: Floats, scale: svg.Scale) -> tuple[list[float], list[float]]:
    """Return places in px and a Gaussian kernel density there, its peak at 1."""
    pixels = np.array([scale(float(value)) for value in samples if value <= scale.high])
    if pixels.size == 0:
        pixels = np.array([scale.stop])
    quartiles = np.percentile(pixels, (25, 75))
    spread = min(float(pixels.std()), float(quartiles[1] - quartiles[0]) / 1.34)
    # Silverman's rule; between 1.5 and 12 px, so that equal samples still make a visible spike.
    width = min(max(0.9 * spread * float(pixels.size) ** -0.2, 1.5), 12.0)
    edges = np.arange(int(scale.start) - 16, int(scale.stop) + 18)
    counts, _ = np.histogram(pixels, bins=edges)
    reach = np.arange(-40, 41)
    kernel = np.exp(-0.5 * (reach / width) ** 2)
    smooth = np.convolve(counts.astype(np.float64), kernel, mode="same")
    centers = edges[:-1] + 0.5
    inside = (centers >= scale.start) & (centers <= scale.stop)
    centers, smooth = centers[inside], smooth[inside]
    step = max(1, centers.size // (2 * _POINTS))
    peak = float(smooth.max()) or 1.0
    return [float(x) for x in centers[::step]], [float(y) / peak for y in smooth[::step]]


def _strip(samples: Floats, scale: svg.Scale, base: float) -> list[tuple[float, float]]:
    """Return up to 240 samples, evenly taken in time, in a band under the density."""
    chosen = samples[:: max(1, -(-samples.size // _DOTS))]
    # A golden-ratio sequence spreads the dots over the band without chance in it.
    return [
        (scale(float(value)), base + 3.5 + (i * 0.618034 % 1) * (_STRIP - 5))
        for i, value in enumerate(chosen)
        if value <= scale.high
    ]


def _grid(scale: svg.Scale, bottom: float, width: int) -> list[Markup]:
    wanted = 8 if width > 500 else 4
    make = svg.log_ticks if scale.log else svg.ticks
    marks = [svg.line(scale.start, bottom, scale.stop, bottom, "axis")]
    for value in make(scale.low, scale.high, wanted):
        x = scale(value)
        marks.append(svg.line(x, 0, x, bottom, "grid"))
        name = units.milliseconds(value) if value else "0"
        marks.append(svg.text(x, bottom + 15, _tick_name(name), "t m small", anchor="middle"))
    return marks


def _tick_name(name: str) -> str:
    """Drop the zeros after the decimal point of a tick: ``0.50 ms`` is ``0.5 ms``."""
    figure, space, unit = name.partition(units.NARROW)
    if "." in figure:
        figure = figure.rstrip("0").rstrip(".")
    return f"{figure}{space}{unit}"


def _legend(y: float, width: int) -> list[Markup]:
    marks, x = [], width - 3 * 52.0
    for name, _ in _QUANTILES:
        marks.append(svg.line(x, y - 10, x, y + 1, f"q {name}"))
        marks.append(svg.text(x + 6, y, name, "t m small"))
        x += 52.0
    marks.append(svg.text(0, y, "a dot is one run", "t m small"))
    return marks
