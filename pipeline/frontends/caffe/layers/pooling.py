"""Pooling and SPP.

Caffe rounds the number of windows up, drops a last one that would start in the padding behind
the image, and divides an average by the window's part within image and padding. Where that is
what ONNX's ``ceil_mode`` means, it is used; else the padding is written out.
Source: BVLC Caffe, src/caffe/layers/pooling_layer.cpp, spp_layer.cpp.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onnxsmith.pipeline.frontends.caffe.builder import Array, Tensor
from onnxsmith.pipeline.frontends.caffe.dims import Dim, Dims
from onnxsmith.pipeline.frontends.caffe.message import Message
from onnxsmith.pipeline.frontends.caffe.scope import FLOAT, INT64, Scope

_METHODS = {"MAX": 0, "AVE": 1, "STOCHASTIC": 2}
_ROUNDING = {"CEIL": 0, "FLOOR": 1}
_LOWEST = float(np.finfo(np.float32).min)


@dataclass(frozen=True)
class _Windows:
    """The windows along one axis.

    Attributes:
        size: The bottom's size; None where it is a name.
        ceil: Whether their number is rounded up.
        found: Their number, the dropped one not counted; None with the size.
        dropped: Whether there is a dropped one.
    """

    size: int | None
    kernel: int
    stride: int
    pad: int
    ceil: bool
    found: int | None
    dropped: bool = False

    @property
    def behind(self) -> int:
        """How far the last window reaches behind the bottom; negative where it ends before."""
        if self.found is None or self.size is None:
            return self.pad
        return (self.found - 1) * self.stride + self.kernel - self.pad - self.size

    @property
    def overhangs(self) -> bool:
        """Whether the last window reaches behind the padding."""
        return self.ceil if self.found is None else self.behind > self.pad

    @property
    def is_empty_at_the_end(self) -> bool:
        """Whether the last window holds nothing: without padding Caffe does not drop it."""
        if self.found is None or self.size is None:
            return self.ceil and not self.pad and self.stride > self.kernel
        return (self.found - 1) * self.stride - self.pad >= self.size


def pooling(scope: Scope) -> list[Tensor]:
    """MaxPool, AveragePool, or the global ones; a second top is the mask of a MaxPool."""
    bottom = scope.bottom()
    param = scope.param("pooling_param")
    method = param.choice("pool", _METHODS, "MAX")
    if method == "STOCHASTIC":
        raise scope.refuse("Caffe itself runs stochastic pooling on GPUs only", "use MAX or AVE")
    if bottom.rank != 4:
        raise scope.refuse(f"it pools a blob of {bottom.rank} dimensions", "give it N x C x H x W")
    is_global = param.flag("global_pooling", False)
    windows = None if is_global else _windows(scope, param, bottom)
    for unused in ("kernel_size", "kernel_h", "kernel_w", "pad", "pad_h", "pad_w", "stride"):
        param.values(unused)
    if windows is None:
        op_type = "GlobalMaxPool" if method == "MAX" else "GlobalAveragePool"
        return [scope.op(op_type, [bottom], (*bottom.dims[:2], 1, 1))]
    if method == "AVE":
        return [average_pool(scope, bottom, windows)]
    return _max_pool(scope, bottom, windows)


def spatial_pyramid(scope: Scope) -> Tensor:
    """SPP: poolings into 1, 4, 16, ... windows, flattened and joined."""
    bottom = scope.bottom()
    param = scope.param("spp_param")
    method = param.choice("pool", _METHODS, "MAX")
    levels = param.size("pyramid_height", 0)
    if bottom.rank != 4 or not 1 <= levels <= 10 or method == "STOCHASTIC":
        raise scope.refuse(
            f"it pools {bottom.rank} dimensions into {levels} levels by {method}",
            "give it N x C x H x W, pyramid_height from 1 to 10, and MAX or AVE",
        )
    parts = []
    for level in range(levels):
        windows = [_pyramid_windows(scope, size, 2**level) for size in scope.known(bottom.dims[2:])]
        if method == "MAX":
            pooled = _max_pool(scope, bottom, windows)[0]
        else:
            pooled = average_pool(scope, bottom, windows)
        parts.append(scope.flatten(pooled, 1))
    if len(parts) == 1:
        return parts[0]
    width = sum(scope.known([part.dims[1] for part in parts]))
    return scope.op("Concat", parts, (bottom.dims[0], width), {"axis": 1})


def average_pool(scope: Scope, bottom: Tensor, windows: list[_Windows]) -> Tensor:
    """Add an average pooling that counts the padding, but nothing behind it."""
    for axis in windows:
        if axis.is_empty_at_the_end:
            raise scope.refuse(
                "its last window is empty, whose average Caffe gives as NaN",
                "set round_mode: FLOOR",
            )
    is_explicit = _needs_explicit(scope, windows)
    attributes = _attributes(windows, explicit=is_explicit)
    if any(axis.pad or axis.overhangs for axis in windows):
        attributes["count_include_pad"] = 1
    found = scope.op("AveragePool", [bottom], _dims(scope, bottom, windows), attributes)
    if not is_explicit:
        return found
    scope.check_constant(math.prod(axis.found or 0 for axis in windows))
    return scope.op("Mul", [found, scope.constant(_divisors(windows), "divisors")], found.dims)


def square_windows(sizes: Dims, kernel: int) -> list[_Windows]:
    """Return windows of stride 1 and odd size, one centered at each place."""
    return [
        _Windows(size, kernel, 1, kernel // 2, False, size)
        if isinstance(size, int)
        else _Windows(None, kernel, 1, kernel // 2, False, None)
        for size in sizes
    ]


def _max_pool(scope: Scope, bottom: Tensor, windows: list[_Windows]) -> list[Tensor]:
    if any(axis.is_empty_at_the_end for axis in windows):
        bottom, windows = _pad_lowest(scope, bottom, windows)
    dims = _dims(scope, bottom, windows)
    attributes = _attributes(windows, explicit=_needs_explicit(scope, windows))
    if len(scope.layer.tops) <= 1:
        return [scope.op("MaxPool", [bottom], dims, attributes)]
    found, indices = scope.ops("MaxPool", [bottom], [dims, dims], attributes, FLOAT, INT64)
    return [found, _mask(scope, bottom, indices)]


def _mask(scope: Scope, bottom: Tensor, indices: Tensor) -> Tensor:
    """Return Caffe's mask: the place of each maximum within its own channel, as a float."""
    plane = scope.integers([math.prod(scope.known(bottom.dims[2:]))], "plane")
    within = scope.op("Mod", [indices, plane], indices.dims, dtype=INT64)
    mask = scope.op("Cast", [within], indices.dims, {"to": int(FLOAT)})
    return replace(mask, indices=indices)


def _pad_lowest(
    scope: Scope, bottom: Tensor, windows: list[_Windows]
) -> tuple[Tensor, list[_Windows]]:
    """Give empty last windows what Caffe finds in them: the lowest number."""
    sizes = scope.known(bottom.dims[2:])
    behind = [max(0, axis.behind) for axis in windows]
    padded = tuple(size + more for size, more in zip(sizes, behind, strict=True))
    inputs = [
        bottom,
        scope.integers([0, 0, 0, 0, 0, 0, *behind], "pads"),
        scope.scalar(_LOWEST, "lowest"),
    ]
    dims = (*bottom.dims[:2], *padded)
    found = [
        _Windows(size, axis.kernel, axis.stride, axis.pad, False, axis.found)
        for size, axis in zip(padded, windows, strict=True)
    ]
    return scope.op("Pad", inputs, dims), found


def _windows(scope: Scope, param: Message, bottom: Tensor) -> list[_Windows]:
    is_ceil = param.choice("round_mode", _ROUNDING, "CEIL") == "CEIL"
    is_ceil = param.flag("ceil_mode", is_ceil)  # the same in other branches of Caffe
    sizes = {}
    for name, default in (("kernel", 0), ("stride", 1), ("pad", 0)):
        both = param.size("kernel_size" if name == "kernel" else name, default)
        sizes[name] = [param.size(f"{name}_h", both), param.size(f"{name}_w", both)]
    found = []
    for at in range(2):
        kernel, stride, pad = (sizes[name][at] for name in ("kernel", "stride", "pad"))
        if not kernel or not stride or pad >= kernel:
            raise scope.refuse(
                f"it has windows of {kernel}, a stride of {stride} and a pad of {pad}",
                "kernel and stride must be positive, and the pad smaller than the kernel",
            )
        found.append(
            _fit(scope, bottom.dims[2 + at], kernel, stride, pad, is_ceil, any(sizes["pad"]))
        )
    return found


def _fit(
    scope: Scope, size: Dim, kernel: int, stride: int, pad: int, is_ceil: bool, is_padded: bool
) -> _Windows:
    if not isinstance(size, int):
        if is_ceil and not pad and stride > kernel:
            scope.known([size])
        return _Windows(None, kernel, stride, pad, is_ceil, None)
    room = size + 2 * pad - kernel
    if room < 0:
        raise scope.refuse(
            f"its window of {kernel} does not fit into {size}", "give a larger input"
        )
    found = (room + (stride - 1 if is_ceil else 0)) // stride + 1
    is_dropped = is_padded and (found - 1) * stride >= size + pad
    return _Windows(size, kernel, stride, pad, is_ceil, found - is_dropped, is_dropped)


def _pyramid_windows(scope: Scope, size: int, bins: int) -> _Windows:
    kernel = -(-size // bins)
    pad = (kernel * bins - size + 1) // 2
    if pad >= kernel:
        raise scope.refuse(f"{bins} windows are too many for a size of {size}", "lower the pyramid")
    return _fit(scope, size, kernel, kernel, pad, True, True)


def _attributes(windows: list[_Windows], *, explicit: bool) -> dict[str, Any]:
    """Return ONNX's attributes.

    Args:
        windows: Along each axis.
        explicit: Whether to write out how far the last windows reach, instead of rounding up.
    """
    found: dict[str, Any] = {"kernel_shape": [axis.kernel for axis in windows]}
    if any(axis.stride != 1 for axis in windows):
        found["strides"] = [axis.stride for axis in windows]
    before = [axis.pad for axis in windows]
    behind = [max(0, axis.behind) for axis in windows] if explicit else before
    if any(before) or any(behind):
        found["pads"] = before + behind
    if any(axis.overhangs for axis in windows) and not explicit:
        found["ceil_mode"] = 1
    return found


def _needs_explicit(scope: Scope, windows: list[_Windows]) -> bool:
    """Return whether rounding up would count a window that Caffe drops.

    It would by the shape inference of opsets before 22. It matters only where another axis has
    to be rounded up.
    """
    rounds_up = any(axis.overhangs for axis in windows)
    return rounds_up and any(axis.dropped for axis in windows) and scope.opset < 22


def _divisors(windows: list[_Windows]) -> Array:
    """Return by how much more than the window's part in image and padding is counted."""
    ratios = []
    for axis in windows:
        starts = np.arange(axis.found or 0) * axis.stride - axis.pad
        ends = np.minimum(starts + axis.kernel, (axis.size or 0) + axis.pad)
        ratios.append(axis.kernel / (ends - starts))
    return np.outer(*ratios).astype(np.float32)


def _dims(scope: Scope, bottom: Tensor, windows: list[_Windows]) -> Dims:
    spatial: list[Dim] = []
    for axis, size in zip(windows, bottom.dims[2:], strict=True):
        if axis.found is not None:
            spatial.append(axis.found)
        elif axis.stride == 1 and 2 * axis.pad == axis.kernel - 1:
            spatial.append(size)
        else:
            spatial.append(scope.unknown())
    return (*bottom.dims[:2], *spatial)
