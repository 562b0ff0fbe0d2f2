"""Convolution and Deconvolution.

Source: BVLC Caffe, src/caffe/layers/base_conv_layer.cpp, conv_layer.cpp, deconv_layer.cpp.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from onnxsmith.pipeline.frontends.caffe.builder import Tensor
from onnxsmith.pipeline.frontends.caffe.dims import Dim
from onnxsmith.pipeline.frontends.caffe.message import Message
from onnxsmith.pipeline.frontends.caffe.scope import Scope


@dataclass(frozen=True)
class _Window:
    """Sizes along each spatial axis."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    dilation: tuple[int, ...]

    def attributes(self) -> dict[str, Any]:
        """Return ONNX's attributes, without those that have their default."""
        found: dict[str, Any] = {"kernel_shape": self.kernel}
        if set(self.stride) != {1}:
            found["strides"] = self.stride
        if any(self.pad):
            found["pads"] = (*self.pad, *self.pad)
        if set(self.dilation) != {1}:
            found["dilations"] = self.dilation
        return found


def convolution(scope: Scope) -> list[Tensor]:
    """Conv: each bottom by the same weights."""
    return [_convolve(scope, one) for one in _bottoms(scope)]


def depthwise(scope: Scope) -> list[Tensor]:
    """Conv with one group a channel, the form of ConvolutionDepthwise."""
    return [_convolve(scope, one, depthwise=True) for one in _bottoms(scope)]


def deconvolution(scope: Scope) -> list[Tensor]:
    """ConvTranspose: stride * (size - 1) + kernel - 2 * pad."""
    found = []
    for bottom in _bottoms(scope):
        param, window, channels = _settings(scope, bottom)
        outputs, group = _outputs(scope, param, channels)
        weight = scope.weight(0, (channels, outputs // group, *window.kernel), "weight")
        spatial = tuple(
            _deconvolved(scope, *sizes)
            for sizes in zip(
                bottom.dims[2:],
                window.kernel,
                window.stride,
                window.pad,
                window.dilation,
                strict=True,
            )
        )
        attributes = window.attributes() | ({"group": group} if group > 1 else {})
        inputs = [bottom, weight, *_bias(scope, param, outputs)]
        dims = (bottom.dims[0], outputs, *spatial)
        found.append(scope.op("ConvTranspose", inputs, dims, attributes))
    return found


def window_size(size: int, kernel: int, stride: int, pad: int, dilation: int) -> int:
    """Return how many windows fit, rounded down."""
    return (size + 2 * pad - (dilation * (kernel - 1) + 1)) // stride + 1


def _convolve(scope: Scope, bottom: Tensor, *, depthwise: bool = False) -> Tensor:
    param, window, channels = _settings(scope, bottom)
    outputs, group = _outputs(scope, param, channels, depthwise=depthwise)
    weight = scope.weight(0, (outputs, channels // group, *window.kernel), "weight")
    spatial = tuple(
        _convolved(scope, *sizes)
        for sizes in zip(
            bottom.dims[2:], window.kernel, window.stride, window.pad, window.dilation, strict=True
        )
    )
    attributes = window.attributes() | ({"group": group} if group > 1 else {})
    inputs = [bottom, weight, *_bias(scope, param, outputs)]
    return scope.op("Conv", inputs, (bottom.dims[0], outputs, *spatial), attributes)


def _bottoms(scope: Scope) -> tuple[Tensor, ...]:
    scope.bottom(1, max(1, len(scope.layer.tops)))
    return scope.bottoms


def _settings(scope: Scope, bottom: Tensor) -> tuple[Message, _Window, int]:
    param = scope.param("convolution_param")
    rank = bottom.rank - 2
    axis = scope.axis(param.integer("axis", 1), bottom.rank)
    if axis != 1 or rank < 1:
        raise scope.refuse(
            f"it convolves a blob of {bottom.rank} dimensions along axis {axis}",
            "put the channels onto axis 1",
        )
    window = _Window(
        _along(scope, param, "kernel", rank, None),
        _along(scope, param, "stride", rank, 1),
        _along(scope, param, "pad", rank, 0),
        _along(scope, param, "dilation", rank, 1),
    )
    (channels,) = scope.known(bottom.dims[1:2])
    return param, window, channels


def _along(
    scope: Scope, param: Message, name: str, rank: int, default: int | None
) -> tuple[int, ...]:
    """Return a size along each axis: one for all, one each, or ``_h`` and ``_w``."""
    sizes = param.sizes("kernel_size" if name == "kernel" else name)
    if f"{name}_h" in param or f"{name}_w" in param:
        fallback = 0 if default is None else default
        sizes = [param.size(f"{name}_h", fallback), param.size(f"{name}_w", fallback)]
        if rank != 2:
            raise scope.refuse(f"{name}_h is for two spatial axes", "give one size an axis")
    if not sizes:
        if default is None:
            raise scope.refuse("it has no kernel_size", "mend the .prototxt")
        sizes = [default]
    if len(sizes) not in (1, rank):
        raise scope.refuse(
            f"it has {len(sizes)} {name} sizes for {rank} axes", "mend the .prototxt"
        )
    if name != "pad" and 0 in sizes:
        raise scope.refuse(f"its {name} is 0", "mend the .prototxt")
    return tuple(sizes * rank if len(sizes) == 1 else sizes)


def _outputs(
    scope: Scope, param: Message, channels: int, *, depthwise: bool = False
) -> tuple[int, int]:
    group = channels if depthwise else param.size("group", 1)
    outputs = param.size("num_output", channels if depthwise else 0)
    param.values("group")
    if not outputs or not group or outputs % group or channels % group:
        raise scope.refuse(
            f"{channels} channels do not become {outputs} in groups of {group}",
            "mend num_output or group",
        )
    return outputs, group


def _bias(scope: Scope, param: Message, outputs: int) -> Sequence[Tensor]:
    return [scope.weight(1, (outputs,), "bias")] if param.flag("bias_term", True) else []


def _convolved(scope: Scope, size: Dim, kernel: int, stride: int, pad: int, dilation: int) -> Dim:
    if not isinstance(size, int):
        if stride == 1 and 2 * pad == dilation * (kernel - 1):
            return size
        return scope.unknown()
    found = window_size(size, kernel, stride, pad, dilation)
    if found < 1:
        raise scope.refuse(
            f"its window of {dilation * (kernel - 1) + 1} does not fit into {size}",
            "give a larger input",
        )
    return found


def _deconvolved(scope: Scope, size: Dim, kernel: int, stride: int, pad: int, dilation: int) -> Dim:
    if not isinstance(size, int):
        return scope.unknown()
    found = stride * (size - 1) + dilation * (kernel - 1) + 1 - 2 * pad
    if found < 1:
        raise scope.refuse(f"its pad of {pad} leaves nothing", "mend the .prototxt")
    return found
