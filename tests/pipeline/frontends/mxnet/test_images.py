"""Resampling, anchors, regions and boxes, against torch and against MXNet's loops."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from onnxsmith.errors import SmithError

Array = np.ndarray[Any, Any]


@pytest.fixture
def x(rng: np.random.Generator) -> Array:
    return rng.normal(size=(2, 3, 5, 6)).astype(np.float32)


def test_repeated_pixels(mxnet: Any, close: Any, x: Array) -> None:
    twice = x.repeat(2, 2).repeat(2, 3)
    settings = {"scale": 2, "sample_type": "nearest", "num_args": 1}
    close(mxnet.op("UpSampling", settings, x), twice)
    small = x[:, :, :1, :].repeat(10, 2)[:, :2, ::2][:, :, :5]
    many = {**settings, "num_args": 2}
    found = mxnet.op("UpSampling", many, x, small)
    close(found, np.concatenate([twice, small.repeat(2, 2).repeat(2, 3)], 1))
    found = mxnet.op("UpSampling", {**many, "multi_input_mode": "sum"}, x, x)
    close(found, 2 * twice)


@pytest.mark.parametrize("scale", [2, 3])
def test_learned_upsampling(mxnet: Any, close: Any, x: Array, scale: int) -> None:
    kernel = 2 * scale - scale % 2
    weight = np.random.default_rng(0).normal(size=(3, 1, kernel, kernel)).astype(np.float32)
    settings = {"scale": scale, "sample_type": "bilinear", "num_filter": 3, "num_args": 2}
    expected = functional.conv_transpose2d(
        torch.from_numpy(x), torch.from_numpy(weight), stride=scale, padding=scale // 2, groups=3
    )
    assert expected.shape[2] == 5 * scale
    close(mxnet.op("UpSampling", settings, x, weights=[weight]), expected.numpy())


@pytest.mark.parametrize("opset", [13, 20])
@pytest.mark.parametrize("corners", [True, False])
def test_resizing(mxnet: Any, close: Any, x: Array, opset: int, corners: bool) -> None:
    op = "_contrib_BilinearResize2D"
    t = torch.from_numpy(x)
    both = {"align_corners": corners}
    for settings, size in (
        ({"height": 9, "width": 4}, (9, 4)),
        ({"scale_height": 2, "scale_width": 0.5}, (10, 3)),
    ):
        expected = functional.interpolate(t, size, mode="bilinear", align_corners=corners)
        close(mxnet.op(op, {**settings, **both}, x, opset=opset), expected.numpy())
    other = np.zeros((2, 1, 7, 8), np.float32)
    expected = functional.interpolate(t, (7, 8), mode="bilinear", align_corners=corners)
    found = mxnet.op(op, {"mode": "like", **both}, x, other, opset=opset)
    close(found, expected.numpy())
    with pytest.raises(SmithError, match=rf"'it' \({op}\): the mode 'odd_scale' cannot be"):
        mxnet.op(op, {"mode": "odd_scale"}, x)


def test_sampling(mxnet: Any, close: Any, rng: np.random.Generator, x: Array) -> None:
    grid = rng.uniform(-1.2, 1.2, (2, 2, 4, 3)).astype(np.float32)
    expected = functional.grid_sample(
        torch.from_numpy(x), torch.from_numpy(grid.transpose(0, 2, 3, 1).copy()), align_corners=True
    )
    for opset in (16, 20):
        close(mxnet.op("BilinearSampler", {}, x, grid, opset=opset), expected.numpy())
    with pytest.raises(SmithError, match="no sampling at places before opset 16"):
        mxnet.op("BilinearSampler", {}, x, grid, opset=15)


def test_affine_maps(mxnet: Any, close: Any, rng: np.random.Generator, x: Array) -> None:
    theta = rng.uniform(-1, 1, (2, 6)).astype(np.float32)
    grid = functional.affine_grid(
        torch.from_numpy(theta).reshape(2, 2, 3), [2, 3, 4, 5], align_corners=True
    )
    settings = {"transform_type": "affine", "target_shape": (4, 5)}
    found = mxnet.op("GridGenerator", settings, theta)
    close(found, grid.numpy().transpose(0, 3, 1, 2))
    expected = functional.grid_sample(torch.from_numpy(x), grid, align_corners=True)
    settings["sampler_type"] = "bilinear"
    close(mxnet.op("SpatialTransformer", settings, x, theta), expected.numpy())


def test_shifts(mxnet: Any, close: Any, rng: np.random.Generator) -> None:
    flow = rng.normal(size=(2, 2, 4, 5)).astype(np.float32)
    rows, columns = np.mgrid[:4, :5]
    expected = np.stack([(flow[:, 0] + columns) / 2 - 1, (flow[:, 1] + rows) / 1.5 - 1], 1)
    close(mxnet.op("GridGenerator", {"transform_type": "warp"}, flow), expected)


@pytest.mark.parametrize("op", ["_contrib_MultiBoxPrior", "_npx_multibox_prior"])
def test_anchors(mxnet: Any, close: Any, x: Array, op: str) -> None:
    settings = {"sizes": (0.4, 0.2), "ratios": (1, 2, 0.5), "offsets": (0.5, 0.25)}
    boxes = []
    for row, column in itertools.product(range(5), range(6)):
        cy, cx = (row + 0.5) / 5, (column + 0.25) / 6
        for size, ratio in ((0.4, 1), (0.2, 1), (0.4, 2), (0.4, 0.5)):
            w = size * 5 / 6 * ratio**0.5 / 2
            h = size / ratio**0.5 / 2
            boxes.append([cx - w, cy - h, cx + w, cy + h])
    expected = np.array(boxes)[None]
    found = mxnet.op(op, settings, x)
    close(found, expected)
    found = mxnet.op(op, {**settings, "clip": True, "steps": (0.2, 1 / 6)}, x)
    close(found, expected.clip(0, 1))
    with pytest.raises(SmithError, match="its anchors are out of bounds"):
        mxnet.op(op, {"ratios": (1, -1)}, x)


@pytest.mark.parametrize("op", ["ROIPooling", "_npx_roi_pooling"])
def test_pooled_regions(mxnet: Any, close: Any, x: Array, op: str) -> None:
    regions = np.array([[0, 0, 0, 6, 8], [1, 2, 4, 10, 8], [0, 4, 2, 6, 6]], np.float32)
    expected = np.zeros((3, 3, 2, 2))
    for at, (sample, *box) in enumerate(regions):
        left, top, right, bottom = (int(np.floor(v * 0.5 + 0.5)) for v in box)
        height, width = max(bottom - top + 1, 1), max(right - left + 1, 1)
        for i, j in np.ndindex(2, 2):
            rows = slice(top + i * height // 2, top - (-(i + 1) * height // 2))
            columns = slice(left + j * width // 2, left - (-(j + 1) * width // 2))
            expected[at, :, i, j] = x[int(sample), :, rows, columns].max((1, 2))
    settings = {"pooled_size": (2, 2), "spatial_scale": 0.5}
    close(mxnet.op(op, settings, x, regions, batch=False), expected)


def bilinear(image: Array, y: float, x: float) -> Array:
    """MXNet's bilinear_interpolate of ROIAlign."""
    height, width = image.shape[1:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return np.zeros(len(image))
    y, x = max(y, 0), max(x, 0)
    top, left = min(int(y), height - 1), min(int(x), width - 1)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    y, x = min(y, top + 1) if bottom > top else top, min(x, left + 1) if right > left else left
    a, b = y - top, x - left
    over = image[:, top, left] * (1 - b) + image[:, top, right] * b
    under = image[:, bottom, left] * (1 - b) + image[:, bottom, right] * b
    return np.asarray(over * (1 - a) + under * a)


@pytest.mark.parametrize("aligned", [False, True])
def test_aligned_regions(mxnet: Any, close: Any, x: Array, aligned: bool) -> None:
    regions = np.array([[0, 0, 0, 6, 8], [1, 2, 1, 9, 7]], np.float32)
    expected = np.zeros((2, 3, 2, 3))
    shift = 0.5 if aligned else 0
    for at, (sample, *box) in enumerate(regions):
        left, top, right, bottom = (v * 0.5 - shift for v in box)
        height, width = (bottom - top) / 2, (right - left) / 3
        for i, j in np.ndindex(2, 3):
            values = [
                bilinear(
                    x[int(sample)],
                    top + (i + (a + 0.5) / 2) * height,
                    left + (j + (b + 0.5) / 2) * width,
                )
                for a, b in np.ndindex(2, 2)
            ]
            expected[at, :, i, j] = np.mean(values, 0)
    settings = {"pooled_size": (2, 3), "spatial_scale": 0.5, "sample_ratio": 2, "aligned": aligned}
    op = "_contrib_ROIAlign"
    close(mxnet.op(op, settings, x, regions, batch=False), expected)
    with pytest.raises(SmithError, match="position-sensitive regions cannot be imported"):
        mxnet.op(op, {**settings, "position_sensitive": True}, x, regions)


def corners(box: Array) -> Array:
    return np.concatenate([box[..., :2] - box[..., 2:] / 2, box[..., :2] + box[..., 2:] / 2], -1)


def iou(a: Array, b: Array) -> float:
    inner = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    both = inner.clip(0).prod()
    union = (a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - both
    return float(both / union) if union > 0 else 0.0


def boxes(rng: np.random.Generator, *shape: int) -> Array:
    low = rng.uniform(0, 0.6, (*shape, 2))
    return np.concatenate([low, low + rng.uniform(0.1, 0.4, (*shape, 2))], -1).astype(np.float32)


@pytest.mark.parametrize("form", ["corner", "center"])
def test_overlaps(mxnet: Any, close: Any, rng: np.random.Generator, form: str) -> None:
    a, b = boxes(rng, 2, 4), boxes(rng, 3)
    left, right = (corners(v) if form == "center" else v for v in (a, b))
    expected = [[[iou(p, q) for q in right] for p in row] for row in left]
    found = mxnet.op("_contrib_box_iou", {"format": form}, a, b, batch=False)
    close(found, np.array(expected))


@pytest.mark.parametrize("form", ["corner", "center"])
def test_decoded_boxes(mxnet: Any, close: Any, rng: np.random.Generator, form: str) -> None:
    offsets = rng.normal(size=(2, 5, 4)).astype(np.float32)
    anchors = boxes(rng, 1, 5)
    wide = anchors.astype(np.float64)
    middle, size = wide[..., :2], wide[..., 2:]
    if form == "corner":
        middle, size = (wide[..., :2] + wide[..., 2:]) / 2, wide[..., 2:] - wide[..., :2]
    spread = {"std0": 0.1, "std1": 0.2, "std2": 0.3, "std3": 0.4}
    scaled = offsets * np.array(list(spread.values()))
    stretch = np.minimum(scaled[..., 2:], 0.25)
    expected = corners(
        np.concatenate([scaled[..., :2] * size + middle, np.exp(stretch) * size], -1)
    )
    settings = {**spread, "clip": 0.25, "format": form}
    close(mxnet.op("_contrib_box_decode", settings, offsets, anchors, batch=False), expected)
