"""The gradient of GridSample, of images in two dimensions.

Source: GridSample of ONNX; Jaderberg et al., "Spatial Transformer Networks" (2015), equations 5-7.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from onnxsmith.passes.autodiff.backward import Backward, Gradients, NotDifferentiableError
from onnxsmith.passes.autodiff.writer import BOOL, INT64, Writer, rank_of

_LINEAR, _NEAREST = ("linear", "bilinear"), ("nearest",)


def grid_sample(b: Backward) -> Gradients:
    """Each corner of a place gets its share; places follow the slopes between the corners."""
    mode, padding = b.string("mode", "linear"), b.string("padding_mode", "zeros")
    if rank_of(b.x()) != 4:
        raise NotDifferentiableError("its images are not two-dimensional")
    if mode not in (*_LINEAR, *_NEAREST):
        raise NotDifferentiableError(f"its mode is {mode}")
    if padding == "reflection":
        raise NotDifferentiableError("it reflects places that lie outside")
    w = b.write
    across, down = (_places(b, place) for place in (0, 1))
    corners = _linear(w, across, down) if mode in _LINEAR else _nearest(w, across, down)
    image = w.op("Reshape", b.x(), w.ints([0, 0, -1]))
    grad = w.op("Reshape", b.grad, w.ints([0, 0, -1]))
    to_image, slopes = w.zeros_like(image), []
    for corner in corners:
        index, there = corner.index(w, across, down, padding == "zeros")
        spread = w.op("Expand", index, w.op("Shape", grad, dtype=INT64))
        part = w.op("Mul", grad, w.op("Mul", corner.weight, there))
        attributes = {"axis": 2, "reduction": "add"}
        to_image = w.op("ScatterElements", to_image, spread, part, attributes=attributes)
        if mode in _LINEAR and b.needs[1]:
            picked = w.op("GatherElements", image, spread, attributes={"axis": 2})
            along = w.reduce("ReduceSum", w.op("Mul", picked, grad), [1])
            seen = w.op("Mul", along, there)
            slopes.append([w.op("Mul", seen, slope) for slope in corner.slopes])
    gradients: list[ir.Value | None] = [w.reshape_like(to_image, b.x()), None]
    if b.needs[1]:
        gradients[1] = _to_grid(b, (across, down), slopes)
    return gradients


@dataclass(frozen=True)
class _Axis:
    """Where the places lie along one dimension of the image, as ``[N, 1, places]``.

    Attributes:
        at: Counted in pixels.
        size: How many pixels there are, a float scalar.
        slope: How ``at`` follows the grid.
    """

    at: ir.Value
    size: ir.Value
    slope: ir.Value


@dataclass(frozen=True)
class _Corner:
    """A pixel that a place reads: where, how much of it, and how that follows the place."""

    x: ir.Value
    y: ir.Value
    weight: ir.Value
    slopes: tuple[ir.Value, ...] = ()

    def index(
        self, w: Writer, across: _Axis, down: _Axis, zeros: bool
    ) -> tuple[ir.Value, ir.Value]:
        """Return its place in the flat image, and ones where it counts."""
        zero, one = w.number(0, self.x), w.number(1, self.x)
        near = [
            w.op("Min", w.op("Max", at, zero), w.op("Sub", axis.size, one))
            for at, axis in ((self.x, across), (self.y, down))
        ]
        index = w.cast(w.op("Add", w.op("Mul", near[1], across.size), near[0]), INT64)
        if not zeros:
            return index, one
        pairs = zip((self.x, self.y), near, strict=True)
        inside = [w.op("Equal", *pair, dtype=BOOL) for pair in pairs]
        return index, w.cast(w.op("And", *inside, dtype=BOOL), self.x.dtype)


def _places(b: Backward, place: int) -> _Axis:
    """Return the places along the width or the height: ``(g + 1) / 2 (size - 1)``, if aligned."""
    w, grid = b.write, b.x(1)
    column = w.op("Slice", grid, w.ints([place]), w.ints([place + 1]), w.ints([3]))
    column = w.op("Reshape", column, w.ints([0, 1, -1]))
    size = w.op("Squeeze", w.size_of(b.x(), 3 - place), w.ints([0]))
    size = w.cast(size, grid.dtype)
    half, one = w.number(0.5, grid), w.number(1, grid)
    moved = w.op("Add", column, one)
    if b.int("align_corners", 0):
        slope = w.op("Mul", w.op("Sub", size, one), half)
        at = w.op("Mul", moved, slope)
    else:
        slope = w.op("Mul", size, half)
        at = w.op("Sub", w.op("Mul", moved, slope), half)
    if b.string("padding_mode", "zeros") == "border":
        zero, last = w.number(0, grid), w.op("Sub", size, one)
        inside = w.op("And", w.op("Greater", at, zero, dtype=BOOL),
                      w.op("Less", at, last, dtype=BOOL), dtype=BOOL)  # fmt: skip
        slope = w.op("Mul", slope, w.cast(inside, grid.dtype))
        at = w.op("Min", w.op("Max", at, zero), last)
    return _Axis(at, size, slope)


def _linear(w: Writer, across: _Axis, down: _Axis) -> list[_Corner]:
    one = w.number(1, across.at)
    pairs = []
    for axis in (across, down):
        low = w.op("Floor", axis.at)
        share = w.op("Sub", axis.at, low)
        ends = ((low, w.op("Sub", one, share), -1.0), (w.op("Add", low, one), share, 1.0))
        pairs.append(ends)
    return [
        _Corner(
            x, y, w.op("Mul", wx, wy),
            (w.op("Mul", wy, w.number(sx, wy)), w.op("Mul", wx, w.number(sy, wx))),
        )
        for x, wx, sx in pairs[0]
        for y, wy, sy in pairs[1]
    ]  # fmt: skip


def _nearest(w: Writer, across: _Axis, down: _Axis) -> list[_Corner]:
    return [_Corner(w.op("Round", across.at), w.op("Round", down.at), w.number(1, across.at))]


def _to_grid(b: Backward, axes: tuple[_Axis, _Axis], slopes: list[list[ir.Value]]) -> ir.Value:
    w, grid = b.write, b.x(1)
    if not slopes:  # the nearest pixel stays the same when a place moves a little
        return w.zeros_like(grid)
    parts = []
    for axis, found in zip(axes, zip(*slopes, strict=True), strict=True):
        whole = w.op("Mul", w.op("Sum", *found), axis.slope)
        parts.append(w.op("Transpose", whole, attributes={"perm": [0, 2, 1]}))
    both = w.op("Concat", *parts, attributes={"axis": 2})
    return w.reshape_like(both, grid)
