"""Boxes: anchors, the regions that they cut out, their overlap, and offsets from them.

Source: MXNet ``src/operator/contrib/multibox_prior.cc``, ``contrib/bounding_box-inl.h``,
``roi_pooling-inl.h``, ``contrib/roi_align.cc``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from onnxsmith.pipeline.frontends.mxnet.call import Call, Family, Operator
from onnxsmith.pipeline.frontends.mxnet.graph import AttributeValue, Part, dims_of

_MAX_ANCHORS = 2**18


def multibox_prior(call: Call) -> ir.Value:
    """Anchors (1, height * width * kinds, 4) of all sizes, and of the first size in all ratios."""
    height, width = call.size(2), call.size(3)
    sizes = call.attrs.numbers("sizes", (1.0,))
    ratios = call.attrs.numbers("ratios", (1.0,))
    steps = call.attrs.numbers("steps", (-1.0, -1.0))
    offsets = call.attrs.numbers("offsets", (0.5, 0.5))
    if not sizes or not ratios or len(steps) != 2 or len(offsets) != 2:
        raise call.error("its sizes, ratios, steps or offsets are incomplete")
    if height * width * (len(sizes) + len(ratios)) > _MAX_ANCHORS or min(ratios) <= 0:
        raise call.error("its anchors are out of bounds")
    step_y = steps[0] if steps[0] > 0 else 1 / height
    step_x = steps[1] if steps[1] > 0 else 1 / width
    rows = (np.arange(height) + offsets[0]) * step_y
    columns = (np.arange(width) + offsets[1]) * step_x
    shape = height / width
    halves = [(size * shape / 2, size / 2) for size in sizes]
    halves += [(sizes[0] * shape * r**0.5 / 2, sizes[0] / r**0.5 / 2) for r in ratios[1:]]
    y, x = np.meshgrid(rows, columns, indexing="ij")
    boxes = np.stack([np.stack([x - w, y - h, x + w, y + h], -1) for w, h in halves], 2)
    if call.attrs.flag("clip", False):
        boxes = boxes.clip(0, 1)
    return call.graph.constant(boxes.reshape(1, -1, 4).astype(np.float32), "anchors")


def roi_pooling(call: Call) -> ir.Value:
    """The largest value of each cell of each region (batch, x1, y1, x2, y2)."""
    attributes: dict[str, AttributeValue] = {
        "pooled_shape": _pair(call, "pooled_size"),
        "spatial_scale": call.attrs.number("spatial_scale", 1.0),
    }
    return call.graph.add("MaxRoiPool", [call[0], call[1]], attributes)


def roi_align(call: Call) -> ir.Value:
    """The mean of sampled values of each cell of each region."""
    if call.attrs.flag("position_sensitive", False):
        raise call.refuse("position-sensitive regions")
    graph = call.graph
    if graph.opset < 16:
        raise call.error("ONNX has no such regions before opset 16", "choose --opset 16")
    height, width = _pair(call, "pooled_size")
    batch, boxes = graph.split(call[1], 1, [1, 4])
    index = graph.cast(graph.squeeze(batch, [1]), ir.DataType.INT64)
    aligned = call.attrs.flag("aligned", False)
    attributes: dict[str, AttributeValue] = {
        "output_height": height,
        "output_width": width,
        "spatial_scale": call.attrs.number("spatial_scale", 1.0),
        "sampling_ratio": max(call.attrs.integer("sample_ratio", -1), 0),
        "coordinate_transformation_mode": "half_pixel" if aligned else "output_half_pixel",
    }
    return graph.add("RoiAlign", [call[0], boxes, index], attributes)


def box_iou(call: Call) -> ir.Value:
    """The overlap of each box of one array with each of another."""
    graph = call.graph
    center = call.attrs.text("format", "corner", ("corner", "center")) == "center"
    both: list[Sequence[ir.Value]] = []
    for number, axis in ((0, 1), (1, 0)):
        flat = graph.reshape(call[number], [-1, 4])
        parts: Sequence[ir.Value] = corners(call, flat) if center else graph.split(flat, 1, [1] * 4)
        # Columns of one side against rows of the other.
        both.append(parts if axis == 1 else [graph.transpose(part, [1, 0]) for part in parts])
    left, right = both
    zero = graph.scalar(0.0, call[0], "zero")
    sides = []
    for low in (0, 1):
        near = graph.add("Max", [left[low], right[low]])
        far = graph.add("Min", [left[low + 2], right[low + 2]])
        sides.append(graph.add("Max", [graph.add("Sub", [far, near]), zero]))
    inner = graph.add("Mul", sides)
    areas = [
        graph.add("Mul", [graph.add("Sub", [p[2], p[0]]), graph.add("Sub", [p[3], p[1]])])
        for p in both
    ]
    union = graph.add("Sub", [graph.add("Add", areas), inner])
    overlap = graph.add("Div", [inner, union])
    result = graph.add("Where", [graph.add("Greater", [union, zero]), overlap, zero])
    shape: list[Part] = [(call[0], axis) for axis in range(call.rank() - 1)]
    shape += [(call[1], axis) for axis in range(call.rank(1) - 1)]
    return result if len(shape) == 2 else graph.reshape_to(result, shape)


def box_decode(call: Call) -> ir.Value:
    """Corners of the boxes that the offsets (dx, dy, dw, dh) make of the anchors."""
    spread = [call.attrs.number(f"std{n}", 1.0) for n in range(4)]
    center = call.attrs.text("format", "center", ("corner", "center")) == "center"
    bound = call.attrs.number("clip", -1.0)
    return decode(call, call[0], call[1], spread, center=center, bound=bound)


def decode(
    call: Call,
    offsets: ir.Value,
    anchors: ir.Value,
    spread: list[float],
    *,
    center: bool,
    bound: float,
) -> ir.Value:
    """Return the corners of boxes as ``box_decode`` does.

    Args:
        call: The node.
        offsets: (batch, rows, 4) as (dx, dy, dw, dh).
        anchors: (1, rows, 4).
        spread: What each of the four offsets is multiplied by.
        center: Whether anchors are given by center and size, not by their corners.
        bound: The largest logarithm of a stretch; 0 or less stands for none.
    """
    graph = call.graph
    last = len(dims_of(anchors)) - 1
    factors = np.array(spread, np.float32)
    scaled = graph.add("Mul", [offsets, graph.constant(factors, "spread")])
    shift, stretch = graph.split(scaled, last, [2, 2])
    first, second = graph.split(anchors, last, [2, 2])
    half = graph.scalar(0.5, anchors, "half")
    if center:
        middle, size = first, second
    else:
        size = graph.add("Sub", [second, first])
        middle = graph.add("Mul", [graph.add("Add", [first, second]), half])
    if bound > 0:
        stretch = graph.add("Min", [stretch, graph.scalar(bound, stretch, "bound")])
    place = graph.add("Add", [graph.add("Mul", [shift, size]), middle])
    reach = graph.add("Mul", [graph.add("Mul", [graph.add("Exp", [stretch]), size]), half])
    low, high = graph.add("Sub", [place, reach]), graph.add("Add", [place, reach])
    return graph.add("Concat", [low, high], {"axis": last})


def corners(call: Call, boxes: ir.Value) -> list[ir.Value]:
    """Return x1, y1, x2, y2 of boxes given by center and size, each with the last axis kept."""
    graph = call.graph
    x, y, width, height = graph.split(boxes, len(dims_of(boxes)) - 1, [1] * 4)
    half = graph.scalar(0.5, boxes, "half")
    reach = [graph.add("Mul", [side, half]) for side in (width, height)]
    low = [graph.add("Sub", [at, by]) for at, by in zip((x, y), reach, strict=True)]
    return [*low, *(graph.add("Add", [at, by]) for at, by in zip((x, y), reach, strict=True))]


def _pair(call: Call, name: str) -> list[int]:
    found = call.attrs.integers(name)
    if len(found) != 2 or not all(1 <= size <= 2**12 for size in found):
        raise call.error(f"{name}={list(found)} is no height and width")
    return list(found)


OPERATORS: Family = {
    "_contrib_MultiBoxPrior": Operator(multibox_prior),
    "_npx_multibox_prior": Operator(multibox_prior),
    "_contrib_box_iou": Operator(box_iou),
    "_contrib_box_decode": Operator(box_decode),
    "ROIPooling": Operator(roi_pooling, outputs=("output",)),
    "_npx_roi_pooling": Operator(roi_pooling),
    "_contrib_ROIAlign": Operator(roi_align),
}
