"""Convolution, Deconvolution and InnerProduct against loops written from their definitions."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from onnxsmith.errors import SmithError

Array = np.ndarray[Any, Any]


def convolve(x: Array, w: Array, stride: Any, pad: Any, dilation: Any, group: int) -> Array:
    """Cross-correlate, any number of spatial axes."""
    rank = x.ndim - 2
    x = np.pad(x, [(0, 0), (0, 0), *[(p, p) for p in pad]])
    kernel = w.shape[2:]
    sizes = [
        (x.shape[2 + a] - dilation[a] * (kernel[a] - 1) - 1) // stride[a] + 1 for a in range(rank)
    ]
    out = np.zeros((x.shape[0], w.shape[0], *sizes))
    per_in, per_out = w.shape[1], w.shape[0] // group
    for g, at in itertools.product(range(group), itertools.product(*map(range, kernel))):
        window = tuple(
            slice(
                at[a] * dilation[a], at[a] * dilation[a] + stride[a] * (sizes[a] - 1) + 1, stride[a]
            )
            for a in range(rank)
        )
        part = x[(slice(None), slice(g * per_in, (g + 1) * per_in), *window)]
        weight = w[(slice(g * per_out, (g + 1) * per_out), slice(None), *at)]
        out[:, g * per_out : (g + 1) * per_out] += np.einsum("nc...,oc->no...", part, weight)
    return out


def deconvolve(x: Array, w: Array, stride: int, pad: int, dilation: int, group: int) -> Array:
    """Scatter each value times its kernel, then cut the padding off."""
    n, c, height, width = x.shape
    per_in, per_out, kernel = c // group, w.shape[1], w.shape[2]
    reach = dilation * (kernel - 1) + 1
    out = np.zeros(
        (n, per_out * group, stride * (height - 1) + reach, stride * (width - 1) + reach)
    )
    for i, j, ki, kj in itertools.product(
        range(height), range(width), range(kernel), range(kernel)
    ):
        for ch in range(c):
            g = ch // per_in
            out[
                :,
                g * per_out : (g + 1) * per_out,
                i * stride + ki * dilation,
                j * stride + kj * dilation,
            ] += x[:, ch, i, j, None] * w[ch, :, ki, kj]
    return out[:, :, pad : out.shape[2] - pad, pad : out.shape[3] - pad]


@pytest.mark.parametrize(
    ("settings", "kernel", "stride", "pad", "dilation", "group"),
    [
        ("kernel_size: 3", (3, 3), (1, 1), (0, 0), (1, 1), 1),
        ("kernel_size: 3 stride: 2 pad: 1", (3, 3), (2, 2), (1, 1), (1, 1), 1),
        ("kernel_size: 3 pad: 2 dilation: 2 group: 2", (3, 3), (1, 1), (2, 2), (2, 2), 2),
        (
            "kernel_h: 1 kernel_w: 5 pad_h: 0 pad_w: 2 stride_h: 2 stride_w: 1",
            (1, 5),
            (2, 1),
            (0, 2),
            (1, 1),
            1,
        ),
        (
            "kernel_size: [2, 3] stride: [1, 2] pad: [1, 0] dilation: [1, 2]",
            (2, 3),
            (1, 2),
            (1, 0),
            (1, 2),
            1,
        ),
        ("kernel_size: 3 group: 4", (3, 3), (1, 1), (0, 0), (1, 1), 4),
    ],
)
@pytest.mark.parametrize("bias", [True, False])
def test_convolution(
    caffe: Any,
    rng: Any,
    settings: str,
    kernel: Any,
    stride: Any,
    pad: Any,
    dilation: Any,
    group: int,
    bias: bool,
) -> None:
    x, w, b = (
        rng.normal(size=(2, 4, 9, 8)),
        rng.normal(size=(8, 4 // group, *kernel)),
        rng.normal(size=8),
    )
    text = f"convolution_param {{ num_output: 8 {settings} bias_term: {str(bias).lower()} }}"
    found = caffe.layer("Convolution", text, [w, b] if bias else [w], x)
    expected = convolve(x, w, stride, pad, dilation, group)
    expected += b[:, None, None] if bias else 0
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 3, 11), (2, 3, 6, 5, 7)])
def test_convolution_along_one_and_three_axes(caffe: Any, rng: Any, shape: Any) -> None:
    rank = len(shape) - 2
    x, w, b = rng.normal(size=shape), rng.normal(size=(4, 3, *[3] * rank)), rng.normal(size=4)
    text = "convolution_param { num_output: 4 kernel_size: 3 stride: 2 pad: 1 }"
    found = caffe.layer("Convolution", text, [w, b], x)
    expected = convolve(x, w, (2,) * rank, (1,) * rank, (1,) * rank, 1)
    np.testing.assert_allclose(found, expected + b.reshape(-1, *[1] * rank), rtol=1e-4, atol=1e-5)


def test_the_depthwise_forms_of_forks(caffe: Any, rng: Any) -> None:
    x, w = rng.normal(size=(1, 4, 6, 6)), rng.normal(size=(4, 1, 3, 3))
    expected = convolve(x, w, (1, 1), (0, 0), (1, 1), 4)
    settings = "num_output: 4 kernel_size: 3 bias_term: false"
    for kind, more in (("ConvolutionDepthwise", ""), ("DepthwiseConvolution", " group: 4")):
        text = f"convolution_param {{ {settings}{more} }}"
        found = caffe.layer(kind, text, [w], x)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_several_bottoms_share_the_weights(caffe: Any, rng: Any) -> None:
    a, b = rng.normal(size=(1, 2, 5, 5)), rng.normal(size=(1, 2, 4, 6))
    w = rng.normal(size=(3, 2, 3, 3))
    text = """input: "a" input_shape { dim: 1 dim: 2 dim: 5 dim: 5 }
    input: "b" input_shape { dim: 1 dim: 2 dim: 4 dim: 6 }
    layer { name: "c" type: "Convolution" bottom: "a" bottom: "b" top: "p" top: "q"
            convolution_param { num_output: 3 kernel_size: 3 bias_term: false } }"""
    artifact = caffe.artifact(text, {"c": [w]})
    assert list(artifact.model.graph.initializers) == ["c/weight"]
    found = caffe.run(text, {"c": [w]}, {"a": a, "b": b})
    for top, x in (("p", a), ("q", b)):
        expected = convolve(x, w, (1, 1), (0, 0), (1, 1), 1)
        np.testing.assert_allclose(found[top], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kernel", "stride", "pad", "dilation", "group"),
    [(3, 1, 0, 1, 1), (4, 2, 1, 1, 1), (4, 2, 1, 1, 4), (3, 3, 2, 2, 2), (2, 2, 0, 1, 2)],
)
def test_deconvolution(
    caffe: Any, rng: Any, kernel: int, stride: int, pad: int, dilation: int, group: int
) -> None:
    x, b = rng.normal(size=(2, 4, 4, 5)), rng.normal(size=8)
    w = rng.normal(size=(4, 8 // group, kernel, kernel))
    text = (
        f"convolution_param {{ num_output: 8 kernel_size: {kernel} stride: {stride} pad: {pad} "
        f"dilation: {dilation} group: {group} }}"
    )
    found = caffe.layer("Deconvolution", text, [w, b], x)
    expected = deconvolve(x, w, stride, pad, dilation, group) + b[:, None, None]
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("axis", [1, 2, -1])
@pytest.mark.parametrize("bias", [True, False])
def test_inner_product(caffe: Any, rng: Any, transpose: bool, axis: int, bias: bool) -> None:
    x = rng.normal(size=(2, 3, 4, 5))
    start = axis % 4
    width = int(np.prod(x.shape[start:]))
    w, b = rng.normal(size=(6, width)), rng.normal(size=6)
    text = (
        f"inner_product_param {{ num_output: 6 axis: {axis} transpose: {str(transpose).lower()} "
        f"bias_term: {str(bias).lower()} }}"
    )
    arrays = [w.T if transpose else w, b]
    found = caffe.layer("InnerProduct", text, arrays if bias else arrays[:1], x)
    expected = x.reshape(*x.shape[:start], width) @ w.T + (b if bias else 0)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_embed(caffe: Any, rng: Any) -> None:
    w, b = rng.normal(size=(7, 3)), rng.normal(size=3)
    x = rng.integers(0, 7, (2, 5)).astype(np.float64)
    found = caffe.layer("Embed", "embed_param { input_dim: 7 num_output: 3 }", [w, b], x)
    np.testing.assert_allclose(found, w[x.astype(int)] + b, rtol=1e-5, atol=1e-6)
    text = "embed_param { input_dim: 7 num_output: 3 bias_term: false }"
    np.testing.assert_allclose(caffe.layer("Embed", text, [w], x), w[x.astype(int)], rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "settings", "shapes", "message"),
    [
        (
            "Convolution",
            "num_output: 4 kernel_size: 3",
            [(5, 3, 3, 3), (4,)],
            "its weight has 135 values, and the network needs 4x3x3x3 = 108",
        ),
        ("Convolution", "num_output: 4 kernel_size: 3", [(4, 3, 3, 3)], "holds no bias for it"),
        ("Convolution", "num_output: 4", [], "it has no kernel_size"),
        ("Convolution", "num_output: 4 kernel_size: 3 group: 2", [], "3 channels do not become 4"),
        (
            "Convolution",
            "num_output: 4 kernel_size: 30",
            [(4, 3, 30, 30), (4,)],
            "window of 30 does not fit into 8",
        ),
        ("Convolution", "num_output: 4 kernel_size: 3 axis: 2", [], "along axis 2"),
        ("Convolution", "num_output: 4 kernel_size: 3 stride: 0", [], "its stride is 0"),
        (
            "Convolution",
            "num_output: 4 kernel_size: 3 pad: 1 pad: 1 pad: 1",
            [],
            "3 pad sizes for 2 axes",
        ),
        (
            "Deconvolution",
            "num_output: 4 kernel_size: 2 pad: 9",
            [(3, 4, 2, 2), (4,)],
            "its pad of 9 leaves nothing",
        ),
    ],
)
def test_refusals(
    caffe: Any, rng: Any, kind: str, settings: str, shapes: Any, message: str
) -> None:
    arrays = [rng.normal(size=shape) for shape in shapes]
    with pytest.raises(SmithError, match=rf"layer 'it' \({kind}\):.*{message}"):
        caffe.layer(
            kind, f"convolution_param {{ {settings} }}", arrays, rng.normal(size=(1, 3, 8, 8))
        )


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("InnerProduct", "inner_product_param { }", "its num_output is 0"),
        ("InnerProduct", "inner_product_param { num_output: 2 axis: 7 }", "no axis 7 of 4"),
        ("Embed", "embed_param { num_output: 2 }", "its input_dim or num_output is 0"),
    ],
)
def test_refusals_of_dense_layers(
    caffe: Any, rng: Any, kind: str, settings: str, message: str
) -> None:
    with pytest.raises(SmithError, match=message):
        caffe.layer(kind, settings, [], rng.normal(size=(1, 3, 8, 8)))
