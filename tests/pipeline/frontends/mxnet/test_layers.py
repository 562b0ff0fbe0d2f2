"""Convolutions, pools and dense layers, against torch and against loops."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from onnxsmith.errors import SmithError

Array = np.ndarray[Any, Any]


def normal(rng: np.random.Generator, *shape: int) -> Array:
    return rng.normal(size=shape).astype(np.float32)


CONVOLUTIONS: list[dict[str, Any]] = [
    {"kernel": (3, 3)},
    {"kernel": (3, 2), "stride": (2, 1), "pad": (1, 0), "dilate": (1, 2)},
    {"kernel": (3, 3), "num_group": 2, "pad": (2, 1)},
    {"kernel": (3,), "stride": (2,), "pad": (1,)},
    {"kernel": (2, 3, 2), "pad": (1, 1, 0)},
]


@pytest.mark.parametrize("op", ["Convolution", "Convolution_v1", "_npx_convolution"])
@pytest.mark.parametrize("settings", CONVOLUTIONS, ids=str)
def test_convolutions(
    mxnet: Any, close: Any, rng: np.random.Generator, op: str, settings: dict[str, Any]
) -> None:
    kernel = settings["kernel"]
    axes, groups = len(kernel), settings.get("num_group", 1)
    x = normal(rng, 2, 4, *(7, 6, 5)[:axes])
    weights = [normal(rng, 6, 4 // groups, *kernel), normal(rng, 6)]
    function = (functional.conv1d, functional.conv2d, functional.conv3d)[axes - 1]
    for bias in (True, False):
        used = weights if bias else weights[:1]
        found = mxnet.op(op, {**settings, "num_filter": 6, "no_bias": not bias}, x, weights=used)
        expected = function(
            torch.from_numpy(x),
            *map(torch.from_numpy, used),
            stride=settings.get("stride", 1),
            padding=settings.get("pad", 0),
            dilation=settings.get("dilate", 1),
            groups=groups,
        )
        close(found, expected.numpy())


@pytest.mark.parametrize("op", ["Deconvolution", "_npx_deconvolution"])
def test_transposed_convolutions(mxnet: Any, close: Any, rng: np.random.Generator, op: str) -> None:
    x = normal(rng, 2, 4, 5, 6)
    weight, bias = normal(rng, 4, 3, 3, 4), normal(rng, 6)
    settings = {"kernel": (3, 4), "stride": (2, 3), "pad": (1, 1), "adj": (1, 2), "num_group": 2}
    found = mxnet.op(op, {**settings, "num_filter": 6, "no_bias": False}, x, weights=[weight, bias])
    tensors = [torch.from_numpy(array) for array in (x, weight, bias)]
    expected = functional.conv_transpose2d(
        *tensors, stride=(2, 3), padding=(1, 1), output_padding=(1, 2), groups=2
    )
    close(found, expected.numpy())
    found = mxnet.op(op, {"kernel": (3, 4), "num_group": 2}, x, weights=[weight])  # no bias
    close(found, functional.conv_transpose2d(tensors[0], tensors[1], groups=2).numpy())


def test_a_transposed_convolution_with_a_target(
    mxnet: Any, close: Any, rng: np.random.Generator
) -> None:
    x, weight = normal(rng, 1, 2, 5, 5), normal(rng, 2, 3, 4, 4)
    settings = {"kernel": (4, 4), "stride": (2, 2), "target_shape": (9, 10)}
    found = mxnet.op("Deconvolution", settings, x, weights=[weight])
    whole = functional.conv_transpose2d(torch.from_numpy(x), torch.from_numpy(weight), stride=2)
    # 12 values in all: 3 go in height (2 in front), 2 in width.
    close(found, whole.numpy()[:, :, 2:11, 1:11])


def windows(size: int, kernel: int, stride: int, pad: int, *, full: bool) -> list[tuple[int, int]]:
    """Start and end of each window in padded places."""
    room = size + 2 * pad - kernel
    count = 1 + (math.ceil(room / stride) if full else room // stride)
    return [(at * stride - pad, at * stride - pad + kernel) for at in range(count)]


def pool(x: Array, settings: dict[str, Any]) -> Array:
    """MXNet's pool_sum_2d_cpu and pool_max_2d_cpu, written as loops."""
    kernel, stride = settings["kernel"], settings.get("stride", (1, 1))
    pad, kind = settings.get("pad", (0, 0)), settings["pool_type"]
    full = settings.get("pooling_convention") == "full"
    size = x.shape[2:]
    rows, columns = (windows(size[a], kernel[a], stride[a], pad[a], full=full) for a in range(2))
    out = np.zeros((*x.shape[:2], len(rows), len(columns)))
    for (i, (top, bottom)), (j, (left, right)) in itertools.product(
        enumerate(rows), enumerate(columns)
    ):
        # Windows end at the padding's end; only those elements count.
        bottom, right = min(bottom, size[0] + pad[0]), min(right, size[1] + pad[1])
        count = (bottom - top) * (right - left)
        part = x[:, :, max(top, 0) : min(bottom, size[0]), max(left, 0) : min(right, size[1])]
        part = part.astype(np.float64)
        if not settings.get("count_include_pad", True):
            count = max(part.shape[2] * part.shape[3], 1)  # none beyond the input
        if kind == "max":
            out[:, :, i, j] = part.max((2, 3), initial=-np.inf)
        elif kind == "lp":
            power = settings["p_value"]
            out[:, :, i, j] = (np.abs(part) ** power).sum((2, 3)) ** (1 / power)
        else:
            total = part.sum((2, 3))
            out[:, :, i, j] = total / count if kind == "avg" else total
    return out


@pytest.mark.parametrize("convention", ["valid", "full"])
@pytest.mark.parametrize("kind", ["max", "avg", "inner", "sum", "lp"])
@pytest.mark.parametrize(
    "window",
    [
        {"kernel": (2, 2), "stride": (2, 2)},
        {"kernel": (3, 3), "stride": (2, 2)},
        {"kernel": (3, 2), "stride": (2, 1), "pad": (1, 0)},
        {"kernel": (3, 3), "stride": (3, 3), "pad": (1, 1)},
        {"kernel": (2, 2)},
    ],
    ids=str,
)
def test_pools(
    mxnet: Any,
    close: Any,
    rng: np.random.Generator,
    convention: str,
    kind: str,
    window: dict[str, Any],
) -> None:
    x = normal(rng, 2, 3, 8, 7)
    settings: dict[str, Any] = {**window, "pool_type": kind, "pooling_convention": convention}
    if kind == "inner":
        settings |= {"pool_type": "avg", "count_include_pad": False}
    if kind == "lp":
        settings["p_value"] = 2
        x = np.abs(x)
    found, expected = mxnet.op("Pooling", settings, x), pool(x, settings)
    nothing = expected == -np.inf  # windows beyond the input; MXNet gives the least float
    assert (found[nothing] < -1e38).all()
    close(np.where(nothing, 0, found), np.where(nothing, 0, expected))


@pytest.mark.parametrize("op", ["Pooling", "_npx_pooling"])
def test_pools_of_everything(mxnet: Any, close: Any, rng: np.random.Generator, op: str) -> None:
    x = normal(rng, 2, 3, 5, 4)
    wide = x.astype(np.float64)
    expected = {
        "max": wide.max((2, 3), keepdims=True),
        "avg": wide.mean((2, 3), keepdims=True),
        "sum": wide.sum((2, 3), keepdims=True),
        "lp": np.sqrt((wide**2).sum((2, 3), keepdims=True)),
    }
    for kind, values in expected.items():
        settings = {"global_pool": True, "pool_type": kind, "p_value": 2, "kernel": (1, 1)}
        close(mxnet.op(op, settings, x), values)
    one = mxnet.op(op, {"global_pool": 1, "pool_type": "lp", "p_value": 1}, np.abs(x))
    close(one, np.abs(wide).sum((2, 3), keepdims=True))


def test_pools_of_one_and_three_axes(mxnet: Any, close: Any, rng: np.random.Generator) -> None:
    x = normal(rng, 2, 3, 9)
    settings = {"kernel": (3,), "stride": (2,), "pool_type": "max"}
    close(mxnet.op("Pooling", settings, x), functional.max_pool1d(torch.from_numpy(x), 3, 2))
    y = normal(rng, 2, 3, 4, 6, 5)
    settings = {"kernel": (2, 3, 2), "stride": (2, 2, 1), "pool_type": "avg"}
    expected = functional.avg_pool3d(torch.from_numpy(y), (2, 3, 2), (2, 2, 1))
    close(mxnet.op("Pooling", settings, y), expected)


def test_pools_with_the_channels_last(mxnet: Any, close: Any, rng: np.random.Generator) -> None:
    x = normal(rng, 2, 6, 5, 3)
    settings = {"kernel": (2, 2), "stride": (2, 2), "pool_type": "max", "layout": "NHWC"}
    expected = functional.max_pool2d(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()), 2)
    close(mxnet.op("Pooling", settings, x), expected.numpy().transpose(0, 2, 3, 1))


def test_pools_that_keep_the_size(mxnet: Any, close: Any, rng: np.random.Generator) -> None:
    x = normal(rng, 1, 2, 5, 6)
    settings = {"kernel": (2, 3), "pool_type": "max", "pooling_convention": "same"}
    padded = np.pad(x, ((0, 0), (0, 0), (0, 1), (0, 2)), constant_values=-np.inf)
    expected = functional.max_pool2d(torch.from_numpy(padded), (2, 3), 1)
    close(mxnet.op("Pooling", settings, x), expected.numpy())
    with pytest.raises(SmithError, match=r"\(Pooling\): the convention 'same' for other than max"):
        mxnet.op("Pooling", {**settings, "pool_type": "avg"}, x)


def test_pools_of_the_first_version_count_their_padding(
    mxnet: Any, close: Any, rng: np.random.Generator
) -> None:
    x = normal(rng, 1, 2, 6, 6) - 5
    padded = torch.from_numpy(np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))))
    settings = {"kernel": (3, 3), "stride": (2, 2), "pad": (1, 1)}
    found = mxnet.op("Pooling_v1", {**settings, "pool_type": "max"}, x)
    close(found, functional.max_pool2d(padded, 3, 2).numpy())
    found = mxnet.op("Pooling_v1", {**settings, "pool_type": "avg"}, x)
    close(found, functional.avg_pool2d(padded, 3, 2).numpy())


@pytest.mark.parametrize("size", [(1, 1), (4, 3), (3, 5), (7,), (2, 6)])
def test_adaptive_pools(
    mxnet: Any, close: Any, rng: np.random.Generator, size: tuple[int, ...]
) -> None:
    x = normal(rng, 2, 3, 8, 6)
    expected = functional.adaptive_avg_pool2d(
        torch.from_numpy(x), size * 2 if len(size) == 1 else size
    )
    found = mxnet.op("_contrib_AdaptiveAvgPooling2D", {"output_size": size}, x)
    close(found, expected.numpy())


@pytest.mark.parametrize("op", ["FullyConnected", "_npx_fully_connected", "_sparse_FullyConnected"])
def test_dense_layers(mxnet: Any, close: Any, rng: np.random.Generator, op: str) -> None:
    for shape, flatten in (((2, 12), True), ((2, 3, 4), True), ((2, 3, 12), False)):
        x, weights = normal(rng, *shape), [normal(rng, 5, 12), normal(rng, 5)]
        flat = x.reshape(2, -1) if flatten else x
        settings = {"num_hidden": 5, "flatten": flatten}
        close(mxnet.op(op, settings, x, weights=weights), flat @ weights[0].T + weights[1])
        found = mxnet.op(op, {**settings, "no_bias": True}, x, weights=weights[:1])
        close(found, flat @ weights[0].T)


@pytest.mark.parametrize("op", ["dot", "_sparse_dot"])
def test_products(mxnet: Any, close: Any, rng: np.random.Generator, op: str) -> None:
    a, b = normal(rng, 3, 4), normal(rng, 4, 5)
    close(mxnet.op(op, {}, a, b, batch=False), a @ b)
    turned = {"transpose_a": True, "transpose_b": "1"}
    close(mxnet.op(op, turned, a.T.copy(), b.T.copy(), batch=False), a @ b)
    vector = mxnet.op(op, {}, a[0], b[:, 0].copy(), batch=False)
    close(vector, (a[0] @ b[:, 0]).reshape(1))
    c, d = normal(rng, 2, 3, 4), normal(rng, 4, 5, 6)
    close(mxnet.op(op, {}, c, d, batch=False), np.tensordot(c, d, 1))
    e = normal(rng, 4, 2, 3)
    found = mxnet.op(op, {"transpose_a": True}, e, d, batch=False)
    close(found, np.tensordot(e.transpose(1, 2, 0), d, 1))
    found = mxnet.op(op, {"transpose_b": True}, c, normal(rng, 5, 4) * 0 + 2, batch=False)
    close(found, np.repeat(c.sum(-1, keepdims=True) * 2, 5, -1))


@pytest.mark.parametrize("op", ["batch_dot", "_npx_batch_dot", "_linalg_gemm2", "linalg_gemm2"])
def test_products_of_batches(mxnet: Any, close: Any, rng: np.random.Generator, op: str) -> None:
    a, b = normal(rng, 2, 3, 4), normal(rng, 2, 4, 5)
    close(mxnet.op(op, {}, a, b), a @ b)
    turned = [array.transpose(0, 2, 1).copy() for array in (a, b)]
    close(mxnet.op(op, {"transpose_a": True, "transpose_b": True}, *turned), a @ b)
    if "gemm2" in op:
        close(mxnet.op(op, {"alpha": 0.5}, a, b), 0.5 * a @ b)
        with pytest.raises(SmithError, match="another axis than the last two"):
            mxnet.op(op, {"axis": 0}, a, b)


@pytest.mark.parametrize("prefix", ["linalg", "_linalg"])
def test_products_with_sums(mxnet: Any, close: Any, rng: np.random.Generator, prefix: str) -> None:
    a, b, c = normal(rng, 2, 3, 4), normal(rng, 2, 4, 5), normal(rng, 2, 3, 5)
    found = mxnet.op(f"{prefix}_gemm", {"alpha": 2.0, "beta": -0.5}, a, b, c)
    close(found, 2 * a @ b - 0.5 * c)
    found = mxnet.op(f"{prefix}_syrk", {"alpha": 2.0}, a)
    close(found, 2 * a @ a.transpose(0, 2, 1))
    found = mxnet.op(f"{prefix}_syrk", {"transpose": True}, a)
    close(found, a.transpose(0, 2, 1) @ a)


def test_weights_that_do_not_fit(mxnet: Any, rng: np.random.Generator) -> None:
    x = normal(rng, 1, 4, 6, 6)
    for weight, message in (
        (normal(rng, 6, 4, 2, 2), r"the node 'it' \(Convolution\): its weight .* does not fit"),
        (normal(rng, 6, 4, 3), "its weight has 3 dimensions"),
        (normal(rng, 6, 3, 3, 3), r"the node 'it' \(Convolution\) takes 3 channels, but gets 4"),
    ):
        settings = {"kernel": (3, 3), "no_bias": True}
        with pytest.raises(SmithError, match=message):
            mxnet.op("Convolution", settings, x, weights=[weight])
    with pytest.raises(SmithError, match=r"\(FullyConnected\) takes 12 features, but gets 144"):
        mxnet.op("FullyConnected", {"no_bias": True}, x, weights=[normal(rng, 5, 12)])
    with pytest.raises(SmithError, match="its input 2 is missing"):
        mxnet.op("FullyConnected", {}, x, weights=[normal(rng, 5, 144)])


@pytest.mark.parametrize(
    ("op", "attrs", "message"),
    [
        ("Convolution", {"kernel": (0, 3)}, r"the kernel \[0, 3\] has no size"),
        ("Convolution", {"kernel": (3, 3), "layout": "NHWC"}, "the layout NHWC cannot be imported"),
        ("Convolution", {"kernel": (3, 3), "stride": (1,)}, r"stride=\[1\] does not fit"),
        ("Convolution", {"kernel": "(3, x)"}, "kernel='x' is not a whole number"),
        ("Convolution", {"kernel": (3,)}, "slides over 1 axes, but its input has 4 in all"),
        ("Deconvolution", {"kernel": (3, 3), "target_shape": (99, 9)}, "is too large"),
        ("Pooling", {"kernel": (3,)}, r"kernel=\[3\] does not fit an input of 2 axes"),
        ("Pooling", {"pool_type": "median"}, "pool_type='median' is none of max, avg"),
        ("Pooling", {"kernel": (9, 9)}, "has no output at the given sizes"),
    ],
)
def test_settings_that_do_not_fit(
    mxnet: Any, rng: np.random.Generator, op: str, attrs: dict[str, Any], message: str
) -> None:
    x, weight = normal(rng, 1, 4, 6, 6), normal(rng, 4, 4, 3, 3)
    weights = [] if op == "Pooling" else [weight]
    with pytest.raises(SmithError, match=message) as caught:
        mxnet.op(op, {"no_bias": True, **attrs}, x, weights=weights)
    assert "'it'" in caught.value.message
