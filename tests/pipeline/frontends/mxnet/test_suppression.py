"""Overlapping boxes left out, against MXNet's loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxsmith.errors import SmithError

Array = np.ndarray[Any, Any]


def iou(a: Array, b: Array) -> float:
    inner = (np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])).clip(0).prod()
    union = (a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - inner
    return float(inner / union)


def boxes(rng: np.random.Generator, *shape: int) -> Array:
    """Boxes of which many overlap."""
    low = rng.uniform(0, 0.4, (*shape, 2))
    return np.concatenate([low, low + rng.uniform(0.2, 0.5, (*shape, 2))], -1)


def corners(box: Array) -> Array:
    return np.concatenate([box[..., :2] - box[..., 2:] / 2, box[..., :2] + box[..., 2:] / 2], -1)


def centers(box: Array) -> Array:
    return np.concatenate([(box[..., :2] + box[..., 2:]) / 2, box[..., 2:] - box[..., :2]], -1)


def nms(rows: Array, settings: dict[str, Any]) -> Array:
    """BoxNMSForward of one sample."""
    start, score = settings.get("coord_start", 2), settings.get("score_index", 1)
    kind, background = settings.get("id_index", -1), settings.get("background_id", -1)
    valid = rows[:, score] > settings.get("valid_thresh", 0)
    if kind >= 0 and background >= 0:
        valid &= rows[:, kind] != background
    order = [at for at in np.argsort(-rows[:, score], kind="stable") if valid[at]]
    topk = settings.get("topk", -1)
    kept: list[int] = []
    center = settings.get("in_format") == "center"
    place = [corners(r[start : start + 4]) if center else r[start : start + 4] for r in rows]
    for at in order[: topk if topk > 0 else None]:
        rivals = [
            other
            for other in kept
            if settings.get("force_suppress") or kind < 0 or rows[other, kind] == rows[at, kind]
        ]
        if all(iou(place[at], place[o]) <= settings.get("overlap_thresh", 0.5) for o in rivals):
            kept.append(at)
    out = np.full_like(rows, -1)
    out[: len(kept)] = rows[kept]
    form = settings.get("out_format", "corner")
    if kept and form != settings.get("in_format", "corner"):
        turn = centers if form == "center" else corners
        out[: len(kept), start : start + 4] = turn(out[: len(kept), start : start + 4])
    return out


@pytest.mark.parametrize("op", ["_contrib_box_nms", "_contrib_box_non_maximum_suppression"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"overlap_thresh": 0.3, "valid_thresh": 0.4},
        {"id_index": 0},
        {"id_index": 0, "background_id": 1},
        {"id_index": 0, "force_suppress": True, "topk": 4},
        {"topk": 3},
        {"in_format": "center", "id_index": 0},
        {"in_format": "center", "out_format": "center"},
        {"out_format": "center"},
    ],
    ids=str,
)
def test_suppression(
    mxnet: Any, close: Any, rng: np.random.Generator, op: str, settings: dict[str, Any]
) -> None:
    box = boxes(rng, 2, 12)
    if settings.get("in_format") == "center":
        box = centers(box)
    kind = rng.integers(0, 3, (2, 12, 1))
    scores = rng.permuted(np.linspace(0.05, 1, 24).reshape(2, 12, 1))
    rows = np.concatenate([kind, scores, box], -1).astype(np.float32)
    expected = np.stack([nms(sample.astype(np.float64), settings) for sample in rows])
    assert 1 < (expected[..., 1] >= 0).sum() < 24
    close(mxnet.op(op, settings, rows), expected)
    close(mxnet.op(op, settings, rows[0], batch=False), expected[0])


def test_suppression_with_another_order_of_columns(
    mxnet: Any, close: Any, rng: np.random.Generator
) -> None:
    rows = np.concatenate(
        [boxes(rng, 2, 10), rng.uniform(0.1, 1, (2, 10, 1)), np.ones((2, 10, 2))], -1
    ).astype(np.float32)
    settings = {"coord_start": 0, "score_index": 4}
    expected = np.stack([nms(sample.astype(np.float64), settings) for sample in rows])
    close(mxnet.op("_contrib_box_nms", settings, rows), expected)


def detections(likely: Array, offsets: Array, anchors: Array, settings: dict[str, Any]) -> Array:
    """MultiBoxDetectionForward of one sample."""
    best, scores = likely[1:].argmax(0), likely[1:].max(0)
    spread = np.array(settings.get("variances", (0.1, 0.1, 0.2, 0.2)))
    size, middle = anchors[:, 2:] - anchors[:, :2], (anchors[:, :2] + anchors[:, 2:]) / 2
    scaled = offsets.reshape(-1, 4) * spread
    box = corners(np.concatenate([scaled[:, :2] * size + middle, np.exp(scaled[:, 2:]) * size], 1))
    if settings.get("clip", True):
        box = box.clip(0, 1)
    out = np.full((len(anchors), 6), -1.0)
    valid = [at for at in range(len(anchors)) if scores[at] >= settings.get("threshold", 0.01)]
    order = sorted(valid, key=lambda at: -scores[at])
    bound, topk = settings.get("nms_threshold", 0.5), settings.get("nms_topk", -1)
    if not 0 < bound <= 1:
        order = valid
    for place, at in enumerate(order):
        out[place] = [best[at], scores[at], *box[at]]
    if not 0 < bound <= 1:
        return out
    count = min(topk, len(order)) if topk > 0 else len(order)
    for i in range(count):
        for j in range(i + 1, count):
            rival = settings.get("force_suppress") or out[i, 0] == out[j, 0]
            if min(out[i, 0], out[j, 0]) >= 0 and rival and iou(out[i, 2:], out[j, 2:]) >= bound:
                out[j, 0] = -1
    out[count:, 0] = -1
    return out


@pytest.mark.parametrize("op", ["_contrib_MultiBoxDetection", "_npx_multibox_detection"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"threshold": 0.3, "nms_threshold": 0.3},
        {"force_suppress": True},
        {"nms_topk": 5},
        {"clip": False, "variances": (0.2, 0.3, 0.1, 0.1)},
        {"nms_threshold": -1, "threshold": 0.35},
    ],
    ids=str,
)
def test_detections(
    mxnet: Any, close: Any, rng: np.random.Generator, op: str, settings: dict[str, Any]
) -> None:
    likely = rng.uniform(0, 1, (2, 4, 14))
    likely /= likely.sum(1, keepdims=True)
    offsets = rng.normal(size=(2, 56))
    anchors = boxes(rng, 1, 14)
    data = [array.astype(np.float32) for array in (likely, offsets, anchors)]
    expected = np.stack(
        [
            detections(*(a.astype(np.float64) for a in (p, o, data[2][0])), settings)
            for p, o in zip(data[0], data[1], strict=True)
        ]
    )
    assert (expected[..., 0] < 0).any()
    found = mxnet.op(op, settings, *data, batch=False)
    assert found.shape == expected.shape
    close(found[..., 0], expected[..., 0])
    # Behind the best ones only the class is told.
    shown = slice(0, settings.get("nms_topk"))
    close(found[:, shown], expected[:, shown])


def test_another_background_is_refused(mxnet: Any, rng: np.random.Generator) -> None:
    data = [np.ones(shape, np.float32) for shape in ((1, 3, 4), (1, 16), (1, 4, 4))]
    message = r"the node 'it' \(_contrib_MultiBoxDetection\): a background other than class 0"
    with pytest.raises(SmithError, match=message):
        mxnet.op("_contrib_MultiBoxDetection", {"background_id": 1}, *data)
