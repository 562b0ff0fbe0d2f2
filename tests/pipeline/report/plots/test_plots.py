"""Every plot stays inside its frame, whatever the figures are."""

import math
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from onnxsmith.pipeline.report.model import Latency, Speedup
from onnxsmith.pipeline.report.plots import (
    NARROW,
    WIDE,
    Bar,
    bars,
    curve,
    density,
    heatmap,
    intervals,
)
from onnxsmith.pipeline.report.plots.svg import Scale, fit, log_ticks, ticks

HOSTILE = "</svg><script>\"'&"
widths = st.sampled_from([WIDE, NARROW])
names = st.sampled_from(["fp32", "", HOSTILE, "encoder/" * 700])
times = st.floats(1e-4, 1e6)
wild = st.floats(allow_nan=True, allow_infinity=True)


def marks(svg):
    """Parse as XML and return (root, [(x, y)] of everything drawn); numbers must be plain."""
    root = ET.fromstring(svg)
    points = []
    for node in root.iter():
        assert node.tag in ("svg", "path", "rect", "text", "title", "g")
        if node.tag == "rect":
            x, y, w, h = (float(node.get(k)) for k in ("x", "y", "width", "height"))
            assert w >= 0
            assert h >= 0
            points += [(x, y), (x + w, y + h)]
        if node.tag == "text" and node.get("x") != "0" and node.get("y") != "0":
            points.append((float(node.get("x")), float(node.get("y"))))
        if node.tag == "path":
            found = re.findall(r"(-?[\d.]+) (-?[\d.]+)", node.get("d"))
            points += [(float(x), float(y)) for x, y in found]
            assert "e" not in node.get("d")
            assert "nan" not in node.get("d")
    return root, points


def assert_inside(svg, width):
    root, points = marks(svg)
    _, _, w, h = (float(v) for v in root.get("viewBox").split())
    assert 0 < w <= width + 0.05
    assert 0 < h < 20_000
    assert root.get("role") == "img"
    assert root.get("aria-label")
    for x, y in points:
        assert math.isfinite(x)
        assert math.isfinite(y)
        assert -0.6 <= x <= w + 0.6
        assert -0.6 <= y <= h + 0.6


samples = st.one_of(
    st.lists(times, min_size=1, max_size=40),
    st.lists(wild, min_size=0, max_size=6),
    st.tuples(times, st.integers(1, 50)).map(lambda p: [p[0]] * p[1]),
    st.tuples(times, st.floats(1, 1e12)).map(lambda p: [p[0]] * 20 + [p[0] * p[1]]),
)


@given(st.lists(st.tuples(names, samples), max_size=4), widths)
@settings(max_examples=80, deadline=None)
def test_density_stays_inside(rows, width):
    drawn = [(Latency(name, tuple(values)), i) for i, (name, values) in enumerate(rows)]
    assert_inside(density(drawn, width, "label"), width)


def test_density_marks_the_quantiles_at_their_places():
    values = tuple(1 + i / 100 for i in range(101))
    root, _ = marks(density([(Latency("m", values), 0)], WIDE, "label"))
    found = [(n.get("class"), n.get("d")) for n in root.iter("path")]
    # The legend draws the same marks last, so the first of each class counts.
    place = {css: float(re.match(r"M([\d.]+)", d)[1]) for css, d in reversed(found)}
    ends = [float(re.match(r"M([\d.]+)", d)[1]) for css, d in found if css == "grid"]
    labels = [n.text.split("\N{NO-BREAK SPACE}")[0] for n in root.iter("text") if n.text]
    ticks_ms = [float(text) for text in labels if re.fullmatch(r"[\d.]+", text)]
    slope = (ends[-1] - ends[0]) / (ticks_ms[-1] - ticks_ms[0])
    assert place["q p50"] == pytest.approx(ends[0] + slope * (1.5 - ticks_ms[0]), abs=0.5)
    assert place["q p90"] == pytest.approx(ends[0] + slope * (1.9 - ticks_ms[0]), abs=0.5)
    assert place["q p99"] == pytest.approx(ends[0] + slope * (1.99 - ticks_ms[0]), abs=0.5)


def test_density_says_what_lies_beyond_the_axis():
    values = (1.0,) * 200 + (50.0,)
    svg = density([(Latency("m", values), 0)], WIDE, "label")
    assert "1 more up to 50.0\N{NO-BREAK SPACE}ms" in svg


@given(
    st.lists(
        st.builds(Speedup, names, names, st.none() | wild, st.none() | wild, st.none() | wild),
        max_size=5,
    ),
    widths,
)
@settings(max_examples=80, deadline=None)
def test_intervals_stay_inside(rows, width):
    assert_inside(intervals(rows, width, "label"), width)


def test_faster_lies_right_of_one_and_slower_left():
    rows = [Speedup("a", "b", 2.0, 1.9, 2.1, "faster"), Speedup("a", "c", 0.5, 0.4, 0.6, "slower")]
    root, _ = marks(intervals(rows, WIDE, "label"))
    at = {n.get("class"): float(re.match(r"M([\d.]+)", n.get("d"))[1]) for n in root.iter("path")}
    assert at["dot bad"] < at["one"] < at["dot good"]
    # Logarithmic: half as fast is as far from 1 as twice as fast.
    assert at["one"] - at["dot bad"] == pytest.approx(at["dot good"] - at["one"], abs=0.2)


@given(
    st.lists(st.builds(Bar, names, wild, st.just("5.4 MB"), st.just("3x less")), max_size=5), widths
)
@settings(max_examples=60, deadline=None)
def test_bars_stay_inside(items, width):
    assert_inside(bars(items, width, "label"), width)


def test_bars_are_as_long_as_their_values():
    root, _ = marks(bars([Bar("a", 100.0, "100"), Bar("b", 25.0, "25", series=1)], 400, "label"))
    lengths = {n.get("class"): float(n.get("width")) for n in root.iter("rect")}
    assert lengths["s0"] == 400
    assert lengths["s1"] == 100


@given(st.integers(2, 40), widths, names, st.data())
@settings(max_examples=40, deadline=None)
def test_heatmap_stays_inside(size, width, name, data):
    counts = st.sampled_from([0, 1, 7, 1234, 10**9])
    row = data.draw(st.lists(counts, min_size=size, max_size=size))
    matrix = [row[i:] + row[:i] for i in range(size)]
    assert_inside(heatmap(matrix, [f"{name}{i}" for i in range(size)], width, "label"), width)


def test_heatmap_colors_right_and_wrong_apart():
    root, _ = marks(heatmap([[9, 1], [0, 4]], ["a", "b"], NARROW, "label"))
    cells = [(n.get("class"), n.get("fill-opacity")) for n in root.iter("rect")]
    assert cells.count(("hit", "0.9")) == 1
    assert cells.count(("hit", None)) == 1
    assert [c for c in cells if c[0] == "miss"] == [("miss", "0.32")]


def test_names_are_escaped_and_cut():
    svg = bars([Bar(HOSTILE + "x" * 5000, 1.0, "1")], NARROW, HOSTILE)
    assert "<script" not in svg
    assert len(svg) < 2000


@example(-29.0, 1e-09, 2)
@given(st.floats(-1e12, 1e12), st.floats(1e-9, 1e12), st.integers(2, 9))
def test_ticks_are_few_ascending_and_inside(low, span, wanted):
    high = low + span
    found = ticks(low, high, wanted)
    assert 1 <= len(found) <= 4 * wanted + 5
    assert list(found) == sorted(found)
    assert all(low - 1e-6 * abs(span) <= v <= high + 1e-6 * abs(span) for v in found)


@given(st.floats(1e-9, 1e9), st.floats(1.01, 1e12), st.integers(3, 9))
def test_log_ticks_are_few_and_inside(low, factor, wanted):
    found = log_ticks(low, low * factor, wanted)
    assert 1 <= len(found) <= 2 * wanted + 2
    assert all(low * 0.998 <= v <= low * factor * 1.002 for v in found)


def test_a_scale_holds_its_ends_and_takes_huge_ranges():
    assert Scale(1, 100, 0, 10, log=True)(10) == pytest.approx(5)
    assert Scale(0, 4, 10, 20)(9) == 20
    assert Scale(3, 3, 0, 10)(3) == 5


@given(st.text(max_size=60), st.floats(0, 300))
def test_fitted_text_is_short_enough(text, width):
    assert len(fit(text, width)) <= max(3, int(width / (12 * 0.58)))


@settings(deadline=None, max_examples=60)
@given(
    width=widths,
    values=st.lists(st.one_of(st.none(), wild), max_size=30),
    best=st.integers(0, 29),
)
def test_a_curve_stays_inside_its_frame(width, values, best):
    assert_inside(curve(values, best if best < len(values) else None, width, "words"), width)
