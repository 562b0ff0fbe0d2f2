"""The gradient of AffineGrid.

Source: AffineGrid of ONNX; Jaderberg et al., "Spatial Transformer Networks" (2015), equation 1.
"""

from __future__ import annotations

import numpy as np

from onnxsmith.passes.autodiff.backward import Backward, Gradients
from onnxsmith.passes.autodiff.writer import INT64, rank_of


def affine_grid(b: Backward) -> Gradients:
    """``dA = g' [p 1]``: the grid is ``[p 1] A'`` at places ``p``, the grid of the identity."""
    w, theta = b.write, b.x()
    dimensions = rank_of(b.y) - 2
    assert theta.dtype is not None  # differentiated values have types
    identity = w.constant(np.eye(dimensions, dimensions + 1, dtype=theta.dtype.numpy())[None])
    sizes = w.op("Slice", b.x(1), w.ints([1]), w.ints([dimensions + 2]), w.ints([0]), dtype=INT64)
    alone = w.op("Concat", w.ints([1]), sizes, attributes={"axis": 0}, dtype=INT64)
    attributes = {"align_corners": b.int("align_corners", 0)}
    places = w.op("AffineGrid", identity, alone, attributes=attributes)
    rows = w.op("Reshape", places, w.ints([-1, dimensions]))
    count = w.op("Shape", rows, attributes={"start": 0, "end": 1}, dtype=INT64)
    column = w.op("Concat", count, w.ints([1]), attributes={"axis": 0}, dtype=INT64)
    rows = w.op("Concat", rows, w.fill(column, theta, 1), attributes={"axis": 1})
    grad = w.op("Reshape", b.grad, w.ints([0, -1, dimensions]))
    turned = w.op("Transpose", grad, attributes={"perm": [0, 2, 1]})
    return [w.op("MatMul", turned, rows), None]
