"""DetectionOutput: SSD's boxes decoded, filtered and sorted into rows.

Source: the SSD branch of Caffe (weiliu89/caffe), src/caffe/layers/detection_output_layer.cpp
and src/caffe/util/bbox_util.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxsmith.pipeline.frontends.caffe.builder import Array, Tensor
from onnxsmith.pipeline.frontends.caffe.dims import Dim
from onnxsmith.pipeline.frontends.caffe.scope import BOOL, FLOAT, INT64, Scope

_CODES = {"CORNER": 1, "CENTER_SIZE": 2, "CORNER_SIZE": 3}
_LOWEST = float(np.finfo(np.float32).min)
_MOST = 2**31 - 1


@dataclass(frozen=True)
class _Settings:
    """What the layer was told.

    Attributes:
        labels: The classes that may come out: all but the background.
        nms_top_k: How many boxes of a class are looked at; None for all.
        keep_top_k: How many boxes of an image come out; None for all.
    """

    classes: int
    labels: tuple[int, ...]
    code: str
    in_target: bool
    confidence: float
    overlap: float
    nms_top_k: int | None
    keep_top_k: int | None


def detection_output(scope: Scope) -> Tensor:
    """Return 1 x 1 x boxes x 7: image, label, score, and the corners.

    Rows are sorted by image, label and falling score, as in Caffe. Without any box there is one
    row an image: its number and -1.
    """
    locations = scope.bottom(3, 3)
    _, scores, priors = scope.bottoms
    settings = _settings(scope)
    if priors.constant is None or priors.constant.ndim != 3 or priors.constant.shape[:2] != (1, 2):
        raise scope.refuse(
            "its third blob is not made by PriorBox layers", "join those of PriorBox along axis 2"
        )
    boxes_count = priors.constant.shape[2] // 4
    widths = (boxes_count * 4, boxes_count * settings.classes)
    for blob, width in zip((locations, scores), widths, strict=True):
        flat = scope.flatten(blob, 1) if blob.rank != 2 else blob
        if scope.known(flat.dims[1:]) != (width,):
            raise scope.refuse(
                f"{boxes_count} prior boxes need {widths[0]} locations and {widths[1]} scores a "
                f"sample, and there are {locations.dims[1:]} and {scores.dims[1:]}",
                "mend the .prototxt",
            )
    batch = locations.dims[0]
    boxes = _decode(scope, locations, priors.constant, settings)
    shaped = scope.reshape(scores, (batch, boxes_count, settings.classes))
    turned = scope.op(
        "Transpose", [shaped], (batch, settings.classes, boxes_count), {"perm": [0, 2, 1]}
    )
    foreground = _foreground(scope, turned, settings)
    candidates = _best_of_class(scope, foreground, settings)
    chosen = _suppress(scope, boxes, candidates, settings)
    chosen = _best_of_image(scope, foreground, chosen, settings)
    rows = _rows(scope, boxes, foreground, chosen, settings)
    return _or_none(scope, rows, foreground)


def _settings(scope: Scope) -> _Settings:
    param = scope.param("detection_output_param")
    nms = param.message("nms_param")
    nms.name = param.name
    classes = param.size("num_classes", 0)
    background = param.integer("background_label_id", 0)
    labels = tuple(label for label in range(min(classes, 100_000)) if label != background)
    overlap = nms.number("nms_threshold", 0.3)
    if not labels or overlap < 0:
        raise scope.refuse("it has no classes, or a negative nms_threshold", "mend the .prototxt")
    if not param.flag("share_location", True):
        raise scope.refuse("it has boxes of their own for each class", "share_location: true works")
    if nms.number("eta", 1) != 1:
        raise scope.refuse("its overlap changes on the way (eta)", "eta: 1 works")
    if "objectness_score" in param:
        raise scope.refuse("RefineDet's scores of objectness are not supported", "leave them away")
    looked_at, kept = nms.integer("top_k", -1), param.integer("keep_top_k", -1)
    return _Settings(
        classes,
        labels,
        param.choice("code_type", _CODES, "CORNER"),
        param.flag("variance_encoded_in_target", False),
        param.number("confidence_threshold", _LOWEST),
        overlap,
        looked_at if looked_at > -1 else None,
        kept if kept > -1 else None,
    )


def _decode(scope: Scope, locations: Tensor, priors: Array, settings: _Settings) -> Tensor:
    """Return batch x boxes x 4 corners; what depends on the prior boxes alone is computed here."""
    corners, variances = priors.astype(np.float64).reshape(2, -1, 4)
    if settings.in_target:
        variances = np.ones_like(variances)
    dims = (locations.dims[0], len(corners), 4)
    offsets = scope.reshape(locations, dims)
    if settings.code == "CORNER":
        scaled = scope.op("Mul", [offsets, _constant(scope, variances, "variances")], dims)
        return scope.op("Add", [scaled, _constant(scope, corners, "corners")], dims)
    sizes = corners[:, 2:] - corners[:, :2]
    if settings.code == "CORNER_SIZE":
        unit = np.concatenate([sizes, sizes], 1) * variances
        scaled = scope.op("Mul", [offsets, _constant(scope, unit, "variances")], dims)
        return scope.op("Add", [scaled, _constant(scope, corners, "corners")], dims)
    half: tuple[Dim, ...] = (*dims[:2], 2)
    parts = [offsets, scope.integers([2, 2], "halves")]
    center, size = scope.ops("Split", parts, [half, half], {"axis": 2})
    reach = _constant(scope, sizes * variances[:, :2], "reach")
    middle = _constant(scope, (corners[:, :2] + corners[:, 2:]) / 2, "centers")
    center = scope.op("Add", [scope.op("Mul", [center, reach], half), middle], half)
    growth = _constant(scope, variances[:, 2:], "variances")
    size = scope.op("Exp", [scope.op("Mul", [size, growth], half)], half)
    size = scope.op("Mul", [size, _constant(scope, sizes / 2, "half_sizes")], half)
    both = [scope.op("Sub", [center, size], half), scope.op("Add", [center, size], half)]
    return scope.op("Concat", both, dims, {"axis": 2})


def _foreground(scope: Scope, scores: Tensor, settings: _Settings) -> Tensor:
    """Return the scores, batch x class x box, without the background."""
    labels = settings.labels
    if len(labels) == settings.classes:
        return scores
    dims = (scores.dims[0], len(labels), scores.dims[2])
    if labels == tuple(range(labels[0], labels[0] + len(labels))):
        bounds = [([labels[0]], "first"), ([labels[-1] + 1], "end"), ([1], "axis")]
        inputs = [scores, *[scope.integers(value, label) for value, label in bounds]]
        return scope.op("Slice", inputs, dims)
    return scope.op("Gather", [scores, scope.integers(labels, "classes")], dims, {"axis": 1})


def _best_of_class(scope: Scope, scores: Tensor, settings: _Settings) -> Tensor:
    """Lower the scores of all boxes but the first ``top_k`` of each class beyond any threshold."""
    (boxes,) = scope.known(scores.dims[2:])
    top_k = settings.nms_top_k
    if top_k is None or top_k >= boxes:
        return scores
    if top_k == 0:
        raise scope.refuse("its top_k of 0 looks at no box", "give a positive one, or -1")
    dims = (*scores.dims[:2], top_k)
    best, places = scope.ops(
        "TopK", [scores, scope.integers([top_k], "top_k")], [dims, dims], {"axis": 2}, FLOAT, INT64
    )
    lowest = scope.constant(np.array([-np.inf], np.float32), "lowest")
    nothing = scope.op("Expand", [lowest, scope.shape_like(scores)], scores.dims)
    return scope.op("ScatterElements", [nothing, places, best], scores.dims, {"axis": 2})


def _suppress(scope: Scope, boxes: Tensor, scores: Tensor, settings: _Settings) -> Tensor:
    if settings.code != "CENTER_SIZE":
        boxes = _without_reversed(scope, boxes)
    inputs = [
        boxes,
        scores,
        scope.integers([_MOST], "most"),
        scope.floats([settings.overlap], "overlap"),
        scope.floats([settings.confidence], "confidence"),
    ]
    return scope.op("NonMaxSuppression", inputs, (scope.unknown(), 3), dtype=INT64)


def _without_reversed(scope: Scope, boxes: Tensor) -> Tensor:
    """Give a box whose corners are the wrong way round no area: ONNX would turn them."""
    half: tuple[Dim, ...] = (*boxes.dims[:2], 2)
    parts = [boxes, scope.integers([2, 2], "corners_of")]
    low, high = scope.ops("Split", parts, [half, half], {"axis": 2})
    high = scope.op("Max", [low, high], half)
    return scope.op("Concat", [low, high], boxes.dims, {"axis": 2})


def _best_of_image(scope: Scope, scores: Tensor, chosen: Tensor, settings: _Settings) -> Tensor:
    """Keep the ``keep_top_k`` boxes of each image that have the greatest scores, in their order."""
    keep = settings.keep_top_k
    classes, boxes = scope.known(scores.dims[1:])
    if keep is None or keep >= classes * boxes:
        return chosen
    if keep == 0:
        raise scope.refuse("its keep_top_k of 0 keeps no box", "give a positive one, or -1")
    lowest = scope.constant(np.array([-np.inf], np.float32), "outside")
    nothing = scope.op("Expand", [lowest, scope.shape_like(scores)], scores.dims)
    found = scope.op("GatherND", [scores, chosen], chosen.dims[:1])
    dense = scope.flatten(scope.op("ScatterND", [nothing, chosen, found], scores.dims), 1)
    dims = (scores.dims[0], keep)
    inputs = [dense, scope.integers([keep], "keep_top_k")]
    best, places = scope.ops("TopK", inputs, [dims, dims], {"axis": 1}, FLOAT, INT64)
    blank = scope.flatten(nothing, 1)
    kept = scope.op("ScatterElements", [blank, places, best], dense.dims, {"axis": 1})
    kept = scope.reshape(kept, scores.dims)
    left = scope.op("GatherND", [kept, chosen], chosen.dims[:1])
    is_kept = scope.op("Greater", [left, lowest], left.dims, dtype=BOOL)
    return scope.op("Compress", [chosen, is_kept], (scope.unknown(), 3), {"axis": 0}, INT64)


def _rows(
    scope: Scope, boxes: Tensor, scores: Tensor, chosen: Tensor, settings: _Settings
) -> Tensor:
    size = chosen.dims[0]
    column = (size, 1)
    parts = [chosen, scope.integers([1, 1, 1], "columns")]
    image, place, box = scope.ops("Split", parts, [column] * 3, {"axis": 1}, INT64)
    pair = scope.op("Concat", [image, box], (size, 2), {"axis": 1}, INT64)
    corners = scope.op("GatherND", [boxes, pair], (size, 4))
    found = scope.op("GatherND", [scores, chosen], (size,))
    score = scope.op("Unsqueeze", [found, scope.integers([1], "score_axis")], column)
    number = scope.op("Cast", [image], column, {"to": int(FLOAT)})
    labels = scope.floats(settings.labels, "labels")
    label = scope.op("Gather", [labels, place], column)
    return scope.op("Concat", [number, label, score, corners], (size, 7), {"axis": 1})


def _or_none(scope: Scope, rows: Tensor, scores: Tensor) -> Tensor:
    """Add one row an image, its number and -1, where there are no rows at all."""
    zero = scope.integers([0], "zero")
    first = scope.integers([1], "one")
    batches = _sizes(scope, scores, zero, first)
    is_empty = scope.op("Equal", [_sizes(scope, rows, zero, first), zero], (1,), dtype=BOOL)
    empty = scope.op("Cast", [is_empty], (1,), {"to": int(INT64)}, INT64)
    many = scope.op("Mul", [empty, batches], (1,), dtype=INT64)
    more = scope.unknown()
    shape = scope.op("Concat", [many, first], (2,), {"axis": 0}, INT64)
    minus = scope.op(
        "Expand", [scope.constant(np.array([[-1]], np.float32), "no_box"), shape], (more, 1)
    )
    ones = scope.op("Neg", [minus], (more, 1))
    numbers = scope.op("CumSum", [ones, _axis_zero(scope)], (more, 1), {"exclusive": 1})
    fake = scope.op("Concat", [numbers, *[minus] * 6], (more, 7), {"axis": 1})
    total = scope.unknown()
    found = scope.op("Concat", [rows, fake], (total, 7), {"axis": 0})
    target = scope.integers([1, 1, -1, 7], "rows_shape")
    return scope.op("Reshape", [found, target], (1, 1, total, 7))


def _axis_zero(scope: Scope) -> Tensor:
    """Return the axis 0 as a number."""
    return scope.constant(np.array(0, np.int64), "axis_0")


def _sizes(scope: Scope, tensor: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Return the first size of a tensor, as a list of one."""
    return scope.op("Slice", [scope.shape_like(tensor), start, end], (1,), dtype=INT64)


def _constant(scope: Scope, array: Array, label: str) -> Tensor:
    return scope.constant(array.astype(np.float32), label)
