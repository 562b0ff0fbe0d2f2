"""Values chosen by indices, lengths and conditions; attention in pieces."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxsmith.errors import SmithError

Array = np.ndarray[Any, Any]
X = np.random.default_rng(2).normal(size=(3, 4, 5)).astype(np.float32)


def same(found: Array, expected: Array) -> None:
    assert found.shape == np.shape(expected)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("op", ["Embedding", "_contrib_SparseEmbedding", "_npx_embedding"])
@pytest.mark.parametrize("dtype", ["float32", "int32", "int64"])
def test_embeddings(mxnet: Any, op: str, dtype: str) -> None:
    rows = X.reshape(12, 5)
    index = np.array([[0, 11], [3, 3]], dtype)
    settings = {"input_dim": 12, "output_dim": 5}
    same(mxnet.op(op, settings, index, weights=[rows]), rows[index.astype(int)])


@pytest.mark.parametrize("mode", ["clip", "wrap", "raise"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_taken_parts(mxnet: Any, mode: str, axis: int) -> None:
    index = np.array([[0, 2], [1, 1]] if mode == "raise" else [[-2, 9], [1, 2]], np.float32)
    expected = X.take(index.astype(int), axis, mode=mode)
    for dtype in ("float32", "int32"):
        settings = {"axis": axis, "mode": mode}
        same(mxnet.op("take", settings, X, index.astype(dtype)), expected)


def test_parts_taken_by_a_constant(mxnet: Any) -> None:
    index = np.array([1, 0], np.float32)
    same(mxnet.op("take", {}, X, weights=[index]), X[[1, 0]])
    outside = np.array([1, 9], np.float32)
    same(mxnet.op("take", {}, X, weights=[outside]), X[[1, 2]])


@pytest.mark.parametrize("op", ["pick", "_npx_pick", "choose_element_0index"])
def test_picked_values(mxnet: Any, op: str) -> None:
    index = np.array([[0, 4, 9, 2], [1, 1, 1, 3], [4, 3, 2, -1]], np.float32)
    at = index.astype(int).clip(0, 4)[..., None]
    expected = np.take_along_axis(X, at, -1)
    same(mxnet.op(op, {}, X, index), expected[..., 0])
    same(mxnet.op(op, {"keepdims": True}, X, index), expected)
    index = np.array([[0, 1, 2, 3, 3]] * 3, np.int32)
    expected = np.take_along_axis(X, index[:, None].astype(int), 1)[:, 0]
    same(mxnet.op(op, {"axis": 1}, X, index), expected)
    turned = np.array([[5, -1, 2, 3, 3]] * 3, np.int32)
    expected = np.take_along_axis(X, turned[:, None].astype(int) % 4, 1)[:, 0]
    same(mxnet.op(op, {"axis": 1, "mode": "wrap"}, X, turned), expected)


def test_one_value_of_each_row(mxnet: Any) -> None:
    index = np.array([4, 0, 2], np.int32)
    same(mxnet.op("batch_take", {}, X[:, 0].copy(), index), X[:, 0][range(3), index])


@pytest.mark.parametrize("op", ["gather_nd", "_npx_gather_nd"])
def test_values_at_coordinates(mxnet: Any, op: str) -> None:
    places = np.array([[0, 2, 1], [3, 0, 1]], np.float32)
    a, b = places.astype(int)
    same(mxnet.op(op, {}, X, places, batch=False), X[a, b])


def test_values_put_at_coordinates(mxnet: Any) -> None:
    places, values = np.array([[0, 2], [3, 0]], np.int64), np.array([5, 6], np.float32)
    expected = np.zeros((3, 4))
    expected[[0, 2], [3, 0]] = values
    found = mxnet.op("scatter_nd", {"shape": (3, 4)}, values, places, batch=False)
    same(found, expected)


@pytest.mark.parametrize("op", ["one_hot", "_npx_one_hot"])
@pytest.mark.parametrize("dtype", ["float32", "int32", "float16"])
def test_one_hot(mxnet: Any, op: str, dtype: str) -> None:
    index = np.array([[0, 2], [1, 3]], np.float32)
    found = mxnet.op(op, {"depth": 4, "dtype": dtype}, index)
    assert str(found.dtype) == dtype
    same(found, np.eye(4)[index.astype(int)])
    found = mxnet.op(op, {"depth": 4}, index.astype(np.int32))
    same(found, np.eye(4)[index.astype(int)])
    found = mxnet.op(op, {"depth": 4, "on_value": 3, "off_value": -1}, index)
    same(found, np.eye(4)[index.astype(int)] * 4 - 1)


def test_choices(mxnet: Any) -> None:
    condition = (X > 0).astype(np.float32) * 2
    same(mxnet.op("where", {}, condition, X, -X), np.where(X > 0, X, -X))
    rows = np.array([1, 0, 1], np.float32)
    same(mxnet.op("where", {}, rows, X, -X), np.where(rows[:, None, None] > 0, X, -X))


def test_marked_rows(mxnet: Any) -> None:
    marks = np.array([1, 0, 1], np.float32)
    same(mxnet.op("_contrib_boolean_mask", {}, X, marks), X[[0, 2]])
    marks = np.array([0, 1, 1, 0], np.float32)
    same(mxnet.op("_contrib_boolean_mask", {"axis": 1}, X, marks, batch=False), X[:, 1:3])


@pytest.mark.parametrize("op", ["SequenceMask", "_npx_sequence_mask"])
@pytest.mark.parametrize("axis", [0, 1])
def test_masked_sequences(mxnet: Any, op: str, axis: int) -> None:
    length = np.array([1, 3, 2, 0] if axis == 0 else [2, 4, 1], np.float32)
    expected = X.copy()
    for row, end in enumerate(length.astype(int)):
        if axis == 0:
            expected[end:, row] = -1.5
        else:
            expected[row, end:] = -1.5
    settings = {"use_sequence_length": True, "value": -1.5, "axis": axis}
    same(mxnet.op(op, settings, X, length, batch=axis == 1), expected)
    same(mxnet.op(op, {}, X), X)


def test_the_ends_of_sequences(mxnet: Any) -> None:
    same(mxnet.op("SequenceLast", {}, X), X[-1])
    same(mxnet.op("SequenceLast", {"axis": 1}, X), X[:, -1])
    settings = {"use_sequence_length": True}
    length = np.array([1, 3, 2, 2], np.float32)
    found = mxnet.op("SequenceLast", settings, X, length, batch=False)
    same(found, X[[0, 2, 1, 1], range(4)])
    length = np.array([4, 1, 3], np.float32)
    found = mxnet.op("SequenceLast", {**settings, "axis": 1}, X, length)
    same(found, X[range(3), [3, 0, 2]])


def test_sequences_backwards(mxnet: Any) -> None:
    same(mxnet.op("SequenceReverse", {}, X), X[::-1])
    length = np.array([1, 3, 2, 2], np.float32)
    expected = X.copy()
    for row, end in enumerate(length.astype(int)):
        expected[:end, row] = X[:end, row][::-1]
    settings = {"use_sequence_length": True}
    same(mxnet.op("SequenceReverse", settings, X, length, batch=False), expected)
    with pytest.raises(SmithError, match=r"\(SequenceReverse\): another axis than 0"):
        mxnet.op("SequenceReverse", {"axis": 1}, X)


def heads(x: Array, count: int, parts: int) -> list[Array]:
    """Cut (time, batch, heads parts width) into arrays (batch heads, time, width)."""
    time, batch, width = x.shape
    cut = x.reshape(time, batch, count, parts, width // (count * parts))
    return [
        cut[:, :, :, at].transpose(1, 2, 0, 3).reshape(batch * count, time, -1)
        for at in range(parts)
    ]


def test_attention_to_itself(mxnet: Any, close: Any, rng: np.random.Generator) -> None:
    x = rng.normal(size=(5, 2, 24)).astype(np.float32)
    query, key, value = heads(x, 2, 3)
    scores = query / np.sqrt(4) @ key.transpose(0, 2, 1)
    prefix = "_contrib_interleaved_matmul_selfatt"
    close(mxnet.op(f"{prefix}_qk", {"heads": 2}, x, batch=False), scores)
    chosen = (scores @ value).reshape(2, 2, 5, 4).transpose(2, 0, 1, 3).reshape(5, 2, 8)
    found = mxnet.op(f"{prefix}_valatt", {"heads": 2}, x, scores.astype(np.float32), batch=False)
    close(found, chosen)


def test_attention_to_another(mxnet: Any, close: Any, rng: np.random.Generator) -> None:
    x = rng.normal(size=(3, 2, 8)).astype(np.float32)
    other = rng.normal(size=(5, 2, 16)).astype(np.float32)
    (query,) = heads(x, 2, 1)
    key, value = heads(other, 2, 2)
    scores = query / np.sqrt(4) @ key.transpose(0, 2, 1)
    prefix = "_contrib_interleaved_matmul_encdec"
    close(mxnet.op(f"{prefix}_qk", {"heads": 2}, x, other, batch=False), scores)
    chosen = (scores @ value).reshape(2, 2, 3, 4).transpose(2, 0, 1, 3).reshape(3, 2, 8)
    found = mxnet.op(
        f"{prefix}_valatt", {"heads": 2}, other, scores.astype(np.float32), batch=False
    )
    close(found, chosen)
    with pytest.raises(SmithError, match="does not divide into 3 heads"):
        mxnet.op(f"{prefix}_qk", {"heads": 3}, x, other)
