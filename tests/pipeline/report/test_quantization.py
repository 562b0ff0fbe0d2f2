"""Sections on models of fewer bits: departures, searches and sensitivity."""

import math

import pytest

from onnxsmith.pipeline.report.html import to_html
from onnxsmith.pipeline.report.markdown import to_markdown
from onnxsmith.pipeline.report.model import Report
from onnxsmith.pipeline.report.plots import NARROW, WIDE, front, trace
from onnxsmith.pipeline.report.quantization import (
    Departure,
    LayerCost,
    LayerNoise,
    Search,
    TrialPoint,
)

LAYERS = (
    LayerNoise("conv<1>", "Conv", math.inf, math.inf, 0.0, 0.0),
    LayerNoise("conv<2>", "Conv", 31.5, math.inf, 7e-4, 0.02),
    LayerNoise("gemm", "Gemm", -math.inf, 31.5, math.inf, math.inf),
)
TRIALS = (
    TrialPoint("float32", 10.0, 0.99, 4000, "the input", on_front=True),
    TrialPoint("static", 4.0, 0.985, 1000, "", on_front=True, chosen=True),
    TrialPoint("dynamic", 6.0, 0.2, 1000, "loses too much"),
    TrialPoint("broken", None, math.nan, None, "does not run"),
)
REPORT = Report(
    "int8",
    departures=(Departure("float32", "int8", LAYERS, 2),),
    searches=(Search("accuracy", 0.98, TRIALS),),
    sensitivity=(LayerCost("conv<2>", "Conv", 31.5, 0.001, 2.0, 0.4), LayerCost("x", note="no")),
    sensitivity_note="The drop is of the first 256 <samples>.",
)


def test_the_worst_layer_comes_first_and_unmatched_ones_are_counted():
    text = to_markdown(REPORT)
    table = text[text.index("Layers by the noise") :]
    assert table.index("gemm") < table.index("conv&lt;2&gt;")
    assert "3 tensors were found in both models; 2 were not" in text
    assert "chosen" in text
    assert "98.50" in text


def test_the_drop_of_the_metric_is_drawn_and_explained():
    text = to_markdown(REPORT)
    row = next(line for line in text.splitlines() if line.startswith("| conv&lt;2&gt; | Conv | 31"))
    assert "| 0.00100 |" in row
    assert "The drop is of the first 256 &lt;samples&gt;." in text
    page = to_html(REPORT)
    assert "drop 0.00100  ·  40.0\u00a0% of the time" in page
    assert "256 &lt;samples&gt;" in page


def test_the_page_escapes_names_and_the_data_survives_json():
    page = to_html(REPORT)
    assert "conv<2>" not in page
    assert page.count("<svg") >= 6
    again = Report.from_json(REPORT.to_json())
    assert again.departures == REPORT.departures
    assert again.sensitivity == REPORT.sensitivity


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("trials", [(), TRIALS[:1], TRIALS])
def test_plots_draw_what_is_finite(width, trials):
    assert "nan" not in front(Search("accuracy", 0.98, trials), width, "words")
    assert "nan" not in trace(LAYERS, [2, 1], width, "words")
    assert trace((), [], width, "words").startswith("<svg")


def test_what_none_beats_is_a_dot_as_wide_as_the_others():
    drawn = front(Search("accuracy", 0.98, TRIALS), WIDE, "words")
    (dots,) = [part for part in drawn.split("<path") if 'class="dot s2"' in part]
    assert dots.count("M") == 2
    assert ".plot .dot.s2," in to_html(REPORT)  # or it would have no color
