"""The gradient of the discrete Fourier transform.

Source: DFT of ONNX. Its matrix is symmetric: the gradient goes through the other transform, but for
a factor.
"""

from __future__ import annotations

import onnx_ir as ir

from onnxsmith.passes.autodiff.backward import Backward, Gradients, NotDifferentiableError
from onnxsmith.passes.autodiff.writer import INT64, rank_of
from onnxsmith.passes.match import ints_of


def dft(b: Backward) -> Gradients:
    """``dX = N IDFT(dY)``, and ``DFT(dY) / N`` for the inverse; of real values the real part."""
    w, x, rank = b.write, b.x(), rank_of(b.x())
    inverse, half = b.int("inverse", 0), b.int("onesided", 0)
    if inverse and half:
        raise NotDifferentiableError("it makes real values of half a spectrum")
    parts = None if x.shape is None else x.shape[-1]
    if not isinstance(parts, int):
        raise NotDifferentiableError("whether its values are complex is not known")
    axis = _axis(b, rank)
    given, own = b.optional(1), w.size_of(x, axis)
    length = own if given is None else w.op("Reshape", given, w.ints([1]))
    grad = b.grad
    if half:  # what is left out of a spectrum has no gradient
        missing = w.op("Sub", w.cast(length, INT64), w.size_of(b.y, axis))
        grad = w.pad(grad, rank, w.ints([axis]), w.ints([0]), missing)
    grad.shape = ir.Shape([None] * (rank - 1) + [2])
    made = w.op(
        "DFT", grad, *_places(b, axis), attributes={**_attribute(b, axis), "inverse": 1 - inverse}
    )
    count = w.cast(length, made.dtype)
    made = w.op("Div" if inverse else "Mul", made, count)
    if given is not None:  # the input was cut or filled with zeros
        behind = w.op("Sub", own, w.cast(length, INT64))
        made = w.pad(made, rank, w.ints([axis]), w.ints([0]), behind)
    if parts == 1:
        made = w.op("Slice", made, w.ints([0]), w.ints([1]), w.ints([-1]))
    return [made]


def _axis(b: Backward, rank: int) -> int:
    """Return what is transformed: an attribute before opset 20, an input since."""
    if b.write.version < _AXIS_IS_INPUT:
        return b.int("axis", 1) % rank
    if b.optional(2) is None:
        return rank - 2
    known = ints_of(b.x(2))
    if known is None:
        raise NotDifferentiableError("its axis is computed")
    return known[0] % rank


def _places(b: Backward, axis: int) -> list[ir.Value | None]:
    return [] if b.write.version < _AXIS_IS_INPUT else [None, b.write.integer(axis)]


def _attribute(b: Backward, axis: int) -> dict[str, int]:
    return {"axis": axis} if b.write.version < _AXIS_IS_INPUT else {}


_AXIS_IS_INPUT = 20
