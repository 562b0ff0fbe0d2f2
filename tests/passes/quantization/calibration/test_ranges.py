"""Ranges of values, found inside the graph, against numpy's of the values themselves."""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
import pytest

from onnxsmith.errors import SmithError
from onnxsmith.passes.quantization.calibration.histogram import (
    BINS,
    Histogram,
    counting,
    least_divergence,
    least_error,
)
from onnxsmith.passes.quantization.calibration.observe import observe
from onnxsmith.passes.quantization.calibration.ranges import (
    METHODS,
    Method,
    Ranges,
    measure_ranges,
)

RNG = np.random.default_rng(5)
BATCHES = [RNG.standard_normal((8, 500)).astype(np.float32) * s for s in (1.0, 3.0, 2.0)]
ALL = np.concatenate(BATCHES)
TEXT = """
<ir_version: 10, opset_import: ["" : %d]>
g (float[N,500] x) => (float[N,500] y) { t = Neg(x) y = Relu(t) }
"""


def model(opset: int = 20) -> ir.Model:
    return ir.from_onnx_text(TEXT % opset)


def stream(batches: list[np.ndarray] | None = None) -> Iterator[dict[str, np.ndarray]]:
    for batch in BATCHES if batches is None else batches:
        yield {"x": batch}


def ranges(method: Method, names: list[str], **options: int) -> Ranges:
    return measure_ranges(model(), names, stream, method, options.get("limit", 99), 256)


@pytest.mark.parametrize("opset", [11, 13, 20])
def test_minmax_covers_all_batches(opset: int) -> None:
    found = measure_ranges(model(opset), ["x", "t", "y"], stream, "minmax", 99, 256)
    assert found.samples == 24
    assert found.ranges["x"] == (ALL.min(), ALL.max())
    assert found.ranges["t"] == (-ALL.max(), -ALL.min())
    assert found.ranges["y"] == (0, -ALL.min())


def test_moving_average_follows_the_batches() -> None:
    low, high = ranges("moving-average", ["x"]).ranges["x"]
    wanted = np.array([BATCHES[0].min(), BATCHES[0].max()])
    for batch in BATCHES[1:]:
        wanted = 0.9 * wanted + 0.1 * np.array([batch.min(), batch.max()])
    assert [low, high] == pytest.approx(wanted, rel=1e-6)


def test_the_limit_is_one_of_batches() -> None:
    found = ranges("minmax", ["x"], limit=1)
    assert found.samples == 8
    assert found.ranges["x"] == (BATCHES[0].min(), BATCHES[0].max())


def test_counts_in_the_graph_are_those_of_numpy() -> None:
    low, high = float(ALL.min()), float(ALL.max())
    totals = np.zeros(BINS, np.int64)
    for _, results in observe(model(), {"x": counting(low, high)}, stream, 99):
        totals += results["x"][0]
    wanted, _ = np.histogram(ALL, BINS, (low, high))
    assert totals.sum() == ALL.size
    # A value within a rounding of a bin's edge may be counted next door.
    assert np.abs(np.cumsum(totals) - np.cumsum(wanted)).max() <= 2


@pytest.mark.parametrize("method", ["percentile", "entropy", "mse"])
def test_an_outlier_is_cut_off(method: Method) -> None:
    values = RNG.standard_normal((8, 50_000)).astype(np.float32)
    values[0, 0] = 30.0
    text = TEXT.replace("500", "50000") % 20
    data = lambda: stream([values])  # noqa: E731 - a stand-in
    found = measure_ranges(ir.from_onnx_text(text), ["x"], data, method, 9, 256)
    low, high = found.ranges["x"]
    assert -7 < low < -2
    assert 2 < high < 20


def test_zeros_do_not_count_for_entropy() -> None:
    """Zero is exact in any range, and what a Relu gives is 0 half of the time."""
    values = np.abs(RNG.standard_normal(50_000))
    counts, _ = np.histogram(values, BINS, (0, 6))
    plain = Histogram(counts, 0.0, 6.0)
    many = counts.copy()
    many[0] += 1_000_000
    assert least_divergence(Histogram(many, 0.0, 6.0), 256) == least_divergence(plain, 256)


def test_percentile_leaves_out_its_share_on_both_sides() -> None:
    uniform = np.linspace(-1, 1, 4_000_000, dtype=np.float32).reshape(8, -1)
    text = TEXT.replace("500", "500000") % 20
    data = lambda: stream([uniform])  # noqa: E731 - a stand-in
    found = measure_ranges(ir.from_onnx_text(text), ["x"], data, "percentile", 9, 256)
    assert found.ranges["x"] == pytest.approx((-1, 1), abs=2 / BINS)


def test_least_squares_finds_the_best_of_all_ranges() -> None:
    values = np.concatenate([RNG.standard_normal(100_000), [12.0, -9.0]]).astype(np.float32)
    counts, _ = np.histogram(values, BINS, (values.min(), values.max()))
    histogram = Histogram(counts, float(values.min()), float(values.max()))

    def error(low: float, high: float) -> float:
        step = (high - low) / 255
        back = np.clip(np.rint(values / step), np.rint(low / step), np.rint(high / step)) * step
        return float(np.square(back - values).sum())

    chosen = error(*least_error(histogram, 256))
    grid = [error(-low, high) for low in np.arange(2, 9.1, 0.5) for high in np.arange(2, 12.1, 0.5)]
    assert chosen <= min(grid) * 1.05
    assert chosen < error(-9, 12) * 0.85


def test_values_that_are_nan_are_named_and_have_no_range() -> None:
    text = """
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[4,N] x) => (float[4,N] y) { z = Sqrt(x) y = Neg(x) }
    """
    for place in (0, 5000, 9999):
        x = np.ones((4, 10_000), np.float32)
        x[2, place] = -1
        data = lambda x=x: stream([x])  # noqa: E731 - a stand-in
        found = measure_ranges(ir.from_onnx_text(text), ["z", "y"], data, "minmax", 9, 256)
        assert found.broken == {"z"}
    assert set(found.ranges) == {"y"}


@pytest.mark.parametrize("method", METHODS)
def test_a_constant_value_is_its_own_range(method: Method) -> None:
    text = """
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[N,4] x) => (float[N,4] y) { y = Mul(x, z) }
    """
    constant = ir.from_onnx_text(text, initializers=[ir.tensor(np.zeros(1, np.float32), name="z")])
    data = lambda: stream([np.ones((2, 4), np.float32)])  # noqa: E731 - a stand-in
    found = measure_ranges(constant, ["x", "y"], data, method, 9, 256)
    assert found.ranges == {"x": (1.0, 1.0), "y": (0.0, 0.0)}


def test_no_data_and_nonsense_are_refused() -> None:
    with pytest.raises(SmithError, match="empty"):
        measure_ranges(model(), ["x"], lambda: iter(()), "minmax", 9, 256)
    broken = lambda: stream([np.full((1, 500), np.inf, np.float32)])  # noqa: E731 - a stand-in
    with pytest.raises(SmithError, match="'x' holds NaN or infinity"):
        measure_ranges(model(), ["x"], broken, "minmax", 9, 256)


def test_the_model_is_not_touched() -> None:
    untouched = model(13)
    measure_ranges(untouched, ["t"], stream, "entropy", 9, 256)
    assert [n.op_type for n in untouched.graph] == ["Neg", "Relu"]
    assert untouched.opset_imports[""] == 13
    assert [v.name for v in untouched.graph.outputs] == ["y"]


@pytest.mark.parametrize("method", ["percentile", "entropy", "mse"])
def test_all_batches_are_counted(method: Method) -> None:
    """What only the first batch holds still widens the range."""
    wide = RNG.uniform(-1, 1, (8, 500)).astype(np.float32)
    narrow = np.full((8, 500), 0.01, np.float32)
    low, high = measure_ranges(
        model(), ["x"], lambda: stream([wide, narrow]), method, 9, 256
    ).ranges["x"]
    assert low < -0.9
    assert high > 0.9
