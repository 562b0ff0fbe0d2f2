"""The gradient of local response normalization.

Source: LRN of ONNX; Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural
Networks" (2012), section 3.3.
"""

from __future__ import annotations

import onnx_ir as ir

from onnxsmith.passes.autodiff.backward import Backward, Gradients


def local_response(b: Backward) -> Gradients:
    """``dx = g s^-beta - (2 alpha beta / n) x sum(g y / s)``, ``s = bias + (alpha/n) sum(x^2)``.

    The first sum goes over the ``n`` channels around one, the second over the channels that it is
    around.
    """
    w, x, size = b.write, b.x(), b.int("size", 1)
    alpha, beta = b.float("alpha", 1e-4), b.float("beta", 0.75)
    before, behind = (size - 1) // 2, size // 2
    near = _window_mean(b, w.op("Mul", x, x), size, before, behind)
    base = w.op("Add", w.op("Mul", near, w.number(alpha, x)), w.number(b.float("bias", 1.0), x))
    direct = w.op("Mul", b.grad, w.op("Pow", base, w.number(-beta, x)))
    around = _window_mean(b, w.op("Div", w.op("Mul", b.grad, b.y), base), size, behind, before)
    indirect = w.op("Mul", w.op("Mul", x, w.number(2 * alpha * beta, x)), around)
    return [w.op("Sub", direct, indirect)]


def _window_mean(b: Backward, value: ir.Value, size: int, before: int, behind: int) -> ir.Value:
    """Return the sum over neighbouring channels, divided by how many these are at most."""
    w = b.write
    # An image for each sample: channels as its rows, places as its columns.
    sizes = [w.size_of(b.x(), 0), w.ints([1]), w.size_of(b.x(), 1), w.ints([-1])]
    rows = w.op("Reshape", value, w.op("Concat", *sizes, attributes={"axis": 0}))
    attributes = {
        "kernel_shape": [size, 1],
        "pads": [before, 0, behind, 0],
        "count_include_pad": 1,
    }
    return w.reshape_like(w.op("AveragePool", rows, attributes=attributes), b.x())
