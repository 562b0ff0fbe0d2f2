"""Plots as inline SVG: one function a plot, data and a width in pixels in, markup out."""

from onnxsmith.pipeline.report.plots.bars import Bar, bars
from onnxsmith.pipeline.report.plots.curve import curve
from onnxsmith.pipeline.report.plots.density import density
from onnxsmith.pipeline.report.plots.front import front
from onnxsmith.pipeline.report.plots.heatmap import heatmap
from onnxsmith.pipeline.report.plots.intervals import intervals
from onnxsmith.pipeline.report.plots.svg import NARROW, WIDE
from onnxsmith.pipeline.report.plots.trace import trace

__all__ = [
    "NARROW",
    "WIDE",
    "Bar",
    "bars",
    "curve",
    "density",
    "front",
    "heatmap",
    "intervals",
    "trace",
]
