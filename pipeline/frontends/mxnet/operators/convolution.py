"""Convolutions and their transposes.

Source: MXNet ``src/operator/nn/convolution-inl.h``, ``deconvolution-inl.h``.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from onnxsmith.pipeline.frontends.mxnet.call import Call, Family, Operator, SizesNeededError
from onnxsmith.pipeline.frontends.mxnet.graph import AttributeValue

_CHANNELS_FIRST = ("NCW", "NCHW", "NCDHW")
_MAX_WINDOW = 2**20


def convolution(call: Call) -> ir.Value:
    """``y = conv(x, weight) + bias``; weight (out, in / groups, kernel...)."""
    kernel, attributes = _window(call)
    _check_weight(call, kernel, axis=1, times=int(str(attributes["group"])))
    return call.graph.add("Conv", _with_bias(call, default=False), attributes)


def deconvolution(call: Call) -> ir.Value:
    """The gradient of a convolution: ``y = (in - 1) * stride + kernel - 2 * pad + adj``.

    With ``target_shape`` the pads follow from the sizes (``DeconvolutionParam::InferPad``).
    """
    kernel, attributes = _window(call)
    _check_weight(call, kernel, axis=0, times=1)
    target = call.attrs.integers("target_shape")
    if target and any(target):
        _fit_target(call, kernel, target, attributes)
    else:
        adjust = _spatial(call, "adj", kernel, 0, low=0)
        if any(adjust):
            attributes["output_padding"] = adjust
    return call.graph.add("ConvTranspose", _with_bias(call, default=True), attributes)


def _fit_target(
    call: Call,
    kernel: tuple[int, ...],
    target: tuple[int, ...],
    attributes: dict[str, AttributeValue],
) -> None:
    stride = _spatial(call, "stride", kernel, 1)
    dilate = _spatial(call, "dilate", kernel, 1)
    if len(target) != len(kernel):
        raise call.error(f"target_shape has {len(target)} sizes for {len(kernel)} axes")
    begin, end = [], []
    for axis, wanted in enumerate(target):
        size = call.size(axis + 2)
        total = stride[axis] * (size - 1) + dilate[axis] * (kernel[axis] - 1) + 1 - wanted
        if total < 0:
            raise call.error(f"target_shape {list(target)} is too large for its input")
        begin.append((total + 1) // 2)
        end.append(total // 2)
    attributes["pads"] = [*begin, *end]


def _window(call: Call) -> tuple[tuple[int, ...], dict[str, AttributeValue]]:
    kernel = call.attrs.integers("kernel")
    if not 1 <= len(kernel) <= 3 or not all(1 <= size <= _MAX_WINDOW for size in kernel):
        raise call.error(f"the kernel {list(kernel)} has no size")
    layout = call.attrs.text("layout", _CHANNELS_FIRST[len(kernel) - 1])
    if layout not in _CHANNELS_FIRST:
        raise call.refuse(f"the layout {layout[:20]}")
    if call.rank() != len(kernel) + 2:
        raise SizesNeededError(
            f"{call.node} slides over {len(kernel)} axes, but its input has {call.rank()} in all",
            "check the sizes in --input",
        )
    pad = _spatial(call, "pad", kernel, 0, low=0)
    attributes: dict[str, AttributeValue] = {
        "kernel_shape": list(kernel),
        "strides": _spatial(call, "stride", kernel, 1),
        "dilations": _spatial(call, "dilate", kernel, 1),
        "pads": [*pad, *pad],
        "group": call.attrs.bounded("num_group", 1, 1, 2**20),
    }
    return kernel, attributes


def _spatial(call: Call, name: str, kernel: Sequence[int], default: int, low: int = 1) -> list[int]:
    """Return an attribute with one number for each axis of the kernel."""
    found = call.attrs.integers(name) or (default,) * len(kernel)
    if len(found) != len(kernel) or not all(low <= n <= _MAX_WINDOW for n in found):
        raise call.error(f"{name}={list(found)} does not fit the kernel {list(kernel)}")
    return list(found)


def _check_weight(call: Call, kernel: tuple[int, ...], axis: int, times: int) -> None:
    weight = call.dims(1)
    if len(weight) != len(kernel) + 2:
        raise call.error(f"its weight has {len(weight)} dimensions", "check the file of weights")
    known = [(have, want) for have, want in zip(weight[2:], kernel, strict=True)]
    if any(isinstance(have, int) and have != want for have, want in known):
        raise call.error(
            f"its weight {weight} does not fit the kernel {list(kernel)}",
            "give the .params file that belongs to this graph with --weights",
        )
    have, want = call.dims()[1], weight[axis]
    if isinstance(have, int) and isinstance(want, int) and have != want * times:
        raise SizesNeededError(
            f"{call.node} takes {want * times} channels, but gets {have}",
            "check the sizes in --input",
        )


def _with_bias(call: Call, *, default: bool) -> list[ir.Value]:
    """Return data, weight and, unless ``no_bias``, the bias."""
    count = 2 if call.attrs.flag("no_bias", default) else 3
    return [call[number] for number in range(count)]


_INPUTS = ("data", "weight", "bias")
_CONVOLUTION = Operator(convolution, _INPUTS, frozenset({1, 2}), outputs=("output",))
_DECONVOLUTION = Operator(deconvolution, _INPUTS, frozenset({1, 2}), outputs=("output",))

OPERATORS: Family = {
    "Convolution": _CONVOLUTION,
    "Convolution_v1": _CONVOLUTION,
    "_npx_convolution": _CONVOLUTION,
    "Deconvolution": _DECONVOLUTION,
    "_npx_deconvolution": _DECONVOLUTION,
}
