"""Normalizing layers against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxsmith.errors import SmithError

NORM = 'layer { name: "bn" type: "BatchNorm" bottom: "x" top: "%s" %s }'
SCALE = 'layer { name: "sc" type: "Scale" bottom: "%s" top: "%s" scale_param { %s } }'
INPUT = 'input: "x" input_shape { dim: 2 dim: 4 dim: 5 dim: 6 }\n'


def statistics(rng: Any, factor: float = 2.5) -> list[Any]:
    mean, variance = rng.normal(size=4), rng.uniform(0.5, 2, 4)
    return [mean * factor, variance * factor, np.array([factor])]


def normalized(x: Any, blobs: Any, eps: float = 1e-5) -> Any:
    factor = 0 if blobs[2][0] == 0 else 1 / blobs[2][0]
    mean, variance = (b[:, None, None] * factor for b in blobs[:2])
    return (x - mean) / np.sqrt(variance + eps)


@pytest.mark.parametrize("eps", [1e-5, 0.1])
@pytest.mark.parametrize("factor", [1.0, 2.5, 999.98])
def test_batch_norm_divides_by_its_factor(caffe: Any, rng: Any, eps: float, factor: float) -> None:
    x, blobs = rng.normal(size=(2, 4, 5, 6)), statistics(rng, factor)
    found = caffe.layer("BatchNorm", f"batch_norm_param {{ eps: {eps} }}", blobs, x)
    np.testing.assert_allclose(found, normalized(x, blobs, eps), rtol=1e-5, atol=1e-5)


def test_a_factor_of_0_means_no_statistics(caffe: Any, rng: Any) -> None:
    x, blobs = rng.normal(size=(2, 4, 5, 6)), statistics(rng)
    blobs[2] = np.array([0.0])
    found = caffe.layer("BatchNorm", "", blobs, x)
    np.testing.assert_allclose(found, x / np.sqrt(1e-5), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("top", ["x", "n"])
@pytest.mark.parametrize("bias", [True, False])
def test_batch_norm_and_scale_are_one_node(caffe: Any, rng: Any, top: str, bias: bool) -> None:
    x, blobs = rng.normal(size=(2, 4, 5, 6)), statistics(rng)
    scale = [rng.normal(size=4), rng.normal(size=4)]
    settings = f"bias_term: {str(bias).lower()}"
    text = INPUT + NORM % (top, "") + SCALE % (top, top, settings)
    weights = {"bn": blobs, "sc": scale if bias else scale[:1]}
    (node,) = caffe.artifact(text, weights).model.graph
    assert (node.op_type, node.name) == ("BatchNormalization", "bn")
    (found,) = caffe.run(text, weights, {"x": x}).values()
    expected = normalized(x, blobs) * scale[0][:, None, None]
    expected += scale[1][:, None, None] if bias else 0
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_batch_norm_is_kept_apart_where_something_else_reads_it(caffe: Any, rng: Any) -> None:
    x, blobs, scale = rng.normal(size=(2, 4, 5, 6)), statistics(rng), rng.normal(size=4)
    text = INPUT + NORM % ("n", "") + SCALE % ("n", "s", "")
    text += 'layer { name: "add" type: "Eltwise" bottom: "n" bottom: "s" top: "y" }'
    found = caffe.run(text, {"bn": blobs, "sc": [scale]}, {"x": x})["y"]
    norm = normalized(x, blobs)
    np.testing.assert_allclose(found, norm + norm * scale[:, None, None], rtol=1e-4, atol=1e-5)


def test_statistics_of_the_batch_itself_where_the_file_says_so(caffe: Any, rng: Any) -> None:
    x, blobs = rng.normal(size=(2, 4, 5, 6)), statistics(rng)
    text = INPUT + NORM % ("y", "batch_norm_param { use_global_stats: false }")
    result = caffe.convert(text, {"bn": blobs})
    assert any("use_global_stats: false" in warning for warning in result.warnings)
    found = caffe.run(text, {"bn": blobs}, {"x": x})["y"]
    mean, variance = (f(x, axis=(0, 2, 3), keepdims=True) for f in (np.mean, np.var))
    np.testing.assert_allclose(found, (x - mean) / np.sqrt(variance + 1e-5), rtol=1e-4, atol=1e-5)


def test_a_scale_within_batch_norm_as_in_the_caffe_of_nvidia(caffe: Any, rng: Any) -> None:
    x, blobs = rng.normal(size=(2, 4, 5, 6)), statistics(rng)
    scale, shift = rng.normal(size=(2, 4))
    settings = "batch_norm_param { scale_bias: true }"
    found = caffe.layer("BatchNorm", settings, [*blobs, scale, shift], x)
    expected = normalized(x, blobs) * scale[:, None, None] + shift[:, None, None]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_older_forms_of_segnet_and_pspnet(caffe: Any, rng: Any) -> None:
    x = rng.normal(size=(2, 4, 5, 6))
    scale, shift, mean = rng.normal(size=(3, 4))
    variance = rng.uniform(0.5, 2, 4)
    found = caffe.layer("BN", "", [scale, shift], x)
    expected = x * scale[:, None, None] + shift[:, None, None]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    found = caffe.layer("BN", "", [scale, shift, mean, variance], x)
    expected = normalized(x, [mean, variance, [1.0]])
    expected = expected * scale[:, None, None] + shift[:, None, None]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        ("", (1, 4, 1, 1)),
        ("axis: 2", (1, 1, 5, 1)),
        ("axis: -1", (1, 1, 1, 6)),
        ("axis: 1 num_axes: 2", (1, 4, 5, 1)),
        ("axis: 1 num_axes: -1", (1, 4, 5, 6)),
        ("num_axes: 0", ()),
    ],
)
def test_scale_and_bias_along_any_axes(caffe: Any, rng: Any, settings: str, shape: Any) -> None:
    x, w, b = rng.normal(size=(2, 4, 5, 6)), rng.normal(size=shape), rng.normal(size=shape)
    stored = [a.reshape([d for d in shape if d > 1]) for a in (w, b)]
    text = f"scale_param {{ {settings} bias_term: true }}"
    np.testing.assert_allclose(
        caffe.layer("Scale", text, stored, x), x * w + b, rtol=1e-5, atol=1e-5
    )
    text = f"bias_param {{ {settings} }}"
    np.testing.assert_allclose(
        caffe.layer("Bias", text, stored[:1], x), x + w, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(("kind", "param"), [("Scale", "scale_param"), ("Bias", "bias_param")])
def test_a_second_blob_as_operand(caffe: Any, rng: Any, kind: str, param: str) -> None:
    x, other = rng.normal(size=(2, 4, 5, 6)), rng.normal(size=(2, 4))
    found = caffe.layer(kind, f"{param} {{ axis: 0 }}", [], x, other)
    wide = other[:, :, None, None]
    np.testing.assert_allclose(found, x * wide if kind == "Scale" else x + wide, rtol=1e-5)


@pytest.mark.parametrize(("size", "alpha", "beta", "k"), [(5, 1.0, 0.75, 1.0), (3, 0.5, 0.6, 2.0)])
def test_lrn_across_channels(
    caffe: Any, rng: Any, size: int, alpha: float, beta: float, k: float
) -> None:
    x = rng.normal(size=(2, 7, 4, 5)) * 2
    settings = f"lrn_param {{ local_size: {size} alpha: {alpha} beta: {beta} k: {k} }}"
    padded = np.pad(x**2, [(0, 0), (size // 2, size // 2), (0, 0), (0, 0)])
    total = sum(padded[:, i : i + 7] for i in range(size))
    expected = x / (k + alpha / size * total) ** beta
    np.testing.assert_allclose(caffe.layer("LRN", settings, [], x), expected, rtol=1e-5, atol=1e-6)


def test_lrn_with_nothing_said(caffe: Any, rng: Any) -> None:
    x = rng.normal(size=(1, 6, 2, 2))
    padded = np.pad(x**2, [(0, 0), (2, 2), (0, 0), (0, 0)])
    expected = x / (1 + sum(padded[:, i : i + 6] for i in range(5)) / 5) ** 0.75
    np.testing.assert_allclose(caffe.layer("LRN", "", [], x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("size", "alpha", "beta"), [(3, 1.0, 0.75), (5, 0.5, 1.5)])
def test_lrn_within_a_channel(caffe: Any, rng: Any, size: int, alpha: float, beta: float) -> None:
    """The average counts the padding; k plays no part."""
    x = rng.normal(size=(2, 3, 6, 5)) * 2
    settings = f"""lrn_param {{ norm_region: WITHIN_CHANNEL local_size: {size} alpha: {alpha}
                                beta: {beta} k: 3 }}"""
    pad = size // 2
    padded = np.pad(x**2, [(0, 0), (0, 0), (pad, pad), (pad, pad)])
    total = sum(padded[:, :, i : i + 6, j : j + 5] for i in range(size) for j in range(size))
    expected = x / (1 + alpha * total / size**2) ** beta
    np.testing.assert_allclose(caffe.layer("LRN", settings, [], x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("variance", [False, True])
@pytest.mark.parametrize("eps", [1e-9, 0.5])
def test_mvn(caffe: Any, rng: Any, across: bool, variance: bool, eps: float) -> None:
    """The small number is added to the deviation, not to the variance."""
    x = rng.normal(size=(2, 3, 4, 5)) + 3
    axes = (1, 2, 3) if across else (2, 3)
    expected = x - x.mean(axes, keepdims=True)
    if variance:
        expected /= x.std(axes, keepdims=True) + eps
    settings = f"""mvn_param {{ across_channels: {str(across).lower()}
                   normalize_variance: {str(variance).lower()} eps: {eps} }}"""
    np.testing.assert_allclose(caffe.layer("MVN", settings, [], x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("spatial", [False, True])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("eps", [1e-10, 0.5])
def test_normalize(caffe: Any, rng: Any, spatial: bool, shared: bool, eps: float) -> None:
    x, scale = rng.normal(size=(2, 4, 3, 5)), rng.normal(size=1 if shared else 4)
    norm = np.sqrt((x**2).sum((1, 2, 3) if spatial else 1, keepdims=True) + eps)
    settings = f"""norm_param {{ across_spatial: {str(spatial).lower()} eps: {eps}
                   channel_shared: {str(shared).lower()} }}"""
    expected = x / norm * scale.reshape(-1, 1, 1)
    found = caffe.layer("Normalize", settings, [scale], x)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("axis", [1, 2, -1])
def test_softmax(caffe: Any, rng: Any, axis: int) -> None:
    x = rng.normal(size=(2, 4, 3, 5)) * 4
    expected = np.exp(x) / np.exp(x).sum(axis, keepdims=True)
    found = caffe.layer("Softmax", f"softmax_param {{ axis: {axis} }}", [], x)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("LRN", "lrn_param { local_size: 4 }", "local_size 4 is even"),
        ("Scale", "scale_param { axis: 3 num_axes: 2 }", "2 axes from 3 are beyond a blob of 4"),
        ("Scale", "scale_param { axis: 9 }", "no axis 9 of 4"),
        ("Softmax", "softmax_param { axis: 4 }", "no axis 4 of 4"),
        ("Normalize", "", "holds no scale"),
        ("BatchNorm", "", "holds no scale factor"),
        ("PReLU", "", "holds no slope"),
    ],
)
def test_refusals(caffe: Any, rng: Any, kind: str, settings: str, message: str) -> None:
    with pytest.raises(SmithError, match=rf"layer 'it' \({kind}\):.*{message}"):
        caffe.layer(kind, settings, [], rng.normal(size=(1, 2, 3, 4)))
