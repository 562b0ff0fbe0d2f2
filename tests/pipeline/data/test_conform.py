import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.data import conform, feeds, open_data
from onnxsmith.pipeline.data.base import Batch, rebatch, take_first
from onnxsmith.pipeline.data.conform import fit_array, fit_inputs
from onnxsmith.pipeline.data.dtypes import cast_exact, cast_rounding
from onnxsmith.pipeline.data.feeding import fixed_batch
from onnxsmith.spec import ModelSpec, ValueSpec


def spec(*inputs: str) -> ModelSpec:
    return ModelSpec(tuple(ValueSpec.parse(text) for text in inputs), ())


def value(text: str) -> ValueSpec:
    return ValueSpec.parse(text)


@pytest.mark.parametrize(
    ("shape", "wanted", "expected"),
    [
        ((4, 64), "x:float32[N,64]", (4, 64)),
        ((4, 64), "x:float32[N,1,8,8]", (4, 1, 8, 8)),
        ((4, 1, 8, 8), "x:float32[N,64]", (4, 64)),
        ((4, 1, 8, 8), "x:float32[N,8,8,1]", (4, 8, 8, 1)),
        ((4, 3, 8, 9), "x:float32[?,3,H,W]", (4, 3, 8, 9)),
        ((4, 5), "x:float32[1,5]", (4, 5)),
        ((4,), "x:float32[N,1]", (4, 1)),
    ],
)
def test_shapes_that_fit(shape: tuple[int, ...], wanted: str, expected: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    fitted = fit_array(array, value(wanted))
    assert fitted.shape == expected
    np.testing.assert_array_equal(fitted.ravel(), array.ravel())


@pytest.mark.parametrize(
    ("shape", "wanted", "hint"),
    [
        ((4, 63), "x:float32[N,1,8,8]", "shape the data"),
        ((4, 8, 9, 3), "x:float32[N,3,8,9]", "layout=NCHW"),
        ((4, 3, 8, 9), "x:float32[N,8,9,3]", "layout=NHWC"),
        ((4, 3, 8, 9), "x:float32[N,3,16,18]", "resize"),
        ((4, 8, 8), "x:float32[N,4,16]", "shape the data"),
        ((4, 64), "x:float32[N,?,8]", "shape the data"),
    ],
)
def test_shapes_that_do_not_fit(shape: tuple[int, ...], wanted: str, hint: str) -> None:
    with pytest.raises(SmithError, match="the data does not fit the model") as caught:
        fit_array(np.zeros(shape, np.float32), value(wanted))
    assert hint in caught.value.hint


def test_scalars_sequences_and_unknown_ranks() -> None:
    with pytest.raises(SmithError, match="is a scalar"):
        fit_array(np.zeros(3, np.int64), value("sr:int64[]"))
    with pytest.raises(SmithError, match="is a sequence"):
        fit_array(np.zeros(3), ValueSpec("s", "float32", None, "sequence"))
    assert fit_array(np.zeros((3, 2)), ValueSpec("x", "unknown", None)).dtype == np.float64


def test_names() -> None:
    one, two = np.zeros((2, 1), np.float32), np.ones((2, 1), np.float32)
    both = spec("a:float32[N,1]", "b:float32[N,1]")
    assert fit_inputs({"b": two, "a": one}, both)["b"][0] == 1
    assert fit_inputs({"input_1": two, "input_0": one}, both)["b"][0] == 1
    assert list(fit_inputs({"x": one}, spec("a:float32[N,1]"))) == ["a"]
    single = {"x": one, "z": two}
    with pytest.raises(SmithError, match="no array for the model input 'b'"):
        fit_inputs({"a": one, "z": two}, both)
    with pytest.raises(SmithError, match="no array for the model input 'a'"):
        fit_inputs(single, spec("a:float32[N,1]"))
    with pytest.raises(SmithError, match="no input 'q'"):
        fit_inputs({"x": one}, both, "q")


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.uint8([0, 255]), "float32"),
        (np.float64([0.1, -3]), "float32"),
        (np.float32([0.1, -3]), "float16"),
        (np.float32([0.1, -3]), "bfloat16"),
        (np.int64([-128, 127]), "int8"),
        (np.int64([2**24, -(2**24)]), "float32"),
        (np.array([True, False]), "float32"),
        (np.array(["a", "b"]), "string"),
    ],
)
def test_casts_that_lose_nothing(array: np.ndarray, dtype: str) -> None:
    cast = cast_exact(array, dtype, "input 'x'")
    assert cast.dtype == np.dtype(object) if dtype == "string" else str(cast.dtype) == dtype
    if array.dtype.kind in "iub":
        np.testing.assert_array_equal(cast.astype(array.dtype), array)


@pytest.mark.parametrize(
    ("array", "dtype", "message"),
    [
        (np.float32([1.0]), "int64", "takes int64, but the data is float32"),
        (np.int64([2**24 + 1]), "float32", "cannot hold the value 16777217"),
        (np.int64([128]), "int8", "cannot hold the value 128"),
        (np.int64([-1]), "uint8", "cannot hold the value -1"),
        (np.int8([-1]), "uint64", "cannot hold the value -1"),
        (np.uint8([200]), "int8", "cannot hold the value 200"),
        (np.uint64([2**63]), "int64", "cannot hold the value 9223372036854775808"),
        (np.float32([1e6]), "float16", "cannot hold the value 1000000"),
        (np.array(["a"]), "float32", "but the data is text"),
        (np.float32([1]), "string", "takes strings"),
        (np.int64([1]), "bool", "takes bool"),
    ],
)
def test_casts_that_lose_something(array: np.ndarray, dtype: str, message: str) -> None:
    with pytest.raises(SmithError, match=message):
        cast_exact(array, dtype, "input 'x'")


def test_casts_that_are_asked_for() -> None:
    assert cast_rounding(np.float32([0.5, 1.5, -2.6]), "int8").tolist() == [0, 2, -3]
    assert cast_rounding(np.float32([0, 0.1]), "bool").tolist() == [False, True]
    assert cast_rounding(np.float64([2**31 - 1]), "int32")[0] == 2**31 - 1
    for bad, dtype in [(127.6, "int8"), (-129, "int8"), (2.0**63, "int64"), (2.0**31, "int32")]:
        with pytest.raises(SmithError, match=f"out of the range of {dtype}"):
            cast_rounding(np.float64([bad]), dtype)
    with pytest.raises(SmithError, match="not finite"):
        cast_rounding(np.float64([np.nan]), "int8")
    with pytest.raises(UsageError, match="element type 'int9'"):
        cast_rounding(np.float64([1]), "int9")


@given(st.lists(st.integers(0, 9), max_size=12), st.integers(1, 7), st.integers(1, 30))
def test_rebatching_keeps_samples(sizes: list[int], batch_size: int, limit: int) -> None:
    start, batches = 0, []
    for size in sizes:
        batches.append(Batch({"x": np.arange(start, start + size)}, np.arange(start, start + size)))
        start += size
    cut = list(rebatch(take_first(batches, limit), batch_size))
    assert all(len(batch) == batch_size for batch in cut[:-1])
    assert all(0 < len(batch) <= batch_size for batch in cut)
    flat = [int(v) for batch in cut for v in batch.inputs["x"]]
    assert flat == list(range(min(start, limit)))
    assert flat == [int(v) for batch in cut if batch.labels is not None for v in batch.labels]


def test_opening_checks_the_first_sample() -> None:
    with pytest.raises(SmithError, match="does not fit the model"):
        open_data("digits", spec("x:float32[N,65]"))
    source = open_data("digits?layout=NCHW", spec("im:float32[N,1,8,8]"))
    assert next(iter(source.batches(3))).inputs["im"].shape == (3, 1, 8, 8)
    assert source.size == 1352
    with pytest.raises(SmithError, match="takes int32, but the data is float32"):
        open_data("digits", spec("x:int32[N,64]"))
    cast = open_data("digits?dtype=int32", spec("x:int32[N,64]"))
    assert next(iter(cast.batches(3))).inputs["x"].dtype == np.int32


def test_feeds_pad_only_the_last_fixed_batch() -> None:
    source = conform(open_data("digits?limit=7"), spec("x:float32[3,64]"))
    fed = list(feeds(source, source.spec, 100))
    assert [(len(feed.inputs["x"]), feed.count) for feed in fed] == [(3, 3), (3, 3), (3, 1)]
    np.testing.assert_array_equal(fed[2].inputs["x"][0], fed[2].inputs["x"][2])
    free = list(feeds(open_data("digits?limit=7"), spec("x:float32[N,64]"), 5))
    assert [(len(feed.inputs["x"]), feed.count) for feed in free] == [(5, 5), (2, 2)]


def test_two_fixed_batches_are_refused() -> None:
    with pytest.raises(SmithError, match="no common batch size: 1, 2"):
        fixed_batch(spec("a:float32[1,3]", "b:float32[2,3]"))
