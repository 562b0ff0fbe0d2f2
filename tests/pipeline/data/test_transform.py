import numpy as np
import pytest

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.data.base import Batch
from onnxsmith.pipeline.data.query import COMMON, parse_query
from onnxsmith.pipeline.data.transform import spread, transform

RNG = np.random.default_rng(3)


def apply(array: np.ndarray, query: str, axis: int | None = None) -> np.ndarray:
    return transform(Batch({"x": array}), parse_query(query, COMMON, "npz"), axis).inputs["x"]


def test_nothing_asked_changes_nothing() -> None:
    array = RNG.integers(0, 9, (3, 4), np.uint8)
    assert apply(array, "") is array


@pytest.mark.parametrize(("axis", "shape"), [(1, (2, 3, 5, 4)), (3, (2, 5, 4, 3))])
def test_numbers_go_along_the_channels(axis: int, shape: tuple[int, ...]) -> None:
    array = RNG.random(shape)
    mean, std = np.array([1, 2, 3.0]), np.array([4, 5, 6.0])
    broadcast = [1] * 4
    broadcast[axis] = 3
    expected = (array - mean.reshape(broadcast)) / std.reshape(broadcast)
    for known in (axis, None):
        got = apply(array, "mean=1,2,3&std=4,5,6", known)
        np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_numbers_for_each_feature() -> None:
    array = np.ones((4, 2))
    np.testing.assert_array_equal(apply(array, "mean=1,3"), [[0, -2]] * 4)


def test_ambiguous_channels_are_refused() -> None:
    with pytest.raises(SmithError, match="3 numbers in mean do not fit"):
        apply(RNG.random((2, 3, 5, 3)), "mean=1,2,3")


def test_layout_of_arrays_is_told_from_the_channels() -> None:
    array = RNG.random((2, 5, 4, 3))
    np.testing.assert_array_equal(apply(array, "layout=NCHW"), array.transpose(0, 3, 1, 2))
    assert apply(array, "layout=NHWC").shape == array.shape
    with pytest.raises(SmithError, match="layout=NCHW does not fit"):
        apply(RNG.random((2, 3, 4, 3)), "layout=NCHW")


def test_text_cannot_be_scaled_and_one_of_many_must_be_named() -> None:
    with pytest.raises(SmithError, match="cannot be scaled"):
        apply(np.array(["a"]), "scale=2")
    two = Batch({"a": np.ones((2, 1)), "b": np.ones((2, 1))})
    with pytest.raises(UsageError, match=r"several arrays \(a, b\)"):
        transform(two, parse_query("scale=2", COMMON, "npz"), None)
    scaled = transform(two, parse_query("scale=2&input=b", COMMON, "npz"), None).inputs
    assert (scaled["a"][0, 0], scaled["b"][0, 0]) == (1, 2)


def test_spread_needs_integers_in_range() -> None:
    assert spread(np.array([[1], [0]]), 2).tolist() == [[0, 1], [1, 0]]
    for labels in (None, np.array([0.5]), np.array([[0, 1]]), np.array([-1])):
        with pytest.raises(SmithError):
            spread(labels, 2)
