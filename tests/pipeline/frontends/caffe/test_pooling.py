"""Pooling exactly as Caffe does it, against loops written from its definition."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from onnxsmith.errors import SmithError

Array = np.ndarray[Any, Any]
_LOWEST = np.finfo(np.float32).min


def pool(x: Array, method: str, kernel: Any, stride: Any, pad: Any, *, ceil: bool = True) -> Array:
    """Pool as pooling_layer.cpp does."""
    kh, kw = kernel
    sh, sw = stride
    ph, pw = pad
    height, width = x.shape[2:]
    round_ = math.ceil if ceil else math.floor
    oh = round_((height + 2 * ph - kh) / sh) + 1
    ow = round_((width + 2 * pw - kw) / sw) + 1
    if ph or pw:
        oh -= (oh - 1) * sh >= height + ph
        ow -= (ow - 1) * sw >= width + pw
    out = np.zeros((*x.shape[:2], oh, ow), np.float64)
    for i, j in itertools.product(range(oh), range(ow)):
        h0, w0 = i * sh - ph, j * sw - pw
        h1, w1 = min(h0 + kh, height + ph), min(w0 + kw, width + pw)
        size = (h1 - h0) * (w1 - w0)
        part = x[:, :, max(h0, 0) : min(h1, height), max(w0, 0) : min(w1, width)]
        part = part.astype(np.float64)
        if method == "MAX":
            out[:, :, i, j] = part.max((2, 3), initial=_LOWEST)
        else:
            out[:, :, i, j] = part.sum((2, 3)) / size
    return out


CASES = [
    (size, kernel, stride, pad, ceil)
    for size, kernel, stride, pad, ceil in itertools.product(
        [(5, 6), (7, 8), (9, 4)], [1, 2, 3, 4], [1, 2, 3], [0, 1, 2], [True, False]
    )
    if pad < kernel
]


@pytest.mark.parametrize("method", ["MAX", "AVE"])
def test_all_small_windows_agree_with_caffe(caffe: Any, method: str, rng: Any) -> None:
    """Everything at once: one input a size, one layer a case; ONNX's rounding differs in some."""
    text, feeds, expected = "", {}, {}
    for size in sorted({case[0] for case in CASES}):
        name = f"x{size[0]}"
        text += f'input: "{name}" input_shape {{ dim: 2 dim: 3 dim: {size[0]} dim: {size[1]} }}\n'
        feeds[name] = rng.normal(size=(2, 3, *size)).astype(np.float32) - 1
    for at, (size, kernel, stride, pad, ceil) in enumerate(CASES):
        x = feeds[f"x{size[0]}"]
        empty = ceil and not pad and stride > kernel and _has_empty(size, kernel, stride)
        if method == "AVE" and empty:
            continue
        expected[f"y{at}"] = pool(x, method, (kernel,) * 2, (stride,) * 2, (pad,) * 2, ceil=ceil)
        text += (
            f'layer {{ name: "l{at}" type: "Pooling" bottom: "x{size[0]}" top: "y{at}" '
            f"pooling_param {{ pool: {method} kernel_size: {kernel} stride: {stride} pad: {pad} "
            f"round_mode: {'CEIL' if ceil else 'FLOOR'} }} }}\n"
        )
    found = caffe.run(text, None, feeds)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].shape == array.shape, CASES[int(name[1:])]
        np.testing.assert_allclose(
            found[name], array, rtol=1e-5, atol=1e-6, err_msg=str(CASES[int(name[1:])])
        )


def _has_empty(size: tuple[int, int], kernel: int, stride: int) -> bool:
    return any(math.ceil((s - kernel) / stride) * stride >= s for s in size)


@pytest.mark.parametrize("method", ["MAX", "AVE"])
@pytest.mark.parametrize(
    ("kernel", "stride", "pad"),
    [
        ((3, 2), (2, 1), (1, 0)),
        ((2, 5), (2, 3), (0, 4)),
        ((4, 3), (3, 2), (3, 2)),
        ((1, 3), (1, 2), (0, 1)),
    ],
)
def test_windows_need_not_be_square(
    caffe: Any, rng: Any, method: str, kernel: Any, stride: Any, pad: Any
) -> None:
    x = rng.normal(size=(2, 3, 10, 11))
    settings = "".join(
        f" {name}_{axis}: {value}"
        for name, pair in (("kernel", kernel), ("stride", stride), ("pad", pad))
        for axis, value in zip("hw", pair, strict=True)
    )
    found = caffe.layer("Pooling", f"pooling_param {{ pool: {method} {settings} }}", [], x)
    expected = pool(x, method, kernel, stride, pad)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_an_empty_last_window_holds_the_lowest_number(caffe: Any, rng: Any) -> None:
    """Caffe drops such a window with padding only; without it gives -FLT_MAX."""
    x = rng.normal(size=(1, 2, 4, 6))
    found = caffe.layer("Pooling", "pooling_param { kernel_size: 1 stride: 2 }", [], x)
    expected = pool(x, "MAX", (1, 1), (2, 2), (0, 0))
    assert found.shape == (1, 2, 3, 4)
    assert (found[:, :, 2] == _LOWEST).all()
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_average_of_an_empty_window_is_refused(caffe: Any, rng: Any) -> None:
    with pytest.raises(SmithError, match=r"'it' \(Pooling\): its last window is empty.*NaN"):
        caffe.layer(
            "Pooling",
            "pooling_param { pool: AVE kernel_size: 1 stride: 2 }",
            [],
            rng.normal(size=(1, 2, 4, 6)),
        )


@pytest.mark.parametrize(("method", "reduce"), [("MAX", np.max), ("AVE", np.mean)])
def test_global_pooling(caffe: Any, rng: Any, method: str, reduce: Any) -> None:
    x = rng.normal(size=(2, 3, 5, 7))
    settings = f"pooling_param {{ pool: {method} global_pooling: true }}"
    found = caffe.layer("Pooling", settings, [], x)
    np.testing.assert_allclose(found, reduce(x, axis=(2, 3), keepdims=True), rtol=1e-5, atol=1e-6)


def test_the_other_way_to_round_down(caffe: Any, rng: Any) -> None:
    x = rng.normal(size=(1, 2, 6, 6))
    settings = "pooling_param { kernel_size: 3 stride: 2 ceil_mode: false }"
    assert caffe.layer("Pooling", settings, [], x).shape == (1, 2, 2, 2)


def test_one_node_a_layer_and_no_padding_written_out(caffe: Any) -> None:
    text = """input: "x" input_dim: 1 input_dim: 3 input_dim: 12 input_dim: 12
    layer { name: "p" type: "Pooling" bottom: "x" top: "y"
            pooling_param { kernel_size: 3 stride: 2 } }"""
    (node,) = caffe.artifact(text).model.graph
    assert (node.op_type, node.name) == ("MaxPool", "p")
    assert {
        name: tuple(a.value) if a.type.name == "INTS" else a.value
        for name, a in node.attributes.items()
    } == {
        "kernel_shape": (3, 3),
        "strides": (2, 2),
        "ceil_mode": 1,
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("pool: STOCHASTIC kernel_size: 2", "stochastic pooling on GPUs only"),
        (
            "kernel_size: 2 pad: 2",
            "pad smaller than the kernel|windows of 2, a stride of 1 and a pad of 2",
        ),
        ("kernel_size: 0", "windows of 0"),
        ("kernel_size: 9", "window of 9 does not fit into 5"),
        ("pool: MEDIAN kernel_size: 2", "pool should be one of MAX, AVE, STOCHASTIC"),
    ],
)
def test_refusals_name_the_layer(caffe: Any, rng: Any, settings: str, message: str) -> None:
    with pytest.raises(SmithError, match=rf"layer 'it' \(Pooling\):.*({message})"):
        caffe.layer("Pooling", f"pooling_param {{ {settings} }}", [], rng.normal(size=(1, 1, 5, 5)))


def test_three_dimensions_are_refused(caffe: Any, rng: Any) -> None:
    with pytest.raises(SmithError, match="pools a blob of 3 dimensions"):
        caffe.layer("Pooling", "pooling_param { kernel_size: 2 }", [], rng.normal(size=(1, 5, 5)))


@pytest.mark.parametrize(("method", "levels"), [("MAX", 3), ("AVE", 2), ("MAX", 1)])
@pytest.mark.parametrize("size", [(8, 8), (9, 7), (6, 12)])
def test_spatial_pyramids(caffe: Any, rng: Any, method: str, levels: int, size: Any) -> None:
    x = rng.normal(size=(2, 3, *size))
    settings = f"spp_param {{ pool: {method} pyramid_height: {levels} }}"
    parts = []
    for level in range(levels):
        kernel = tuple(math.ceil(s / 2**level) for s in size)
        pad = tuple((k * 2**level - s + 1) // 2 for k, s in zip(kernel, size, strict=True))
        parts.append(pool(x, method, kernel, kernel, pad).reshape(2, -1))
    found = caffe.layer("SPP", settings, [], x)
    np.testing.assert_allclose(found, np.concatenate(parts, 1), rtol=1e-5, atol=1e-6)


def test_a_pyramid_too_high_is_refused(caffe: Any, rng: Any) -> None:
    with pytest.raises(SmithError, match="too many for a size of 5"):
        caffe.layer("SPP", "spp_param { pyramid_height: 5 }", [], rng.normal(size=(1, 1, 5, 5)))


def test_sizes_may_stay_open(caffe: Any, rng: Any) -> None:
    """The rounding is left to the runtime, which rounds as Caffe does."""
    text = """input: "x" input_dim: 1 input_dim: 2 input_dim: 8 input_dim: 8
    layer { name: "p" type: "Pooling" bottom: "x" top: "y"
            pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 } }"""
    artifact = caffe.artifact(text, inputs=["x:float32[batch,2,height,width]"])
    for shape in [(1, 2, 8, 8), (2, 2, 7, 10), (3, 2, 5, 3)]:
        x = rng.normal(size=shape)
        with_session = caffe_run(artifact, x)
        np.testing.assert_allclose(
            with_session, pool(x, "AVE", (3, 3), (2, 2), (1, 1)), rtol=1e-5, atol=1e-6
        )


def caffe_run(artifact: Any, x: Array) -> Array:
    from onnxsmith.runtime.session import Session

    with Session(artifact, optimize=False) as session:
        return session.run({"x": x.astype(np.float32)})["y"]
