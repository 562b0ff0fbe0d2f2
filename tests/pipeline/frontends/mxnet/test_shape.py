"""Operators that move values: shapes, parts, joins, copies, and arrays from nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onnxsmith.errors import SmithError

Array = np.ndarray[Any, Any]
X = np.arange(120, dtype=np.float32).reshape(2, 3, 4, 5)


def same(found: Array, expected: Array) -> None:
    assert found.shape == np.shape(expected)
    np.testing.assert_array_equal(found, expected)


CODES: list[tuple[tuple[int, ...], bool, tuple[int, ...]]] = [
    ((6, 20), False, (6, 20)),
    ((-1, 20), False, (6, 20)),
    ((0, -1), False, (2, 60)),
    ((0, 0, -1), False, (2, 3, 20)),
    ((0, -2), False, (2, 3, 4, 5)),
    ((-2, 1, 1), False, (2, 3, 4, 5, 1, 1)),
    ((-3, -3), False, (6, 20)),
    ((-3, 0, 0), False, (6, 4, 5)),
    ((0, -3, 0), False, (2, 12, 5)),
    ((0, -3, -2), False, (2, 12, 5)),
    ((0, 0, -4, 2, 2, 0), False, (2, 3, 2, 2, 5)),
    ((0, 0, -4, -1, 2, -2), False, (2, 3, 2, 2, 5)),
    ((-4, 1, -1, -3, 0), False, (1, 2, 12, 5)),
    ((-4, 1, 2, -2), False, (1, 2, 3, 4, 5)),
    ((-1, 0), True, (24, 5)),
    ((-1, 0, 0), True, (6, 4, 5)),
]


@pytest.mark.parametrize(("codes", "reverse", "shape"), CODES, ids=str)
@pytest.mark.parametrize("op", ["Reshape", "reshape"])
def test_shapes_by_code(
    mxnet: Any, op: str, codes: tuple[int, ...], reverse: bool, shape: tuple[int, ...]
) -> None:
    # A fixed size in front cannot hold an open batch.
    batch = codes[0] not in (6, -4)
    same(mxnet.op(op, {"shape": codes, "reverse": reverse}, X, batch=batch), X.reshape(shape))


def test_a_reversed_shape_counts_from_the_end(mxnet: Any) -> None:
    """MXNet's own example: (10, 5, 4) with (-1, 0) is (40, 5), reversed (50, 4)."""
    x = np.arange(200, dtype=np.float32).reshape(10, 5, 4)
    same(mxnet.op("Reshape", {"shape": (-1, 0)}, x, batch=False), x.reshape(40, 5))
    same(mxnet.op("Reshape", {"shape": (-1, 0), "reverse": 1}, x), x.reshape(50, 4))


def test_shapes_of_the_oldest_versions(mxnet: Any) -> None:
    same(mxnet.op("Reshape", {"target_shape": (0, 60)}, X), X.reshape(2, 60))
    keep = {"target_shape": (0, 4, 15), "keep_highest": True}
    same(mxnet.op("Reshape", keep, X), X.reshape(2, 4, 15))


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ((-1, -1), "leaves more than one size open"),
        ((0, 0, 0, 0, 0), "asks for more axes than its input has"),
        ((-5,), "holds the unknown code -5"),
        ((-4, 2), "splits an axis into"),
        ((-4, 3, -1, -2), "splits an axis of 2 into"),
    ],
)
def test_codes_that_do_not_fit(mxnet: Any, codes: Sequence[int], message: str) -> None:
    with pytest.raises(SmithError, match=message):
        mxnet.op("Reshape", {"shape": codes}, X, batch=False)
    with pytest.raises(SmithError, match=r"\(Reshape\): it does not say which shape"):
        mxnet.op("Reshape", {}, X)


@pytest.mark.parametrize("op", ["reshape_like", "_npx_reshape_like"])
def test_the_shape_of_another(mxnet: Any, op: str) -> None:
    other = np.zeros((2, 12, 5), np.float32)
    same(mxnet.op(op, {}, X, other), X.reshape(2, 12, 5))
    ranges = {"lhs_begin": 1, "lhs_end": 3, "rhs_begin": 1, "rhs_end": 2}
    same(mxnet.op(op, ranges, X, other), X.reshape(2, 12, 5))
    with pytest.raises(SmithError, match="lhs_end=9 lies outside"):
        mxnet.op(op, {"lhs_end": 9}, X, other)


@pytest.mark.parametrize("op", ["Flatten", "flatten", "_npx_batch_flatten"])
def test_flat(mxnet: Any, op: str) -> None:
    same(mxnet.op(op, {}, X), X.reshape(2, 60))
    same(mxnet.op(op, {}, X[:, :, 0, 0].copy()), X[:, :, 0, 0])


def test_orders_of_axes(mxnet: Any) -> None:
    same(mxnet.op("transpose", {}, X), X.transpose())
    same(mxnet.op("transpose", {"axes": (0, 2, 3, 1)}, X), X.transpose(0, 2, 3, 1))
    same(mxnet.op("transpose", {"axes": "()"}, X), X.transpose())
    for op in ("SwapAxis", "swapaxes"):
        same(mxnet.op(op, {"dim1": 1, "dim2": 3}, X), X.swapaxes(1, 3))
    with pytest.raises(SmithError, match="is no order of 4 axes"):
        mxnet.op("transpose", {"axes": (0, 0, 1, 2)}, X)
    with pytest.raises(SmithError, match="there is no axis 7 among 4"):
        mxnet.op("swapaxes", {"dim1": 7}, X)


def test_axes_of_size_one(mxnet: Any) -> None:
    for axis in (0, 2, -1):
        same(mxnet.op("expand_dims", {"axis": axis}, X), np.expand_dims(X, axis))
    wide = X[:, None, :, :1]
    same(mxnet.op("squeeze", {"axis": (1, 3)}, wide), wide.squeeze((1, 3)))
    same(mxnet.op("squeeze", {}, wide, batch=False), wide.squeeze())
    with pytest.raises(SmithError, match="needs to know which axes have size 1"):
        mxnet.op("squeeze", {}, wide)


@pytest.mark.parametrize("op", ["slice", "crop", "_npx_slice"])
def test_parts(mxnet: Any, op: str) -> None:
    same(mxnet.op(op, {"begin": (0, 1, 1), "end": (2, 3, 3)}, X), X[0:2, 1:3, 1:3])
    same(mxnet.op(op, {"begin": "(None, 1)", "end": "(None, None)"}, X), X[:, 1:])
    backward = {"begin": "(None, -1, None)", "end": "(None, 0, None)", "step": "(None, -1, 2)"}
    same(mxnet.op(op, backward, X), X[:, -1:0:-1, ::2])
    flipped = {"begin": "(None, None)", "end": "(None, None)", "step": "(None, -1)"}
    same(mxnet.op(op, flipped, X), X[:, ::-1])
    with pytest.raises(SmithError, match="step is 0"):
        mxnet.op(op, {"begin": (0,), "end": (1,), "step": (0,)}, X)
    with pytest.raises(SmithError, match="do not fit together"):
        mxnet.op(op, {"begin": (0, 1), "end": (1,)}, X)


def test_parts_of_one_axis(mxnet: Any) -> None:
    same(mxnet.op("slice_axis", {"axis": 2, "begin": 1, "end": 3}, X), X[:, :, 1:3])
    same(mxnet.op("slice_axis", {"axis": -1, "begin": -2, "end": None}, X), X[..., -2:])


def test_parts_like_another(mxnet: Any) -> None:
    other = np.zeros((2, 2, 3, 4), np.float32)
    same(mxnet.op("slice_like", {}, X, other), X[:2, :2, :3, :4])
    same(mxnet.op("slice_like", {"axes": (2, -1)}, X, other), X[:, :, :3, :4])


def test_cut_images(mxnet: Any) -> None:
    other = np.zeros((2, 3, 2, 3), np.float32)
    same(mxnet.op("Crop", {"h_w": (2, 3), "offset": (1, 2)}, X), X[:, :, 1:3, 2:5])
    same(mxnet.op("Crop", {"h_w": (2, 3), "center_crop": True}, X), X[:, :, 1:3, 1:4])
    same(mxnet.op("Crop", {"num_args": 2, "offset": (1, 1)}, X, other), X[:, :, 1:3, 1:4])
    same(mxnet.op("Crop", {"num_args": 2, "center_crop": 1}, X, other), X[:, :, 1:3, 1:4])


def test_copies(mxnet: Any) -> None:
    same(mxnet.op("tile", {"reps": (2, 3)}, X), np.tile(X, (2, 3)))
    same(mxnet.op("tile", {"reps": (2, 1, 1, 1, 1)}, X), np.tile(X, (2, 1, 1, 1, 1)))
    for axis in (0, 1, 3, -2):
        same(mxnet.op("repeat", {"repeats": 2, "axis": axis}, X), X.repeat(2, axis))
    same(mxnet.op("repeat", {"repeats": 3}, X), X.repeat(3))


@pytest.mark.parametrize("op", ["reverse", "flip"])
def test_backwards(mxnet: Any, op: str) -> None:
    same(mxnet.op(op, {"axis": 1}, X), np.flip(X, 1))
    same(mxnet.op(op, {"axis": (0, 3)}, X), np.flip(X, (0, 3)))


def test_broadcasts(mxnet: Any) -> None:
    x = X[:, :1, :, :1]
    same(mxnet.op("broadcast_to", {"shape": (0, 3, 0, 5)}, x), np.broadcast_to(x, X.shape))
    for op in ("broadcast_axis", "broadcast_axes"):
        found = mxnet.op(op, {"axis": (1, -1), "size": (3, 5)}, x)
        same(found, np.broadcast_to(x, X.shape))
    same(mxnet.op("broadcast_like", {}, x, X), np.broadcast_to(x, X.shape))
    axes = {"lhs_axes": (1,), "rhs_axes": (-3,)}
    same(mxnet.op("broadcast_like", axes, x, X), np.broadcast_to(x, (2, 3, 4, 1)))
    with pytest.raises(SmithError, match="lhs_axes and rhs_axes do not fit"):
        mxnet.op("broadcast_like", {"lhs_axes": (1,)}, x, X)


@pytest.mark.parametrize("prefix", ["", "_npx_"])
def test_sizes_as_values(mxnet: Any, prefix: str) -> None:
    same(mxnet.op(f"{prefix}shape_array", {}, X), np.array([2, 3, 4, 5]))


def test_the_number_of_elements(mxnet: Any) -> None:
    same(mxnet.op("size_array", {}, X), np.array([120]))


def test_channels_and_space(mxnet: Any) -> None:
    x = np.arange(96, dtype=np.float32).reshape(1, 8, 3, 4)
    deep = x.reshape(1, 2, 2, 2, 3, 4).transpose(0, 3, 4, 1, 5, 2).reshape(1, 2, 6, 8)
    same(mxnet.op("depth_to_space", {"block_size": 2}, x), deep)
    same(mxnet.op("space_to_depth", {"block_size": 2}, deep), x)


@pytest.mark.parametrize("op", ["Pad", "pad"])
def test_pads(mxnet: Any, op: str) -> None:
    widths = ((0, 0), (0, 0), (1, 2), (2, 1))
    flat = tuple(n for pair in widths for n in pair)
    for value in (0, 1.5):
        found = mxnet.op(op, {"mode": "constant", "pad_width": flat, "constant_value": value}, X)
        same(found, np.pad(X, widths, constant_values=value))
    for mode in ("edge", "reflect"):
        same(mxnet.op(op, {"mode": mode, "pad_width": flat}, X), np.pad(X, widths, mode=mode))
    with pytest.raises(SmithError, match="does not fit an input of 4 axes"):
        mxnet.op(op, {"pad_width": (1, 1)}, X)


def test_diagonals(mxnet: Any) -> None:
    square = X[0, 0]
    same(mxnet.op("diag", {}, square, batch=False), np.diag(square))
    same(mxnet.op("diag", {}, square[0].copy(), batch=False), np.diag(square[0]))
    with pytest.raises(SmithError, match="a diagonal beside the main one"):
        mxnet.op("diag", {"k": 1}, square)


@pytest.mark.parametrize("op", ["Concat", "concat", "_rnn_param_concat"])
def test_joins(mxnet: Any, op: str) -> None:
    other = X[:, :2] + 200
    same(mxnet.op(op, {"num_args": 2, "dim": 1}, X, other), np.concatenate([X, other], 1))
    same(mxnet.op(op, {"num_args": 2, "dim": -1}, X, X), np.concatenate([X, X], -1))
    same(mxnet.op(op, {"num_args": 1}, X), X)


def test_stacks(mxnet: Any) -> None:
    for axis in (0, 2, -1):
        found = mxnet.op("stack", {"num_args": 2, "axis": axis}, X, X + 1)
        same(found, np.stack([X, X + 1], axis))


@pytest.mark.parametrize("op", ["SliceChannel", "split"])
@pytest.mark.parametrize("opset", [13, 20])
def test_splits(mxnet: Any, op: str, opset: int) -> None:
    options = {"count": 2, "opset": opset}
    for axis in (2, 0):
        found = mxnet.outputs(op, {"num_outputs": 2, "axis": axis}, X, **options)
        for part, expected in zip(found, np.split(X, 2, axis), strict=True):
            same(part, expected)
    found = mxnet.outputs(op, {"num_outputs": 3, "squeeze_axis": 1}, X, count=3, opset=opset)
    for at, part in enumerate(found):
        same(part, X[:, at])
    same(mxnet.op(op, {"num_outputs": 1}, X), X)
    with pytest.raises(SmithError, match="an axis of 3 does not divide into 2 parts"):
        mxnet.outputs(op, {"num_outputs": 2}, X, count=2)


def test_splits_at_places(mxnet: Any) -> None:
    found = mxnet.outputs("_split_v2", {"indices": (0, 1, 3), "axis": 3}, X, count=3)
    for part, expected in zip(found, np.split(X, [1, 3], 3), strict=True):
        same(part, expected)
    parts = mxnet.outputs(
        "_split_v2", {"sections": 3, "indices": (), "axis": 1, "squeeze_axis": True}, X, count=3
    )
    for at, part in enumerate(parts):
        same(part, X[:, at])
    with pytest.raises(SmithError, match="do not split an axis of 3"):
        mxnet.outputs("_split_v2", {"indices": (0, 2, 1)}, X, count=3)


def source(mxnet: Any, op: str, attrs: dict[str, Any]) -> Array:
    """Run an operator without inputs beside one that keeps the graph alive."""
    nodes = [("null", "x", {}, []), ("_copy", "y", {}, [0]), (op, "it", attrs, [])]
    found: dict[str, Array] = mxnet.run(mxnet.write(nodes, [1, 2], {}), {"x": X})
    return found["it_output"]


def test_arrays_from_nothing(mxnet: Any) -> None:
    same(source(mxnet, "_zeros", {"shape": (2, 3)}), np.zeros((2, 3)))
    same(source(mxnet, "_zeros_without_dtype", {"shape": (2,)}), np.zeros(2))
    ones = source(mxnet, "_ones", {"shape": (300, 300), "dtype": "int32"})
    assert ones.dtype == np.int32
    same(ones, np.ones((300, 300)))
    same(source(mxnet, "_full", {"shape": "(2,)", "value": 1.5}), np.full(2, 1.5))
    same(source(mxnet, "_arange", {"start": 2, "stop": 8, "step": 1.5}), np.arange(2, 8, 1.5))
    same(source(mxnet, "_arange", {"start": 4}), np.arange(4))
    same(source(mxnet, "_arange", {"stop": 3}), np.arange(3))
    twice = {"start": 0, "stop": 3, "repeat": 2, "dtype": "int64"}
    same(source(mxnet, "_arange", twice), np.arange(3).repeat(2))
    line = {"start": 0, "stop": 1, "num": 5, "endpoint": True}
    same(source(mxnet, "_linspace", line), np.linspace(0, 1, 5, dtype=np.float32))
    same(source(mxnet, "_eye", {"N": 3, "M": 4, "k": 1}), np.eye(3, 4, 1))


def test_arrays_like_another(mxnet: Any) -> None:
    same(mxnet.op("zeros_like", {}, X), np.zeros_like(X))
    same(mxnet.op("ones_like", {}, X), np.ones_like(X))
    same(mxnet.op("_npi_full_like", {"fill_value": 2.5}, X), np.full_like(X, 2.5))
    for op in ("_contrib_arange_like", "_npx_arange_like"):
        found = mxnet.op(op, {"axis": 0, "start": 2, "step": 0.5}, X)
        same(found, 2 + 0.5 * np.arange(2))
        same(mxnet.op(op, {"axis": 1, "repeat": 2}, X), np.array([0, 0, 1]))
        same(mxnet.op(op, {}, X), np.arange(120).reshape(X.shape))


@pytest.mark.parametrize(
    ("op", "attrs"),
    [
        ("_zeros", {"shape": (2**40, 2)}),
        ("_arange", {"start": 0, "stop": 1e12}),
        ("_arange", {"start": 0, "stop": 1, "step": 0}),
        ("_linspace", {"num": 10**9}),
        ("_eye", {"N": 10**6}),
    ],
)
def test_arrays_that_are_too_large(mxnet: Any, op: str, attrs: dict[str, Any]) -> None:
    with pytest.raises(SmithError, match=rf"the node 'it' \({op}\): .*(bounds|not within)"):
        source(mxnet, op, attrs)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_parts_of_any_kind(mxnet: Any, data: st.DataObject) -> None:
    bound = st.none() | st.integers(-6, 6)
    parts = data.draw(
        st.lists(st.tuples(bound, bound, st.none() | st.sampled_from([1, 2, -1, -2])), max_size=3)
    )
    parts = [(None, None, None), *parts]
    expected = X[tuple(slice(*part) for part in parts)]
    columns = dict(zip(("begin", "end", "step"), zip(*parts, strict=True), strict=True))
    if expected.size:
        same(mxnet.op("slice", columns, X), expected)
