"""Gradients of convolutions.

The gradient for the input is a transposed convolution. That for the weight depends on the shapes;
which form is fastest was measured on the runtime's CPU kernels: a product of matrices for kernels
of one element, a convolution with batch and channels swapped for few input channels, and one
product a tap of the kernel else.

Source: Conv and ConvTranspose of ONNX.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import onnx_ir as ir

from onnxsmith.passes.autodiff.backward import Backward, Gradients, NotDifferentiableError
from onnxsmith.passes.autodiff.writer import INT64, Writer, static_shape

_FEW_CHANNELS = 4
_MANY_CHANNELS = 128


@dataclass(frozen=True)
class Window:
    """How a kernel moves over an input.

    Attributes:
        kernel: Its sizes.
        strides: Steps between windows.
        dilations: Steps between taps.
        pads: Zeros before each dimension, then behind each.
    """

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    pads: list[int]

    @property
    def rank(self) -> int:
        """How many dimensions it moves in."""
        return len(self.kernel)

    @property
    def attributes(self) -> dict[str, object]:
        """As attributes of an operator."""
        return {
            "kernel_shape": self.kernel,
            "strides": self.strides,
            "dilations": self.dilations,
            "pads": self.pads,
        }

    def reach(self, axis: int) -> int:
        """Return how many elements the kernel spans in one dimension."""
        return self.dilations[axis] * (self.kernel[axis] - 1) + 1


def conv(b: Backward) -> Gradients:
    """``dX = ConvTranspose(g, W)``, ``dW`` the correlation of ``X`` and ``g``, ``dB = sum g``."""
    weight = b.x(1)
    sizes = static_shape(weight)
    if sizes is None:
        raise NotDifferentiableError("the shape of its weight is not known")
    window = window_of(b, list(sizes[2:]))
    group = b.int("group", 1)
    first = input_gradient(b, weight, window, group) if b.needs[0] else None
    second = None
    if b.needs[1]:
        second = weight_gradient(b.write, b.x(), b.grad, window, group, sizes)
    if b.optional(2) is None:
        return [first, second]
    axes = [0, *range(2, 2 + window.rank)]
    return [first, second, b.write.reduce("ReduceSum", b.grad, axes, keep=False)]


def window_of(b: Backward, kernel: list[int]) -> Window:
    """Return how the node's kernel moves, its automatic padding worked out."""
    rank = len(kernel)
    strides = b.ints("strides") or [1] * rank
    dilations = b.ints("dilations") or [1] * rank
    auto = b.string("auto_pad", "NOTSET")
    if auto in ("NOTSET", ""):
        return Window(kernel, strides, dilations, b.ints("pads") or [0] * (2 * rank))
    if auto == "VALID":
        return Window(kernel, strides, dilations, [0] * (2 * rank))
    before, behind = [], []
    shape = b.x().shape
    for axis in range(rank):
        reach = dilations[axis] * (kernel[axis] - 1) + 1
        size = shape[axis + 2] if shape is not None else None
        if isinstance(size, int):
            steps = -(-size // strides[axis])
            missing = max((steps - 1) * strides[axis] + reach - size, 0)
        elif strides[axis] == 1:
            missing = reach - 1
        else:
            raise NotDifferentiableError(f"its padding ({auto}) depends on sizes unknown yet")
        less, more = missing // 2, missing - missing // 2
        before.append(more if auto == "SAME_LOWER" else less)
        behind.append(less if auto == "SAME_LOWER" else more)
    return Window(kernel, strides, dilations, [*before, *behind])


def input_gradient(b: Backward, weight: ir.Value, window: Window, group: int) -> ir.Value:
    """Return the gradient for the input of a convolution.

    For kernels of many channels that move by single steps it is a convolution with the kernel
    turned around: the runtime's transposed one takes up to twice as long there (512 channels on
    4 x 4: 37 ms against 18 ms, 256 on 8 x 8: 17 against 12; 64 on 32 x 32: the same).
    """
    sizes = static_shape(weight)
    assert sizes is not None  # conv() refused others
    single = all(stride == 1 for stride in window.strides) and group == 1
    fits = all(pad <= window.reach(axis % window.rank) - 1 for axis, pad in enumerate(window.pads))
    if not (single and fits and min(sizes[:2]) >= _MANY_CHANNELS):
        return spread_windows(b, b.grad, weight, window, group)
    w, taps = b.write, math.prod(window.kernel)
    outer, inner = sizes[:2]
    flat = w.op("Reshape", weight, w.ints([outer, inner, taps]))
    # Whole rows of channels are moved at a time.
    turned = w.op("Transpose", flat, attributes={"perm": [1, 2, 0]})
    turned = w.op("Gather", turned, w.ints(list(range(taps))[::-1]), attributes={"axis": 1})
    turned = w.op("Transpose", turned, attributes={"perm": [0, 2, 1]})
    kernel = w.op("Reshape", turned, w.ints([inner, outer, *window.kernel]))
    pads = [window.reach(axis % window.rank) - 1 - pad for axis, pad in enumerate(window.pads)]
    return w.op("Conv", b.grad, kernel, attributes={**window.attributes, "pads": pads})


def spread_windows(
    b: Backward, grad: ir.Value, weight: ir.Value, window: Window, group: int
) -> ir.Value:
    """Return the transposed convolution that ends at the input's sizes.

    Args:
        b: A convolution or pooling.
        grad: Spatially shaped like its output.
        weight: What each window's gradient is multiplied with.
        window: How the window moves; it may reach beyond the padding (``ceil_mode``).
        group: In how many parts the channels are.
    """
    w, x = b.write, b.x()
    sizes, after = static_shape_tail(x), static_shape_tail(b.y)
    attributes = dict(window.attributes) | {"group": group}
    if sizes is not None and after is not None:
        spans = [(n - 1) * s for n, s in zip(after, window.strides, strict=True)]
        missing = [
            size - (span + window.reach(i) - window.pads[i] - window.pads[i + window.rank])
            for i, (size, span) in enumerate(zip(sizes, spans, strict=True))
        ]
        before, behind = window.pads[: window.rank], window.pads[window.rank :]
        beyond = [pad - min(less, 0) for pad, less in zip(behind, missing, strict=True)]
        attributes["pads"] = [*before, *beyond]
        attributes["output_padding"] = [max(more, 0) for more in missing]
        return w.op("ConvTranspose", grad, weight, attributes=attributes)
    attributes["pads"] = [0] * (2 * window.rank)
    full = w.op("ConvTranspose", grad, weight, attributes=attributes)
    # A stride may have left elements behind the last window: room for them, then the cut.
    places = list(range(2, 2 + window.rank))
    room = [s - 1 for s in window.strides]
    full = w.pad(full, 2 + window.rank, places, [0] * window.rank, room)
    start = w.ints(window.pads[: window.rank])
    tail = w.op("Shape", x, attributes={"start": 2}, dtype=INT64)
    return w.op("Slice", full, start, w.op("Add", tail, start), w.ints(places))


def static_shape_tail(value: ir.Value) -> list[int] | None:
    """Return the sizes behind batch and channels where all are known."""
    if value.shape is None or not all(isinstance(size, int) for size in list(value.shape)[2:]):
        return None
    return [int(size) for size in list(value.shape)[2:]]  # type: ignore[arg-type]


def weight_gradient(
    w: Writer,
    big: ir.Value,
    small: ir.Value,
    window: Window,
    group: int,
    sizes: tuple[int, ...],
) -> ir.Value:
    """Return the correlation of what a kernel moves over with what stands at its places.

    Args:
        w: Writes it.
        big: The input of a convolution, or the gradient of a transposed one.
        small: The gradient of a convolution, or the input of a transposed one.
        window: How the kernel moves.
        group: In how many parts the channels are.
        sizes: The kernel's, channels of ``small`` first.
    """
    out, channels = sizes[0], sizes[1] * group
    plain = not any(window.pads) and all(size == 1 for size in window.kernel)
    if plain and group == 1:
        return _by_product(w, big, small, window, sizes)
    if channels <= _FEW_CHANNELS and group == 1:
        return _by_swapping(w, big, small, window)
    if group == channels == out:
        return _depthwise(w, big, small, window, sizes)
    return _by_taps(w, big, small, window, group, sizes)


def _by_product(
    w: Writer, big: ir.Value, small: ir.Value, window: Window, sizes: tuple[int, ...]
) -> ir.Value:
    """Multiply the matrices of channels by places, and sum over the batch."""
    if any(step > 1 for step in window.strides):
        big = next(iter(taps(w, big, small, window)))
    rows = w.op("Reshape", big, w.ints([0, 0, -1]))
    grads = w.op("Reshape", small, w.ints([0, 0, -1]))
    product = w.op("MatMul", grads, w.op("Transpose", rows, attributes={"perm": [0, 2, 1]}))
    summed = w.reduce("ReduceSum", product, [0], keep=False)
    return w.op("Reshape", summed, w.ints(sizes))


def _by_swapping(w: Writer, big: ir.Value, small: ir.Value, window: Window) -> ir.Value:
    """Convolve one with the other as its kernel: strides and dilations change places."""
    swap = [1, 0, *range(2, 2 + window.rank)]
    x = w.op("Transpose", big, attributes={"perm": swap})
    kernel = w.op("Transpose", small, attributes={"perm": swap})
    attributes = {
        "strides": window.dilations,
        "dilations": window.strides,
        "pads": window.pads,
    }
    big = w.op("Conv", x, kernel, attributes=attributes)
    axes = list(range(2, 2 + window.rank))
    cut = w.op("Slice", big, w.ints([0] * window.rank), w.ints(window.kernel), w.ints(axes))
    return w.op("Transpose", cut, attributes={"perm": swap})


def _depthwise(
    w: Writer, big: ir.Value, small: ir.Value, window: Window, sizes: tuple[int, ...]
) -> ir.Value:
    """Sum the products of both for each tap."""
    axes = [0, *range(2, 2 + window.rank)]
    x = padded(w, big, window)
    sums = [
        w.reduce("ReduceSum", w.op("Mul", tap, small), axes, keep=False)
        for tap in taps(w, x, small, window)
    ]
    return _stacked(w, sums, [0], [1, 0], sizes)


def _by_taps(
    w: Writer,
    big: ir.Value,
    small: ir.Value,
    window: Window,
    group: int,
    sizes: tuple[int, ...],
) -> ir.Value:
    """Multiply, for each tap, all rows of both, channels last."""
    rank = window.rank
    last = [0, *range(2, 2 + rank), 1]
    x = w.op("Transpose", padded(w, big, window), attributes={"perm": last})
    per_out, per_in = sizes[0] // group, sizes[1]
    turned = w.op("Transpose", small, attributes={"perm": [1, 0, *range(2, 2 + rank)]})
    if group == 1:
        grads = w.op("Reshape", turned, w.ints([sizes[0], -1]))
        products = [
            w.op("MatMul", grads, w.op("Reshape", tap, w.ints([-1, per_in])))
            for tap in taps(w, x, small, window, first=1)
        ]
        return _stacked(w, products, [0], [1, 2, 0], sizes)
    grads = w.op("Reshape", turned, w.ints([group, per_out, -1]))
    products = []
    for tap in taps(w, x, small, window, first=1):
        rows = w.op("Reshape", tap, w.ints([-1, group, per_in]))
        rows = w.op("Transpose", rows, attributes={"perm": [1, 0, 2]})
        products.append(w.op("MatMul", grads, rows))
    return _stacked(w, products, [0], [1, 2, 3, 0], sizes)


def padded(w: Writer, x: ir.Value, window: Window) -> ir.Value:
    """Return the input with its zeros around it."""
    rank = window.rank
    axes = list(range(2, 2 + rank))
    return w.pad(x, 2 + rank, axes, window.pads[:rank], window.pads[rank:])


def taps(w: Writer, x: ir.Value, small: ir.Value, window: Window, first: int = 2) -> list[ir.Value]:
    """Return, for each tap of the kernel, the padded input's elements that it meets.

    Args:
        w: Writes them.
        x: The padded input.
        small: Has an element for each place of the kernel.
        window: How the kernel moves.
        first: The first spatial axis of ``x``.
    """
    axes = w.ints(list(range(first, first + window.rank)))
    steps = w.ints(window.strides)
    after = static_shape_tail(small)
    spans: list[int] | None = None
    span: ir.Value | None = None
    if after is not None:
        spans = [(n - 1) * s + 1 for n, s in zip(after, window.strides, strict=True)]
    else:
        counts = w.op("Shape", small, attributes={"start": 2}, dtype=INT64)
        one = w.ints([1] * window.rank)
        span = w.op("Add", w.op("Mul", w.op("Sub", counts, one), steps), one)
    result = []
    for place in itertools.product(*(range(size) for size in window.kernel)):
        start = [p * d for p, d in zip(place, window.dilations, strict=True)]
        if spans is not None:
            end = w.ints([s + n for s, n in zip(start, spans, strict=True)])
        else:
            end = w.op("Add", span, w.ints(start))
        result.append(w.op("Slice", x, w.ints(start), end, axes, steps))
    return result


def _stacked(
    w: Writer, parts: list[ir.Value], axes: list[int], order: list[int], sizes: tuple[int, ...]
) -> ir.Value:
    """Put what was computed for each tap together, taps last, in the weight's shape."""
    if len(parts) == 1:
        return w.op("Reshape", parts[0], w.ints(sizes))
    lifted = [w.op("Unsqueeze", part, w.ints(axes)) for part in parts]
    whole = w.op("Concat", *lifted, attributes={"axis": 0})
    return w.op("Reshape", w.op("Transpose", whole, attributes={"perm": order}), w.ints(sizes))
