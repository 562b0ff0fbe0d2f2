"""Overlapping boxes left out: non-maximum suppression, alone and at the end of SSD.

Source: MXNet ``src/operator/contrib/bounding_box-inl.h``, ``multibox_detection.cc``.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxsmith.pipeline.frontends.mxnet.call import Call, Family, Operator
from onnxsmith.pipeline.frontends.mxnet.graph import Part, dims_of
from onnxsmith.pipeline.frontends.mxnet.operators.boxes import corners, decode

_MAX_CLASSES = 2**16


def box_nms(call: Call) -> ir.Value:
    """Rows by score, those that a better one overlaps left out; -1 fills the end.

    Boxes of other classes (``id_index``) do not count, unless ``force_suppress``.
    """
    graph, x, shape = call.graph, call[0], call.dims()
    width = shape[-1] if len(shape) > 1 else None
    if not isinstance(width, int):
        raise call.error("the number of values of a box is unknown")
    rows = x if len(shape) == 3 else graph.reshape_to(x, [-1, *_tail(x, 2)])
    start = call.attrs.bounded("coord_start", 2, 0, width - 4)
    score_at = call.attrs.bounded("score_index", 1, 0, width - 1)
    class_at = call.attrs.bounded("id_index", -1, -1, width - 1)
    lowest = call.attrs.number("valid_thresh", 0.0)
    background = call.attrs.integer("background_id", -1)
    scores = _column(call, rows, score_at)
    if class_at >= 0 and background >= 0:
        is_background = graph.add(
            "Equal", [_column(call, rows, class_at), graph.scalar(background, rows, "background")]
        )
        low = graph.scalar(lowest - 1, rows, "low")
        scores = graph.add("Where", [is_background, low, scores])
    scores, order = _sorted(call, scores)
    rows = _rows(call, rows, order)
    center = call.attrs.text("in_format", "corner", ("corner", "center")) == "center"
    boxes = graph.slice(rows, [2], [start], [start + 4])
    if class_at >= 0 and not call.attrs.flag("force_suppress", False):
        boxes = _apart(call, boxes, graph.slice(rows, [2], [class_at], [class_at + 1]), center)
    bound = call.attrs.number("overlap_thresh", 0.5)
    kept = _survivors(call, boxes, scores, bound, lowest, center=center)
    kept = _first(call, kept, call.attrs.integer("topk", -1))
    rows = _converted(call, rows, start, width, center)
    # Another sort moves the kept ones to the front; their order stays.
    place = graph.cast(_places(call, kept), ir.DataType.FLOAT)
    marks = graph.cast(kept, ir.DataType.FLOAT)
    front = graph.add("Mul", [marks, graph.add("Add", [place, graph.scalar(1.0, marks, "one")])])
    values, order = _sorted(call, front)
    rows = _rows(call, rows, order)
    full = graph.unsqueeze(graph.add("Greater", [values, graph.scalar(0.0, values, "zero")]), [2])
    result = graph.add("Where", [full, rows, graph.scalar(-1.0, rows, "empty")])
    if len(shape) == 3:
        return result
    return graph.reshape_to(result, [(x, axis) for axis in range(len(shape))])


def multibox_detection(call: Call) -> ir.Value:
    """Rows (class, score, box) by score; the class is -1 where a better box overlaps.

    Inputs are probabilities (batch, classes, anchors), the first class the background, offsets
    (batch, 4 anchors) and anchors.
    """
    graph = call.graph
    classes = call.size(1)
    if classes > _MAX_CLASSES:
        raise call.error(f"it has {classes} classes")
    if classes < 2 or call.attrs.integer("background_id", 0) != 0:
        raise call.refuse("a background other than class 0")
    likely = graph.slice(call[0], [1], [1], [classes])
    scores = graph.reduce("ReduceMax", likely, [1], keep=False)
    kind = graph.add("ArgMax", [likely], {"axis": 1, "keepdims": 0})
    least = graph.scalar(call.attrs.number("threshold", 0.01), scores, "threshold")
    valid = graph.add("GreaterOrEqual", [scores, least])
    spread = list(call.attrs.numbers("variances", (0.1, 0.1, 0.2, 0.2)))
    if len(spread) != 4:
        raise call.error("variances are four numbers")
    offsets = graph.reshape(call[1], [0, -1, 4])
    boxes = decode(call, offsets, call[2], spread, center=False, bound=-1.0)
    if call.attrs.flag("clip", True):
        edges = [graph.scalar(edge, boxes, name) for edge, name in ((0.0, "low"), (1.0, "high"))]
        boxes = graph.add("Clip", [boxes, *edges])
    columns = [graph.unsqueeze(v, [2]) for v in (graph.cast(kind, ir.DataType.FLOAT), scores)]
    rows = graph.add("Concat", [*columns, boxes], {"axis": 2})
    empty = graph.scalar(-1.0, rows, "empty")
    rows = graph.add("Where", [graph.unsqueeze(valid, [2]), rows, empty])
    bound = call.attrs.number("nms_threshold", 0.5)
    if not 0 < bound <= 1:
        return _rows(call, rows, _by_place(call, valid))
    _, order = _sorted(call, graph.add("Where", [valid, scores, graph.scalar(-2.0, scores, "low")]))
    ordered = _rows(call, rows, order)
    topk = call.attrs.integer("nms_topk", -1)
    # MXNet suppresses from the bound on, ONNX above it.
    below = float(np.nextafter(np.float32(bound), np.float32(0)))
    alone = _by_class(call, ordered, classes - 1, topk, below)
    head = graph.slice(ordered, [2], [0], [1])
    rest = graph.slice(ordered, [2], [1], [6])
    head = graph.add("Where", [graph.unsqueeze(alone, [2]), head, empty])
    result = graph.add("Concat", [head, rest], {"axis": 2})
    if topk <= 0:
        return result
    # Behind the best ones MXNet leaves what stood there before the sort, without its class.
    others = graph.slice(_rows(call, rows, _by_place(call, valid)), [2], [1], [6])
    zeros = graph.add("Mul", [head, graph.scalar(0.0, head, "zero")])
    nothing = graph.add("Sub", [zeros, _one(call, head)])
    left = graph.add("Concat", [nothing, others], {"axis": 2})
    inside = graph.unsqueeze(_below(call, result, topk), [0, 2])
    return graph.add("Where", [inside, result, left])


def _by_class(call: Call, rows: ir.Value, classes: int, topk: int, bound: float) -> ir.Value:
    """Return which of the sorted rows (batch, rows, 6) no better one of their class overlaps."""
    graph = call.graph
    kind, scores = _column(call, rows, 0), _column(call, rows, 1)
    boxes = graph.slice(rows, [2], [2], [6])
    low = graph.scalar(-1.0, scores, "low")
    if topk > 0:
        scores = graph.add("Where", [graph.unsqueeze(_below(call, rows, topk), [0]), scores, low])
    if call.attrs.flag("force_suppress", False):
        return _survivors(call, boxes, scores, bound, -0.5, center=False)
    numbers = np.arange(classes, dtype=np.float32).reshape(1, classes, 1)
    own = graph.add("Equal", [graph.unsqueeze(kind, [1]), graph.constant(numbers, "classes")])
    by_class = graph.add("Where", [own, graph.unsqueeze(scores, [1]), low])
    return _suppress(call, boxes, by_class, scores, bound, -0.5, center=False)


def _survivors(
    call: Call, boxes: ir.Value, scores: ir.Value, bound: float, lowest: float, *, center: bool
) -> ir.Value:
    """Return which boxes (batch, rows, 4) no better one overlaps, as bool (batch, rows)."""
    wide = call.graph.unsqueeze(scores, [1])
    return _suppress(call, boxes, wide, scores, bound, lowest, center=center)


def _suppress(
    call: Call,
    boxes: ir.Value,
    by_class: ir.Value,
    scores: ir.Value,
    bound: float,
    lowest: float,
    *,
    center: bool,
) -> ir.Value:
    graph = call.graph
    inputs = [
        boxes,
        by_class,
        graph.squeeze(graph.sizes(scores, 1, 2), [0]),
        graph.constant(np.array(bound, np.float32), "overlap"),
        graph.constant(np.array(lowest, np.float32), "lowest"),
    ]
    chosen = graph.add("NonMaxSuppression", inputs, {"center_point_box": int(center)})
    at = graph.add("Gather", [chosen, graph.integers([0, 2], "columns")], {"axis": 1})
    ones = graph.add(
        "ConstantOfShape",
        [graph.sizes(at, 0, 1)],
        {"value": ir.tensor(np.ones(1, np.float32))},
    )
    zeros = graph.add("ConstantOfShape", [graph.add("Shape", [scores])])
    marks = graph.add("ScatterND", [zeros, at, ones])
    marks.shape = scores.shape
    return graph.add("Greater", [marks, graph.scalar(0.5, marks, "half")])


def _apart(call: Call, boxes: ir.Value, classes: ir.Value, center: bool) -> ir.Value:
    """Move the boxes of each class to a place of their own, where no other class overlaps."""
    graph = call.graph
    reach = graph.reduce("ReduceMax", graph.add("Abs", [boxes]), None, keep=False)
    wide = graph.add("Mul", [reach, graph.scalar(4.0, reach, "four")])
    step = graph.add("Add", [wide, _one(call, reach)])
    shift = graph.add("Mul", [classes, step])
    if center:
        only = graph.constant(np.array([1, 1, 0, 0], np.float32), "place")
        shift = graph.add("Mul", [shift, only])
    return graph.add("Add", [boxes, shift])


def _converted(call: Call, rows: ir.Value, start: int, width: int, center: bool) -> ir.Value:
    """Return the rows with their boxes in ``out_format``."""
    graph = call.graph
    wanted = call.attrs.text("out_format", "corner", ("corner", "center")) == "center"
    if wanted == center:
        return rows
    boxes = graph.slice(rows, [2], [start], [start + 4])
    if center:
        box = graph.add("Concat", corners(call, boxes), {"axis": 2})
    else:
        low, high = graph.split(boxes, 2, [2, 2])
        half = graph.scalar(0.5, rows, "half")
        middle = graph.add("Mul", [graph.add("Add", [low, high]), half])
        box = graph.add("Concat", [middle, graph.add("Sub", [high, low])], {"axis": 2})
    pieces = [graph.slice(rows, [2], [0], [start])] if start else []
    pieces.append(box)
    if start + 4 < width:
        pieces.append(graph.slice(rows, [2], [start + 4], [width]))
    return pieces[0] if len(pieces) == 1 else graph.add("Concat", pieces, {"axis": 2})


def _sorted(call: Call, keys: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Return keys (batch, rows) from large to small, and their places."""
    count = call.graph.sizes(keys, 1, 2)
    values, places = call.graph.add_many("TopK", [keys, count], {"axis": 1}, 2)
    values.shape = places.shape = keys.shape
    return values, places


def _by_place(call: Call, valid: ir.Value) -> ir.Value:
    """Return the places of the valid rows first, in their order."""
    marks = call.graph.cast(valid, ir.DataType.FLOAT)
    return _sorted(call, marks)[1]


def _places(call: Call, kept: ir.Value) -> ir.Value:
    """Return how many rows are left from each on: large for the first."""
    marks = call.graph.cast(kept, ir.DataType.INT64)
    axis = call.graph.constant(np.array(1, np.int64), "axis")
    return call.graph.add("CumSum", [marks, axis], {"reverse": 1})


def _first(call: Call, kept: ir.Value, topk: int) -> ir.Value:
    if topk <= 0:
        return kept
    return call.graph.add("And", [kept, call.graph.unsqueeze(_below(call, kept, topk), [0])])


def _below(call: Call, rows: ir.Value, count: int) -> ir.Value:
    """Return which places along axis 1 are below a number."""
    graph = call.graph
    end = graph.squeeze(graph.sizes(rows, 1, 2), [0])
    first, step = (graph.constant(np.array(n, np.int64), f"from{n}") for n in (0, 1))
    places = graph.add("Range", [first, end, step])
    return graph.add("Less", [places, graph.constant(np.array(count, np.int64), "count")])


def _rows(call: Call, rows: ir.Value, places: ir.Value) -> ir.Value:
    """Return the rows (batch, rows, values) at places (batch, rows)."""
    found = call.graph.add("GatherND", [rows, call.graph.unsqueeze(places, [2])], {"batch_dims": 1})
    found.shape = rows.shape
    return found


def _column(call: Call, rows: ir.Value, at: int) -> ir.Value:
    index = call.graph.constant(np.array(at, np.int64), "column")
    return call.graph.add("Gather", [rows, index], {"axis": 2})


def _tail(x: ir.Value, count: int) -> list[Part]:
    rank = len(dims_of(x))
    return [(x, axis) for axis in range(rank - count, rank)]


def _one(call: Call, like: ir.Value) -> ir.Value:
    return call.graph.scalar(1.0, like, "one")


_NMS = Operator(box_nms, numbered=lambda attrs: True)

OPERATORS: Family = {
    "_contrib_MultiBoxDetection": Operator(multibox_detection),
    "_npx_multibox_detection": Operator(multibox_detection),
    "_contrib_box_nms": _NMS,
    "_contrib_box_non_maximum_suppression": _NMS,
}
