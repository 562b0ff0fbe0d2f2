"""Comparisons against a brute-force reading of their definition."""

from __future__ import annotations

import json
import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onnxsmith.numerics import (
    Tolerance,
    compare,
    compare_value,
    numpy_dtype,
    override,
    tolerance_for,
)

Array = np.ndarray[Any, Any]

finite = st.floats(-1e6, 1e6, width=32)
pairs = hnp.array_shapes(max_dims=3, max_side=4).flatmap(
    lambda shape: st.tuples(
        hnp.arrays(np.float32, shape, elements=finite),
        hnp.arrays(np.float32, shape, elements=st.floats(-(2**-7), 2**-7, width=32)),
    )
)


@given(pairs, st.sampled_from([0.0, 1e-4, 1e-2]), st.sampled_from([0.0, 1e-5, 1e-2]))
def test_the_definition_element_by_element(
    pair: tuple[Array, Array], rtol: float, atol: float
) -> None:
    expected = pair[0]
    actual = expected + pair[1]
    scale = max(abs(float(e)) for e in expected.flat)
    beyond = [
        abs(float(a) - float(e)) > rtol * abs(float(e)) + atol * scale
        for e, a in zip(expected.flat, actual.flat, strict=True)
    ]
    found = compare_value("y", expected, actual, Tolerance(rtol, atol))
    assert found.ok is not any(beyond)
    assert found.mismatched == pytest.approx(sum(beyond) / len(beyond))
    errors = [abs(float(a) - float(e)) for e, a in zip(expected.flat, actual.flat, strict=True)]
    assert found.max_abs == max(errors)
    if scale:
        assert found.max_rel == max(errors) / scale
    assert bool(found.reason) is not found.ok


def test_signal_to_noise_is_that_of_the_books() -> None:
    rng = np.random.default_rng(0)
    signal = rng.standard_normal(10_000)
    noise = rng.standard_normal(10_000) * 1e-3
    found = compare_value("y", signal, signal + noise)
    assert found.snr_db == pytest.approx(
        10 * math.log10((signal**2).sum() / (noise**2).sum()), abs=1e-6
    )
    assert compare_value("y", signal, signal).snr_db == math.inf


def test_large_values_do_not_overflow() -> None:
    big = np.array([1e308, -1e308])
    assert compare_value("y", big, big).ok
    near = compare_value("y", big, big * 0.5)
    assert near.snr_db == pytest.approx(20 * math.log10(2))
    far = compare_value("y", big, -big)
    assert not far.ok
    assert math.isfinite(far.max_rel)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_the_tolerance_sees_a_wrong_constant(dtype: str) -> None:
    # 1e-5 in place of 1e-3 in a normalisation, or one bias of a hundred left out.
    x = np.random.default_rng(0).standard_normal((64, 100))
    right = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-2)
    wrong = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    reordered = (x - x.mean(1, keepdims=True)) * (1 / np.sqrt(x.var(1, keepdims=True) + 1e-2))
    if dtype != "float16":  # 0.5 % of a normalisation is what float16 allows
        assert not compare_value("y", right.astype(dtype), wrong.astype(dtype)).ok
    missing = right.copy()
    missing[:, 7] += 0.1
    assert not compare_value("y", right.astype(dtype), missing.astype(dtype)).ok
    assert compare_value("y", right.astype(dtype), reordered.astype(dtype)).ok


def test_tolerances_by_type() -> None:
    assert tolerance_for(np.dtype(np.float64)).atol < tolerance_for(np.dtype(np.float32)).atol
    assert tolerance_for(np.dtype(np.float32)).atol < tolerance_for(np.dtype(np.float16)).atol
    assert tolerance_for(np.dtype(np.int64)) == Tolerance(0.0, 0.0)


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_special_values_must_stay_where_they_are(special: float) -> None:
    expected = np.array([1, special, 3], np.float32)
    assert compare_value("y", expected, expected.copy()).ok
    lost = compare_value("y", expected, np.array([1, 2, 3], np.float32))
    assert "another special value" in lost.reason
    assert not lost.ok
    gained = compare_value("y", np.array([1, 2, 3], np.float32), expected)
    assert gained.reason == "33.33% of the elements became NaN or infinite"
    turned = compare_value("y", expected, np.array([1, -special if special else 0, 3], np.float32))
    assert turned.ok is bool(np.isnan(special))


def test_all_special_outputs_compare() -> None:
    nan = np.full(3, np.nan)
    assert compare_value("y", nan, nan).ok


@pytest.mark.parametrize(
    ("actual", "reason"),
    [
        (np.zeros((2, 3)), "float64 instead of float32"),
        (np.zeros((3, 2), np.float32), "shape [3, 2] instead of [2, 3]"),
        (np.zeros((2, 3, 1), np.float32), "shape [2, 3, 1] instead of [2, 3]"),
        ([np.zeros((2, 3), np.float32)], "list instead of ndarray"),
        (None, "NoneType instead of ndarray"),
    ],
)
def test_what_cannot_be_compared(actual: object, reason: str) -> None:
    found = compare_value("y", np.zeros((2, 3), np.float32), actual)
    assert found.reason == reason
    assert not found.ok
    assert found.snr_db == -math.inf


def test_scalars_and_empty_tensors() -> None:
    assert compare_value("y", np.array(2.0), np.array(2.0)).ok
    assert not compare_value("y", np.array(2.0), np.array(3.0)).ok
    assert compare_value("y", np.float32(2), np.array(2, np.float32)).ok
    assert compare_value("y", np.zeros((0, 4), np.float32), np.zeros((0, 4), np.float32)).ok
    assert not compare_value("y", np.zeros((0, 4), np.float32), np.zeros((4, 0), np.float32)).ok


def test_zeros_must_stay_zero() -> None:
    found = compare_value("y", np.zeros(3, np.float32), np.full(3, 1e-6, np.float32))
    assert not found.ok
    assert found.max_rel == math.inf
    assert found.snr_db == -math.inf
    json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.parametrize("dtype", [np.int8, np.uint64, np.bool_])
def test_integers_must_be_equal(dtype: type) -> None:
    expected = np.array([0, 1, 1, 0]).astype(dtype)
    assert compare_value("y", expected, expected.copy(), Tolerance(1.0, 1.0)).ok
    found = compare_value("y", expected, np.array([0, 1, 0, 0]).astype(dtype), Tolerance(1.0, 1.0))
    assert not found.ok
    assert found.mismatched == 0.25
    assert found.max_abs == 1.0


def test_neighbouring_int64_beyond_float_precision_differ() -> None:
    assert not compare_value("y", np.array([2**60]), np.array([2**60 + 1])).ok


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_small_floats_are_floats(name: str) -> None:
    dtype = np.dtype(getattr(ml_dtypes, name))
    expected = np.array([1, 2, 4]).astype(dtype)
    assert compare_value("y", expected, expected.copy()).ok
    found = compare_value("y", expected, np.array([1, 2, 8]).astype(dtype))
    assert not found.ok
    assert found.max_abs == 4.0


@pytest.mark.parametrize("name", ["int4", "uint4"])
def test_small_integers_are_exact(name: str) -> None:
    dtype = np.dtype(getattr(ml_dtypes, name))
    expected = np.array([1, 2, 3]).astype(dtype)
    assert compare_value("y", expected, expected.copy()).ok
    assert not compare_value("y", expected, np.array([1, 2, 4]).astype(dtype)).ok


def test_complex_outputs() -> None:
    expected = np.array([1 + 1j, 2], np.complex64)
    assert compare_value("y", expected, expected * np.complex64(1 + 1e-7)).ok
    assert not compare_value("y", expected, expected * np.complex64(1.01)).ok


def test_text() -> None:
    expected = np.array(["a", "b"], dtype=object)
    assert compare_value("y", expected, np.array(["a", "b"])).ok
    assert (
        compare_value("y", expected, np.array(["a", "c"])).reason == "50.00% of the elements differ"
    )


def test_sequences_maps_and_optionals() -> None:
    one, two = np.array([1.0]), np.array([2.0])
    assert compare_value("y", [one, two], [one, two]).ok
    assert compare_value("y", [], []).ok
    assert compare_value("y", None, None).ok
    assert not compare_value("y", [one, two], [one, one]).ok
    assert compare_value("y", [one], [one, one]).reason == "2 elements instead of 1"
    assert compare_value("y", [{"a": 0.25, "b": 0.75}], [{"b": 0.75, "a": 0.25}]).ok
    assert not compare_value("y", {1: 0.25, 2: 0.75}, {1: 0.75, 2: 0.25}).ok
    assert compare_value("y", {1: 0.5}, {2: 0.5}).reason == "the map has other keys"
    # The values of maps were float32 before they became Python's floats.
    assert compare_value("y", {1: 0.3}, {1: 0.3 + 1e-6}).ok
    assert not compare_value("y", {1: 0.3}, {1: 0.301}).ok
    assert not compare_value("y", {1: 3}, {1: 4}).ok


def test_compare_by_name() -> None:
    one = np.ones(1, np.float32)
    found = compare({"a": one, "b": one}, {"b": one * 2, "c": one})
    assert [(d.output, d.ok) for d in found] == [("a", False), ("b", False)]
    assert found[0].reason == "the output is missing"


def test_override() -> None:
    assert override(None, None) is None
    assert override(0.1, None) == Tolerance(0.1, 0.0)
    assert override(None, 0.2) == Tolerance(0.0, 0.2)


@pytest.mark.parametrize("name", ["float32", "bool", "bfloat16", "int4", "float8_e5m2", "uint64"])
def test_dtypes_by_name(name: str) -> None:
    assert str(numpy_dtype(name)) == name
    assert numpy_dtype("string") == np.dtype(object)


@pytest.mark.parametrize(("share", "ok"), [(0.9, True), (1.1, False)])
def test_both_parts_of_the_tolerance_bite_at_their_border(share: float, ok: bool) -> None:
    expected = np.array([0.0, 1.0, 100.0])
    for index, bound in ((0, 1e-3 * 100), (1, 1e-2 + 1e-3 * 100), (2, 1e-2 * 100 + 1e-3 * 100)):
        actual = expected.copy()
        actual[index] += share * bound * (1 - 1e-9)
        if index == 2:
            actual[index] = 100.0 - share * bound
        found = compare_value("y", expected, actual, Tolerance(1e-2, 1e-3))
        assert found.ok is ok, (index, found)


def test_integers_are_held_to_a_step_where_one_is_given() -> None:
    expected = np.array([10, 20, 30], np.int8)
    actual = np.array([11, 20, 29], np.int8)
    step = Tolerance(0.0, 0.0, step=1.0)
    (near,) = compare({"y": expected}, {"y": actual}, step)
    assert near.ok
    assert near.max_abs == 1.0
    (far,) = compare({"y": expected}, {"y": actual + np.array([1, 0, 0], np.int8)}, step)
    assert not far.ok
    (exact,) = compare({"y": expected}, {"y": actual})
    assert not exact.ok


def test_a_share_of_the_elements_may_lie_beyond_the_step() -> None:
    expected = np.zeros(1000, np.float32)
    expected[0] = 1.0
    actual = expected.copy()
    actual[1] = 0.5
    tolerance = Tolerance(0.0, 0.0, step=0.1, share=1e-3)
    (one,) = compare({"y": expected}, {"y": actual}, tolerance)
    assert one.ok
    assert one.mismatched == 1e-3
    actual[2] = 0.5
    (two,) = compare({"y": expected}, {"y": actual}, tolerance)
    assert not two.ok
    assert "0.20%" in two.reason


def test_large_outputs_are_compared_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    expected = generator.standard_normal((50, 3)) * 10.0 ** generator.integers(-3, 4, (50, 1))
    actual = expected + generator.standard_normal((50, 3)) * 1e-4
    whole = compare_value("y", expected, actual)
    monkeypatch.setattr("onnxsmith.numerics._PIECE", 7)
    pieces = compare_value("y", expected, actual)
    assert pieces.snr_db == pytest.approx(whole.snr_db, rel=1e-12)
    assert (pieces.max_abs, pieces.max_rel) == (whole.max_abs, whole.max_rel)
    assert (pieces.mismatched, pieces.reason) == (whole.mismatched, whole.reason)
    actual[49, 2] = np.nan
    assert "0.67% of the elements became NaN" in compare_value("y", expected, actual).reason
