"""The gradient of transposed convolutions.

Source: ConvTranspose of ONNX.
"""

from __future__ import annotations

from dataclasses import replace

from onnxsmith.passes.autodiff.backward import Backward, Gradients, NotDifferentiableError
from onnxsmith.passes.autodiff.rules.conv import Window, static_shape_tail, weight_gradient
from onnxsmith.passes.autodiff.writer import static_shape


def conv_transpose(b: Backward) -> Gradients:
    """``dX = Conv(g, W)``, ``dW`` the correlation of ``g`` and ``X``, ``dB = sum g``."""
    w, weight = b.write, b.x(1)
    sizes = static_shape(weight)
    if sizes is None:
        raise NotDifferentiableError("the shape of its weight is not known")
    window, group = _window(b, list(sizes[2:])), b.int("group", 1)
    first = second = None
    if b.needs[0]:
        attributes = dict(window.attributes) | {"group": group}
        first = w.op("Conv", b.grad, weight, attributes=attributes)
    if b.needs[1]:
        second = weight_gradient(w, b.grad, b.x(0), window, group, sizes)
    if b.optional(2) is None:
        return [first, second]
    axes = [0, *range(2, 2 + window.rank)]
    return [first, second, w.reduce("ReduceSum", b.grad, axes, keep=False)]


def _window(b: Backward, kernel: list[int]) -> Window:
    """Return how the kernel moves over the result; automatic padding is worked out."""
    rank = len(kernel)
    window = Window(
        kernel,
        b.ints("strides") or [1] * rank,
        b.ints("dilations") or [1] * rank,
        b.ints("pads") or [0] * (2 * rank),
    )
    auto = b.string("auto_pad", "NOTSET")
    if auto == "VALID" or (auto in ("NOTSET", "") and b.ints("output_shape") is None):
        return window
    sizes, after = static_shape_tail(b.x()), static_shape_tail(b.y)
    if sizes is None or after is None:
        raise NotDifferentiableError(f"its padding ({auto}) depends on sizes unknown yet")
    more = b.ints("output_padding") or [0] * rank
    before, behind = [], []
    for axis in range(rank):
        whole = (sizes[axis] - 1) * window.strides[axis] + more[axis] + window.reach(axis)
        cut = max(whole - after[axis], 0)
        less, rest = cut // 2, cut - cut // 2
        before.append(less if auto == "SAME_UPPER" else rest)
        behind.append(rest if auto == "SAME_UPPER" else less)
    return replace(window, pads=[*before, *behind])
