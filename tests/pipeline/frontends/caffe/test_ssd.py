"""SSD's layers against loops written from bbox_util.cpp and prior_box_layer.cpp."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from onnxsmith.errors import SmithError

HEAD = """input: "loc" input_shape {{ dim: 1 dim: {loc} }}
input: "conf" input_shape {{ dim: 1 dim: {conf} }}
input: "data" input_shape {{ dim: 1 dim: 3 dim: 60 dim: 80 }}
layer {{ name: "f" type: "Pooling" bottom: "data" top: "f"
         pooling_param {{ kernel_size: 20 stride: 20 }} }}
layer {{ name: "p" type: "PriorBox" bottom: "f" bottom: "data" top: "p"
         prior_box_param {{ min_size: 20 max_size: 40 aspect_ratio: 2
                            variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 }} }}
layer {{ name: "out" type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "p" top: "out"
         detection_output_param {{ num_classes: {classes} {settings} }} }}
"""
PLACES = 3 * 4 * 4


def priors(
    feature: Any,
    image: Any,
    sizes: Any,
    largest: Any,
    ratios: Any,
    *,
    flip: bool = True,
    clip: bool = False,
    step: Any = (0, 0),
    offset: float = 0.5,
) -> Any:
    """Return corners as prior_box_layer.cpp lists them."""
    found = [1.0]
    for ratio in ratios:
        if all(abs(ratio - r) >= 1e-6 for r in found):
            found += [ratio, 1 / ratio] if flip else [ratio]
    out = []
    steps = [s or i / f for s, i, f in zip(step, image, feature, strict=True)]
    for h in range(feature[0]):
        for w in range(feature[1]):
            cx, cy = (w + offset) * steps[1], (h + offset) * steps[0]
            shapes = []
            for at, size in enumerate(sizes):
                shapes.append((size, size))
                if largest:
                    shapes.append((math.sqrt(size * largest[at]),) * 2)
                shapes += [(size * math.sqrt(r), size / math.sqrt(r)) for r in found[1:]]
            for bw, bh in shapes:
                out += [
                    (cx - bw / 2) / image[1],
                    (cy - bh / 2) / image[0],
                    (cx + bw / 2) / image[1],
                    (cy + bh / 2) / image[0],
                ]
    return np.clip(out, 0, 1) if clip else np.array(out)


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ("min_size: 20", {}),
        ("min_size: 20 aspect_ratio: 2 aspect_ratio: 3", {"ratios": [2, 3]}),
        (
            "min_size: 20 max_size: 30 aspect_ratio: 2 flip: false",
            {"largest": [30], "ratios": [2], "flip": False},
        ),
        (
            "min_size: 20 min_size: 9 max_size: 30 max_size: 12 aspect_ratio: 2 clip: true",
            {"sizes": [20, 9], "largest": [30, 12], "ratios": [2], "clip": True},
        ),
        ("min_size: 20 aspect_ratio: 2 aspect_ratio: 0.5 aspect_ratio: 1", {"ratios": [2, 0.5, 1]}),
        ("min_size: 20 step: 16 offset: 0.25", {"step": (16, 16), "offset": 0.25}),
        ("min_size: 20 step_h: 16 step_w: 12", {"step": (16, 12)}),
        ("min_size: 20 img_h: 100 img_w: 200", {"image": (100, 200)}),
        ("min_size: 20 img_size: 150", {"image": (150, 150)}),
    ],
)
def test_prior_boxes(caffe: Any, rng: Any, settings: str, options: Any) -> None:
    feature, image = rng.normal(size=(2, 8, 3, 5)), rng.normal(size=(2, 3, 60, 80))
    text = (
        f"prior_box_param {{ {settings} variance: 0.1 variance: 0.2 variance: 0.3 variance: 0.4 }}"
    )
    text = f"""input: "f" input_shape {{ dim: 1 dim: 8 dim: 3 dim: 5 }}
    input: "d" input_shape {{ dim: 1 dim: 3 dim: 60 dim: 80 }}
    layer {{ name: "it" type: "PriorBox" bottom: "f" bottom: "d" top: "y" {text} }}"""
    found = caffe.run(text, None, {"f": feature, "d": image})["y"]
    defaults = {"image": (60, 80), "sizes": [20], "largest": [], "ratios": []}
    expected = priors((3, 5), **{**defaults, **options})
    assert found.shape == (1, 2, len(expected))
    np.testing.assert_allclose(found[0, 0], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[0, 1], np.tile([0.1, 0.2, 0.3, 0.4], len(expected) // 4))


def decode(loc: Any, prior: Any, variance: Any, code: str, in_target: bool) -> Any:
    variance = np.ones_like(variance) if in_target else variance
    low, high = prior[:, :2], prior[:, 2:]
    if code == "CORNER":
        return prior + variance * loc
    if code == "CORNER_SIZE":
        return prior + variance * loc * np.concatenate([high - low, high - low], 1)
    center = variance[:, :2] * loc[:, :2] * (high - low) + (low + high) / 2
    size = np.exp(variance[:, 2:] * loc[:, 2:]) * (high - low)
    return np.concatenate([center - size / 2, center + size / 2], 1)


def overlap(a: Any, b: Any) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def detect(
    loc: Any,
    conf: Any,
    prior: Any,
    variance: Any,
    classes: int,
    *,
    code: str = "CORNER",
    in_target: bool = False,
    background: int = 0,
    threshold: float = -math.inf,
    nms: float = 0.3,
    top_k: int = -1,
    keep: int = -1,
) -> Any:
    """Return the rows of detection_output_layer.cpp."""
    rows = []
    for image in range(len(loc)):
        boxes = decode(loc[image].reshape(-1, 4), prior, variance, code, in_target)
        scores = conf[image].reshape(-1, classes)
        found = []
        for label in range(classes):
            if label == background:
                continue
            order = [
                k
                for k in np.argsort(-scores[:, label], kind="stable")
                if scores[k, label] > threshold
            ]
            kept: list[int] = []
            for k in order[: top_k if top_k > -1 else None]:
                if all(overlap(boxes[k], boxes[j]) <= nms for j in kept):
                    kept.append(k)
            found += [(label, scores[k, label], *boxes[k]) for k in kept]
        if keep > -1 and len(found) > keep:
            best = sorted(range(len(found)), key=lambda at: -found[at][1])[:keep]
            found = [found[at] for at in sorted(best)]
        rows += [(image, *row) for row in found]
    if not rows:
        rows = [(image, *[-1.0] * 6) for image in range(len(loc))]
    return np.array(rows)[None, None]


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ("confidence_threshold: 0.3", {"threshold": 0.3}),
        (
            "code_type: CENTER_SIZE confidence_threshold: 0.2 nms_param { nms_threshold: 0.45 }",
            {"code": "CENTER_SIZE", "threshold": 0.2, "nms": 0.45},
        ),
        (
            "code_type: CORNER_SIZE confidence_threshold: 0.2 variance_encoded_in_target: true",
            {"code": "CORNER_SIZE", "threshold": 0.2, "in_target": True},
        ),
        (
            "code_type: CENTER_SIZE nms_param { nms_threshold: 0.45 top_k: 7 } keep_top_k: 5",
            {"code": "CENTER_SIZE", "nms": 0.45, "top_k": 7, "keep": 5},
        ),
        (
            "code_type: CENTER_SIZE nms_param { nms_threshold: 0.5 top_k: 400 } keep_top_k: 200 "
            "confidence_threshold: 0.01",
            {"code": "CENTER_SIZE", "nms": 0.5, "top_k": 400, "keep": 200, "threshold": 0.01},
        ),
        (
            "code_type: CENTER_SIZE keep_top_k: 3 confidence_threshold: 0.25",
            {"code": "CENTER_SIZE", "keep": 3, "threshold": 0.25},
        ),
        (
            "code_type: CENTER_SIZE background_label_id: -1 confidence_threshold: 0.4",
            {"code": "CENTER_SIZE", "background": -1, "threshold": 0.4},
        ),
        (
            "code_type: CENTER_SIZE background_label_id: 1 confidence_threshold: 0.4",
            {"code": "CENTER_SIZE", "background": 1, "threshold": 0.4},
        ),
        (
            "code_type: CENTER_SIZE confidence_threshold: 1.5",
            {"code": "CENTER_SIZE", "threshold": 1.5},
        ),
    ],
)
@pytest.mark.parametrize("batch", [1, 3])
def test_detection_output_row_by_row(
    caffe: Any, rng: Any, settings: str, options: Any, batch: int
) -> None:
    """Also the order of the rows is Caffe's."""
    classes = 4
    loc = rng.normal(size=(batch, PLACES * 4))
    conf = rng.dirichlet(np.full(classes, 0.5), (batch, PLACES))
    text = HEAD.format(loc=PLACES * 4, conf=PLACES * classes, classes=classes, settings=settings)
    feeds = {"loc": loc, "conf": conf.reshape(batch, -1), "data": np.zeros((batch, 3, 60, 80))}
    found = caffe.run(text, None, feeds)["out"]
    corners = priors((3, 4), (60, 80), [20], [40], [2]).reshape(-1, 4)
    variance = np.tile([0.1, 0.1, 0.2, 0.2], (PLACES, 1))
    conf = conf.astype(np.float32)
    expected = detect(loc, conf, corners, variance, classes, **options)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_without_any_box_each_image_has_a_row(caffe: Any) -> None:
    settings = "confidence_threshold: 0.5"
    text = HEAD.format(loc=PLACES * 4, conf=PLACES * 2, classes=2, settings=settings)
    feeds = {
        "loc": np.zeros((3, PLACES * 4)),
        "conf": np.zeros((3, PLACES * 2)),
        "data": np.zeros((3, 3, 60, 80)),
    }
    found = caffe.run(text, None, feeds)["out"]
    np.testing.assert_array_equal(found[0, 0], [[i, -1, -1, -1, -1, -1, -1] for i in range(3)])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("share_location: false", "boxes of their own for each class"),
        ("nms_param { eta: 0.9 }", "overlap changes on the way"),
        ("keep_top_k: 0", "keep_top_k of 0"),
        ("nms_param { top_k: 0 }", "top_k of 0"),
        ("objectness_score: 0.01", "RefineDet"),
        ("code_type: SPHERE", "code_type should be one of"),
    ],
)
def test_refusals(caffe: Any, settings: str, message: str) -> None:
    text = HEAD.format(loc=PLACES * 4, conf=PLACES * 2, classes=2, settings=settings)
    with pytest.raises(SmithError, match=rf"layer 'out' \(DetectionOutput\):.*{message}"):
        caffe.artifact(text)


def test_counts_that_do_not_fit_are_refused(caffe: Any) -> None:
    text = HEAD.format(loc=PLACES * 4, conf=PLACES * 2, classes=5, settings="")
    with pytest.raises(SmithError, match="48 prior boxes need 192 locations and 240 scores"):
        caffe.artifact(text)
    text = HEAD.replace('bottom: "p" top: "out"', 'bottom: "conf" top: "out"')
    text = text.format(loc=PLACES * 4, conf=PLACES * 2, classes=2, settings="")
    with pytest.raises(SmithError, match="third blob is not made by PriorBox"):
        caffe.artifact(text)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("", "0 sizes min_size"),
        ("min_size: 20 max_size: 10", "not greater than its min_size"),
        ("min_size: 20 aspect_ratio: -1", "aspect ratio -1"),
        ("min_size: 20 variance: 1 variance: 2", "2 variances"),
        ("min_size: 20 " + "aspect_ratio: 1.5 " * 1, None),
    ],
)
def test_prior_box_refusals(caffe: Any, rng: Any, settings: str, message: str | None) -> None:
    text = f"""input: "f" input_shape {{ dim: 1 dim: 8 dim: 3 dim: 5 }}
    input: "d" input_shape {{ dim: 1 dim: 3 dim: 60 dim: 80 }}
    layer {{ name: "it" type: "PriorBox" bottom: "f" bottom: "d" top: "y"
             prior_box_param {{ {settings} }} }}"""
    if message is None:
        assert caffe.artifact(text).spec.outputs[0].shape == (1, 2, 180)
        return
    with pytest.raises(SmithError, match=rf"layer 'it' \(PriorBox\):.*{message}"):
        caffe.artifact(text)


def test_a_giant_image_makes_no_giant_constant(caffe: Any) -> None:
    text = """input: "f" input_shape { dim: 1 dim: 8 dim: 50000 dim: 50000 }
    layer { name: "it" type: "PriorBox" bottom: "f" bottom: "f" top: "y"
            prior_box_param { min_size: 20 } }"""
    with pytest.raises(SmithError, match="makes a constant of 20,000,000,000 values"):
        caffe.artifact(text)
