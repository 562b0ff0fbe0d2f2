"""Layers that move, join and reduce values, against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxsmith.errors import SmithError


def x_of(*shape: int) -> Any:
    return np.random.default_rng(3).normal(size=shape)


X = x_of(2, 6, 4, 5)


@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        ("", (2, 120)),
        ("axis: 2", (2, 6, 20)),
        ("axis: 0", (240,)),
        ("axis: 1 end_axis: 2", (2, 24, 5)),
        ("axis: -2", (2, 6, 20)),
        ("axis: 2 end_axis: 2", (2, 6, 4, 5)),
    ],
)
def test_flatten(caffe: Any, settings: str, shape: Any) -> None:
    found = caffe.layer("Flatten", f"flatten_param {{ {settings} }}", [], X)
    np.testing.assert_array_equal(found, X.reshape(shape).astype(np.float32))


@pytest.mark.parametrize(
    ("dims", "more", "shape"),
    [
        ([0, -1], "", (2, 120)),
        ([0, 0, -1], "", (2, 6, 20)),
        ([0, 3, 2, -1], "", (2, 3, 2, 20)),
        ([-1, 5], "", (48, 5)),
        ([2, 3, 40], "", (2, 3, 40)),
        ([-1], "axis: 1", (2, 120)),
        ([2, 3], "axis: 1 num_axes: 1", (2, 2, 3, 4, 5)),
        ([-1], "axis: 1 num_axes: 2", (2, 24, 5)),
        ([1], "axis: 1 num_axes: 0", (2, 1, 6, 4, 5)),
        ([1], "axis: -1 num_axes: 0", (2, 6, 4, 5, 1)),
    ],
)
def test_reshape(caffe: Any, dims: Any, more: str, shape: Any) -> None:
    text = "".join(f" dim: {dim}" for dim in dims)
    settings = f"reshape_param {{ shape {{ {text} }} {more} }}"
    found = caffe.layer("Reshape", settings, [], X)
    np.testing.assert_array_equal(found, X.reshape(shape).astype(np.float32))


@pytest.mark.parametrize("order", [[0, 2, 3, 1], [3, 1], [0, 1, 2, 3], [1]])
def test_permute(caffe: Any, order: Any) -> None:
    text = "".join(f" order: {axis}" for axis in order)
    found = caffe.layer("Permute", f"permute_param {{ {text} }}", [], X)
    full = order + [axis for axis in range(4) if axis not in order]
    np.testing.assert_array_equal(found, X.transpose(full).astype(np.float32))


@pytest.mark.parametrize(
    ("settings", "axis"),
    [
        ("", 1),
        ("concat_param { axis: 2 }", 2),
        ("concat_param { concat_dim: 3 }", 3),
        ("concat_param { axis: -1 }", 3),
        ("concat_param { axis: 0 }", 0),
    ],
)
def test_concat(caffe: Any, settings: str, axis: int) -> None:
    shape = list(X.shape)
    shape[axis] = 3
    other = x_of(*shape)
    if axis == 0:
        other = x_of(2, 6, 4, 5)
    found = caffe.layer("Concat", settings, [], X, other, X)
    np.testing.assert_array_equal(found, np.concatenate([X, other, X], axis).astype(np.float32))


@pytest.mark.parametrize(
    ("settings", "tops", "axis", "points"),
    [
        ("", 3, 1, [2, 4]),
        ("axis: 2 slice_point: 1", 2, 2, [1]),
        ("axis: -1 slice_point: 1 slice_point: 4", 3, 3, [1, 4]),
        ("slice_dim: 3 slice_point: 2", 2, 3, [2]),
    ],
)
def test_slice(caffe: Any, settings: str, tops: int, axis: int, points: Any) -> None:
    names = "".join(f' top: "y{at}"' for at in range(tops))
    text = f"""input: "x" input_shape {{ dim: 2 dim: 6 dim: 4 dim: 5 }}
    layer {{ name: "it" type: "Slice" bottom: "x" {names} slice_param {{ {settings} }} }}"""
    found = caffe.run(text, None, {"x": X})
    assert list(found) == [f"y{at}" for at in range(tops)]
    for array, part in zip(found.values(), np.split(X, points, axis), strict=True):
        np.testing.assert_array_equal(array, part.astype(np.float32))


@pytest.mark.parametrize(
    ("settings", "start", "offsets"),
    [
        ("", 2, [0, 0]),
        ("offset: 1", 2, [1, 1]),
        ("axis: 2 offset: 0 offset: 2", 2, [0, 2]),
        ("axis: 1 offset: 3 offset: 1 offset: 2", 1, [3, 1, 2]),
        ("axis: -1 offset: 2", 3, [2]),
    ],
)
def test_crop(caffe: Any, settings: str, start: int, offsets: Any) -> None:
    like = x_of(2, 3, 3, 3)
    index = [slice(None)] * 4
    for at, offset in enumerate(offsets):
        index[start + at] = slice(offset, offset + 3)
    found = caffe.layer("Crop", f"crop_param {{ {settings} }}", [], X, like)
    np.testing.assert_array_equal(found, X[tuple(index)].astype(np.float32))


@pytest.mark.parametrize(
    ("settings", "axis"), [("tiles: 3", 1), ("axis: -1 tiles: 2", 3), ("axis: 0 tiles: 2", 0)]
)
def test_tile(caffe: Any, settings: str, axis: int) -> None:
    found = caffe.layer("Tile", f"tile_param {{ {settings} }}", [], X)
    repeats = [1] * 4
    repeats[axis] = 2 if "2" in settings else 3
    np.testing.assert_array_equal(found, np.tile(X, repeats).astype(np.float32))


def test_shuffle_channel(caffe: Any) -> None:
    found = caffe.layer("ShuffleChannel", "shuffle_channel_param { group: 3 }", [], X)
    expected = X.reshape(2, 3, 2, 4, 5).transpose(0, 2, 1, 3, 4).reshape(X.shape)
    np.testing.assert_array_equal(found, expected.astype(np.float32))


def test_batch_reindex(caffe: Any) -> None:
    index = np.array([1.0, 0.0, 1.0])
    found = caffe.layer("BatchReindex", "", [], X, index)
    np.testing.assert_array_equal(found, X[[1, 0, 1]].astype(np.float32))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("", X + 2 * X + 3 * X),
        ("operation: SUM coeff: 1 coeff: -1 coeff: 0.5", X - 2 * X + 1.5 * X),
        ("operation: SUM coeff: 2 coeff: 1 coeff: -1", 2 * X + 2 * X - 3 * X),
        ("operation: PROD", X * 2 * X * 3 * X),
        ("operation: MAX", np.maximum(X, 3 * X)),
        ("operation: 0", X * 2 * X * 3 * X),
    ],
)
def test_eltwise(caffe: Any, settings: str, expected: Any) -> None:
    found = caffe.layer("Eltwise", f"eltwise_param {{ {settings} }}", [], X, 2 * X, 3 * X)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_axpy(caffe: Any) -> None:
    for scale in (x_of(2, 6), x_of(2, 6, 1, 1)):
        found = caffe.layer("Axpy", "", [], scale, X, 2 * X)
        expected = scale.reshape(2, 6, 1, 1) * X + 2 * X
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("operation", "reduce"),
    [
        ("SUM", lambda a, axes: a.sum(axes)),
        ("ASUM", lambda a, axes: np.abs(a).sum(axes)),
        ("SUMSQ", lambda a, axes: (a**2).sum(axes)),
        ("MEAN", lambda a, axes: a.mean(axes)),
    ],
)
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("opset", [17, 20])
def test_reduction(caffe: Any, operation: str, reduce: Any, axis: int, opset: int) -> None:
    settings = f"reduction_param {{ operation: {operation} axis: {axis} coeff: 0.5 }}"
    found = caffe.layer("Reduction", settings, [], X, opset=opset)
    expected = 0.5 * reduce(X, tuple(range(axis % 4, 4)))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def argmax(x: Any, top_k: int, axis: int | None) -> tuple[Any, Any]:
    """Sort pairs of value and place as argmax_layer.cpp does: of equal values the last is first."""
    if axis is None:
        x, axis = x.reshape(len(x), -1), 1
    places = np.arange(x.shape[axis]).reshape([-1 if a == axis else 1 for a in range(x.ndim)])
    order = np.lexsort((np.broadcast_to(-places, x.shape), -x), axis=axis)
    order = np.take(order, range(top_k), axis)
    return order, np.take_along_axis(x, order, axis)


@pytest.mark.parametrize("top_k", [1, 3])
@pytest.mark.parametrize("shape", [(2, 7), (2, 3, 4, 5)])
@pytest.mark.parametrize("values", [False, True])
def test_argmax_over_a_sample(caffe: Any, top_k: int, shape: Any, values: bool) -> None:
    x = x_of(*shape).round(1)  # with equal values
    settings = f"argmax_param {{ top_k: {top_k} out_max_val: {str(values).lower()} }}"
    found = caffe.layer("ArgMax", settings, [], x)
    places, best = argmax(x, top_k, None)
    expected = np.stack([places, best] if values else [places], 1)
    expected = expected.reshape(*expected.shape, *[1] * (len(shape) - 3))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("top_k", [1, 2])
@pytest.mark.parametrize("values", [False, True])
@pytest.mark.parametrize("axis", [1, -1])
def test_argmax_along_an_axis(caffe: Any, top_k: int, values: bool, axis: int) -> None:
    x = x_of(2, 5, 4, 3).round(1)
    settings = f"argmax_param {{ top_k: {top_k} axis: {axis} out_max_val: {str(values).lower()} }}"
    places, best = argmax(x, top_k, axis % 4)
    found = caffe.layer("ArgMax", settings, [], x)
    np.testing.assert_allclose(found, best if values else places, rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "settings", "shapes", "message"),
    [
        ("Flatten", "flatten_param { axis: 7 }", [(2, 3)], "no axis 7 of 2"),
        ("Flatten", "flatten_param { axis: 1 end_axis: 0 }", [(2, 3)], "end_axis 0 is before"),
        ("Reshape", "reshape_param { shape { dim: -1 dim: -1 } }", [(2, 3)], "do not fit"),
        ("Reshape", "reshape_param { shape { dim: 4 dim: 4 } }", [(2, 3)], "do not take the shape"),
        ("Reshape", "reshape_param { shape { dim: 1 dim: 0 dim: 0 } }", [(2, 3)], "no axis 2"),
        ("Permute", "permute_param { order: 5 }", [(2, 3)], "is no order of 2 axes"),
        ("Concat", "", [(2, 3, 4), (2, 3, 5)], "differ on other axes than 1"),
        ("Eltwise", "", [(2, 3), (2, 4)], "its blobs differ"),
        ("Eltwise", "eltwise_param { coeff: 1 }", [(2, 3), (2, 3)], "1 coefficients for 2 blobs"),
        ("Eltwise", "", [(2, 3)], "it reads 1 blobs"),
        ("Slice", "slice_param { slice_point: 9 }", [(2, 3)], None),
        (
            "Crop",
            "crop_param { offset: 9 }",
            [(1, 1, 5, 5), (1, 1, 3, 3)],
            "too small to be cropped",
        ),
        ("Crop", "", [(1, 1, 5, 5)], "reads 1 blobs instead of 2"),
        ("Tile", "", [(2, 3)], "its tiles is 0"),
        ("ArgMax", "argmax_param { top_k: 9 }", [(2, 3)], "top_k 9 is not from 1 to 3"),
        ("ShuffleChannel", "shuffle_channel_param { group: 2 }", [(1, 3, 2, 2)], "no 2 groups"),
        ("Tile", "tile_param { tiles: 2000000000 }", [(2000, 2000)], "would make a blob of"),
        ("Softmax", "", [(2, 3), (2, 3)], "reads 2 blobs instead of 1"),
    ],
)
def test_refusals(caffe: Any, kind: str, settings: str, shapes: Any, message: str | None) -> None:
    from onnxsmith.pipeline.frontends.convert import convert

    inputs = "".join(
        f'input: "x{at}" input_shape {{ {" ".join(f"dim: {d}" for d in s)} }}\n'
        for at, s in enumerate(shapes)
    )
    bottoms = " ".join(f'bottom: "x{at}"' for at in range(len(shapes)))
    tops = 'top: "y" top: "z"' if kind == "Slice" else 'top: "y"'
    text = f'{inputs} layer {{ name: "it" type: "{kind}" {bottoms} {tops} {settings} }}'
    with pytest.raises(SmithError, match=rf"layer 'it' \({kind}\):.*{message or 'does not part'}"):
        convert(caffe.write(text), verify=False)
