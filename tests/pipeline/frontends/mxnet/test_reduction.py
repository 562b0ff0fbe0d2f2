"""Reductions, orders and places of extremes, against numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from onnxsmith.errors import SmithError

Array = np.ndarray[Any, Any]
X = np.random.default_rng(1).permutation(60).reshape(3, 4, 5).astype(np.float32) / 7 - 4

REDUCTIONS: dict[str, Callable[..., Array]] = {
    "sum": np.sum,
    "sum_axis": np.sum,
    "nansum": np.nansum,
    "mean": np.mean,
    "prod": np.prod,
    "nanprod": np.nanprod,
    "max": np.max,
    "max_axis": np.max,
    "min": np.min,
    "min_axis": np.min,
    "_square_sum": lambda x, axis, keepdims: (x**2).sum(axis, keepdims=keepdims),
    "norm": lambda x, axis, keepdims: np.sqrt((x**2).sum(axis, keepdims=keepdims)),
}


@pytest.mark.parametrize("op", REDUCTIONS)
@pytest.mark.parametrize("opset", [13, 20])
def test_reductions(mxnet: Any, close: Any, op: str, opset: int) -> None:
    x = X.copy()
    if op.startswith("nan"):
        x[0, 1, 2] = x[2, 0, 0] = np.nan
    wide = x.astype(np.float64)
    function = REDUCTIONS[op]
    for axis in (1, (0, 2), -1):
        for keep in (False, True):
            found = mxnet.op(op, {"axis": axis, "keepdims": keep}, x, opset=opset)
            close(found, function(wide, axis=axis, keepdims=keep))
    # MXNet has no scalars: all of it is a vector of one.
    close(mxnet.op(op, {}, x, opset=opset), function(wide, axis=None, keepdims=False).reshape(1))
    close(mxnet.op(op, {"axis": "()", "keepdims": 1}, x), function(wide, axis=None, keepdims=True))
    if op != "norm":
        found = mxnet.op(op, {"axis": 1, "exclude": True}, x)
        close(found, function(wide, axis=(0, 2), keepdims=False))


def test_norms(mxnet: Any, close: Any) -> None:
    close(mxnet.op("norm", {"ord": 1, "axis": 2}, X), np.abs(X).sum(2))
    assert mxnet.op("norm", {"axis": 1, "out_dtype": "float64"}, X).dtype == np.float64
    with pytest.raises(SmithError, match=r"the node 'it' \(norm\): the norm of order 3 cannot"):
        mxnet.op("norm", {"ord": 3}, X)


def test_moments(mxnet: Any, close: Any) -> None:
    for keep in (False, True):
        mean, variance = mxnet.outputs("moments", {"axes": (0, 2), "keepdims": keep}, X, count=2)
        close(mean, X.mean((0, 2), keepdims=keep))
        close(variance, X.var((0, 2), keepdims=keep))
    mean, variance = mxnet.outputs("moments", {}, X, count=2)
    close(variance, X.var().reshape(1))


@pytest.mark.parametrize(("op", "function"), [("argmax", np.argmax), ("argmin", np.argmin)])
def test_places_of_extremes(mxnet: Any, op: str, function: Callable[..., Array]) -> None:
    for axis in (0, 1, -1):
        for keep in (False, True):
            found = mxnet.op(op, {"axis": axis, "keepdims": keep}, X)
            assert found.dtype == np.float32
            np.testing.assert_array_equal(found, function(X, axis, keepdims=keep))
    np.testing.assert_array_equal(mxnet.op(op, {}, X), [function(X)])


def test_the_place_of_the_best_channel(mxnet: Any) -> None:
    np.testing.assert_array_equal(mxnet.op("argmax_channel", {}, X), X.argmax(1))


@pytest.mark.parametrize("op", ["topk", "_npx_topk"])
@pytest.mark.parametrize("ascend", [False, True])
def test_the_largest(mxnet: Any, op: str, ascend: bool) -> None:
    for axis in (-1, 1):
        order = np.argsort(X if ascend else -X, axis).take(range(2), axis)
        settings = {"k": 2, "axis": axis, "is_ascend": ascend}
        np.testing.assert_array_equal(mxnet.op(op, settings, X), order)
        values, places = mxnet.outputs(op, {**settings, "ret_typ": "both"}, X, count=2)
        np.testing.assert_array_equal(places, order)
        np.testing.assert_array_equal(values, np.take_along_axis(X, order, axis))
        only = mxnet.op(op, {**settings, "ret_typ": "value"}, X)
        np.testing.assert_array_equal(only, values)
        mask = np.zeros_like(X)
        np.put_along_axis(mask, order, 1, axis)
        np.testing.assert_array_equal(mxnet.op(op, {**settings, "ret_typ": "mask"}, X), mask)
    found = mxnet.op(op, {"k": 1, "dtype": "int32"}, X)
    assert found.dtype == np.int32


@pytest.mark.parametrize("ascend", [False, True])
def test_orders(mxnet: Any, ascend: bool) -> None:
    for axis in (-1, 1):
        order = np.argsort(X if ascend else -X, axis)
        settings = {"axis": axis, "is_ascend": ascend}
        np.testing.assert_array_equal(mxnet.op("argsort", settings, X), order)
        found = mxnet.op("sort", settings, X)
        np.testing.assert_array_equal(found, np.take_along_axis(X, order, axis))
    found = mxnet.op("sort", {"axis": None}, X)
    np.testing.assert_array_equal(found, np.sort(X, None))


@pytest.mark.parametrize("op", ["cumsum", "_np_cumsum"])
def test_running_sums(mxnet: Any, close: Any, op: str) -> None:
    close(mxnet.op(op, {"axis": 1}, X), X.cumsum(1))
    close(mxnet.op(op, {}, X), X.cumsum())
    assert mxnet.op(op, {"axis": 0, "dtype": "float64"}, X).dtype == np.float64
