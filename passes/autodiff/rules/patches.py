"""The gradient of Col2Im, which adds up blocks where they overlap.

Source: Col2Im of ONNX.
"""

from __future__ import annotations

import numpy as np

from onnxsmith.passes.autodiff.backward import Backward, Gradients, NotDifferentiableError
from onnxsmith.passes.autodiff.writer import INT64
from onnxsmith.passes.match import ints_of


def col2im(b: Backward) -> Gradients:
    """Take the blocks out of the gradient again: a convolution whose kernels pick one element."""
    w, block = b.write, ints_of(b.x(2))
    if block is None:
        raise NotDifferentiableError("the sizes of its blocks are computed")
    count = int(np.prod(block))
    assert b.grad.dtype is not None  # gradients have types
    kernels = w.constant(np.eye(count, dtype=b.grad.dtype.numpy()).reshape(count, 1, *block))
    spatial = {"start": 2, "end": 2 + len(block)}
    sizes = w.op("Shape", b.grad, attributes=spatial, dtype=INT64)
    alone = w.op("Concat", w.ints([-1, 1]), sizes, attributes={"axis": 0}, dtype=INT64)
    attributes = {
        name: values
        for name in ("dilations", "pads", "strides")
        if (values := b.ints(name)) is not None
    }
    blocks = w.op("Conv", w.op("Reshape", b.grad, alone), kernels, attributes=attributes)
    return [w.reshape_like(blocks, b.x())]
