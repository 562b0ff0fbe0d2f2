"""PriorBox: the boxes of SSD's default sizes at each place, a constant.

Source: the SSD branch of Caffe (weiliu89/caffe), src/caffe/layers/prior_box_layer.cpp.
"""

from __future__ import annotations

import math

import numpy as np

from onnxsmith.pipeline.frontends.caffe.builder import Array, Tensor
from onnxsmith.pipeline.frontends.caffe.message import Message
from onnxsmith.pipeline.frontends.caffe.scope import Scope


def prior_box(scope: Scope) -> Tensor:
    """Return 1 x 2 x (4 * boxes): corners as parts of the image, and variances."""
    features = scope.bottom(2, 2)
    image = scope.bottoms[1]
    if features.rank != 4 or image.rank != 4:
        raise scope.refuse("it reads blobs that are no images", "give it two of N x C x H x W")
    param = scope.param("prior_box_param")
    height, width = scope.known(features.dims[2:])
    image_height, image_width = scope.known(image.dims[2:])
    size = param.size("img_size", 0)
    image_height = param.size("img_h", size) or image_height
    image_width = param.size("img_w", size) or image_width
    step = param.number("step", 0)
    step_h = param.number("step_h", step) or image_height / height
    step_w = param.number("step_w", step) or image_width / width
    shapes = _shapes(scope, param)
    scope.check_constant(height * width * len(shapes) * 8)
    offset = param.number("offset", 0.5)
    xs = (np.arange(width) + offset) * step_w
    ys = (np.arange(height) + offset) * step_h
    half = np.array(shapes, np.float64) / 2
    boxes = np.empty((height, width, len(shapes), 4))
    boxes[..., 0] = (xs[None, :, None] - half[:, 0]) / image_width
    boxes[..., 1] = (ys[:, None, None] - half[:, 1]) / image_height
    boxes[..., 2] = (xs[None, :, None] + half[:, 0]) / image_width
    boxes[..., 3] = (ys[:, None, None] + half[:, 1]) / image_height
    if param.flag("clip", False):
        boxes = boxes.clip(0, 1)
    flat = boxes.reshape(-1)
    both = np.stack([flat, _variances(scope, param, flat.size // 4)])[None]
    return scope.constant(both.astype(np.float32), "priors")


def _shapes(scope: Scope, param: Message) -> list[tuple[float, float]]:
    """Return width and height of the boxes at one place, in pixels."""
    smallest, largest = param.floats("min_size"), param.floats("max_size")
    if not smallest or min(smallest) <= 0 or len(largest) not in (0, len(smallest)):
        raise scope.refuse(
            f"it has {len(smallest)} sizes min_size and {len(largest)} max_size",
            "give positive sizes, one max_size for each min_size or none",
        )
    if any(high <= low for low, high in zip(smallest, largest, strict=False)):
        raise scope.refuse("a max_size is not greater than its min_size", "mend prior_box_param")
    ratios = _ratios(scope, param)
    found = []
    for at, low in enumerate(smallest):
        found.append((low, low))
        if largest:
            middle = math.sqrt(low * largest[at])
            found.append((middle, middle))
        found += [(low * math.sqrt(r), low / math.sqrt(r)) for r in ratios]
    return found


def _ratios(scope: Scope, param: Message) -> list[float]:
    """Return the ratios beside 1, each once."""
    is_flipped = param.flag("flip", True)
    found = [1.0]
    for ratio in param.floats("aspect_ratio"):
        if ratio <= 0:
            raise scope.refuse(f"it has the aspect ratio {ratio}", "mend prior_box_param")
        if any(abs(ratio - known) < 1e-6 for known in found):
            continue
        found.append(ratio)
        if is_flipped:
            found.append(1 / ratio)
    return found[1:]


def _variances(scope: Scope, param: Message, boxes: int) -> Array:
    variances = param.floats("variance") or [0.1]
    if len(variances) not in (1, 4) or min(variances) <= 0:
        raise scope.refuse(f"it has {len(variances)} variances", "give one or four, all positive")
    return np.tile(np.array(variances * (4 // len(variances))), boxes)
