"""How long the gradient of each example is, for the parameters of one node.

None of the rules writes out an example's gradient where its length can be had for less: for a
product of matrices ``||X_i' G_i||^2 = sum(X_i X_i' * G_i G_i')``, which needs no matrix of the
weight's size for each example.

Source: Goodfellow, "Efficient Per-Example Gradient Computations" (2015), and Li et al., "Large
Language Models Can Be Strong Differentially Private Learners" (2022), for sequences.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx_ir as ir

from onnxsmith.passes.autodiff.backward import Backward, NotDifferentiableError
from onnxsmith.passes.autodiff.rules.conv import padded, taps, window_of
from onnxsmith.passes.autodiff.writer import BOOL, Writer, rank_of, static_shape

Norm = Callable[[Backward, int], ir.Value]
"""Returns the squared length, one number an example, of the gradient for an input of a node."""


def matmul(b: Backward, index: int) -> ir.Value:
    """``Y = X W``."""
    if index != 1 or rank_of(b.x(1)) != 2 or rank_of(b.x(0)) < 2:
        raise NotDifferentiableError("its parameter is not a matrix on the right")
    return _product(b.write, b.x(0), b.grad, b.x(1))


def gemm(b: Backward, index: int) -> ir.Value:
    """``Y = alpha X W + beta B``, the examples in the rows of ``X``."""
    w = b.write
    if index == 2:
        factor, squared = b.float("beta", 1.0), _summed(b, b.x(2))
    elif index == 1 and not b.int("transA", 0):
        factor, squared = b.float("alpha", 1.0), _product(w, b.x(0), b.grad, b.x(1))
    else:
        raise NotDifferentiableError("its parameter is not a matrix on the right")
    return squared if factor == 1 else w.op("Mul", squared, w.number(factor**2, squared))


def addition(b: Backward, index: int) -> ir.Value:
    """``Y = X + B`` or ``X - B``, ``B`` the same for every example."""
    return _summed(b, b.x(index))


def product(b: Backward, index: int) -> ir.Value:
    """``Y = X * S``, ``S`` the same for every example."""
    return _summed(b, b.x(index), factor=b.x(1 - index))


def conv(b: Backward, index: int) -> ir.Value:
    """A convolution: for each tap of the kernel one product of matrices an example."""
    w, grad = b.write, b.grad
    if index == 2:
        places = w.op("Reshape", grad, w.ints([0, 0, -1]))
        return _squares(w, w.reduce("ReduceSum", places, [2], keep=False), 2)
    sizes = static_shape(b.x(1))
    if sizes is None:
        raise NotDifferentiableError("the shape of its weight is not known")
    window, group = window_of(b, list(sizes[2:])), b.int("group", 1)
    rows = w.op("Reshape", grad, w.ints([0, group, sizes[0] // group, -1]))
    total: ir.Value | None = None
    for tap in taps(w, padded(w, b.x(), window), grad, window):
        columns = w.op("Reshape", tap, w.ints([0, group, sizes[1], -1]))
        turned = w.op("Transpose", columns, attributes={"perm": [0, 1, 3, 2]})
        squared = _squares(w, w.op("MatMul", rows, turned), 4)
        total = squared if total is None else w.op("Add", total, squared)
    assert total is not None  # a kernel has a tap at least
    return total


def gather(b: Backward, index: int) -> ir.Value:
    """Rows of a table: those that one example picks several times add up."""
    w = b.write
    if index != 0 or b.axis(0) != 0:
        raise NotDifferentiableError("it does not pick rows of a table")
    table, places = rank_of(b.x()), rank_of(b.x(1))
    if places < 1:
        raise NotDifferentiableError("it picks one row for all examples")
    picked = w.op("Reshape", b.x(1), w.ints([0, -1]))
    first, second = (w.op("Unsqueeze", picked, w.ints([axis])) for axis in (2, 1))
    grad = b.grad
    shape = static_shape(b.x())
    if shape is None:
        raise NotDifferentiableError("the shape of its table is not known")
    width = 1
    for size in shape[1:table]:
        width *= size
    rows = w.op("Reshape", grad, w.ints([0, -1, width]))
    products = w.op("MatMul", rows, _turned(w, rows))
    same = w.cast(w.op("Equal", first, second, dtype=BOOL), grad.dtype)
    return w.reduce("ReduceSum", w.op("Mul", products, same), [1, 2], keep=False)


NORMS: Mapping[str, Norm] = {
    "Add": addition,
    "Conv": conv,
    "Gather": gather,
    "Gemm": gemm,
    "MatMul": matmul,
    "Mul": product,
    "Sub": addition,
}
"""Standard operator to its rule."""


def _product(w: Writer, x: ir.Value, grad: ir.Value, weight: ir.Value) -> ir.Value:
    if rank_of(x) == 2:
        return w.op("Mul", _squares(w, x, 2), _squares(w, grad, 2))
    shape = static_shape(weight)
    if shape is None:
        raise NotDifferentiableError("the shape of its parameter is not known")
    rows = w.op("Reshape", x, w.ints([0, -1, shape[0]]))
    grads = w.op("Reshape", grad, w.ints([0, -1, shape[1]]))
    length = _rows_an_example(x)
    if length is not None and length**2 > shape[0] * shape[1]:
        return _squares(w, w.op("MatMul", _turned(w, rows), grads), 3)
    both = [w.op("MatMul", side, _turned(w, side)) for side in (rows, grads)]
    return w.reduce("ReduceSum", w.op("Mul", *both), [1, 2], keep=False)


def _rows_an_example(x: ir.Value) -> int | None:
    """Return how many rows of the matrix product belong to one example, where it is known."""
    count = 1
    for size in list(x.shape or [None])[1:-1]:
        if not isinstance(size, int):
            return None
        count *= size
    return count


def _summed(b: Backward, parameter: ir.Value, factor: ir.Value | None = None) -> ir.Value:
    """Square what is left of the gradient when it is summed to the parameter, example by example.

    The parameter is broadcast to every example: it has no axis for them, or one of size one.
    """
    w = b.write
    grad = b.grad if factor is None else w.op("Mul", b.grad, factor)
    rank, shape = rank_of(b.y), static_shape(parameter)
    if shape is None:
        raise NotDifferentiableError("the shape of its parameter is not known")
    lead = rank - len(shape)
    if lead == 0 and shape[0] != 1:
        raise NotDifferentiableError("its parameter has a value for each place in the batch")
    after = list(b.y.shape or [])
    axes = [
        axis
        for axis in range(1, rank)
        if axis < lead or (shape[axis - lead] == 1 and after[axis] != 1)
    ]
    return _squares(w, w.reduce("ReduceSum", grad, axes), rank)


def _squares(w: Writer, value: ir.Value, rank: int) -> ir.Value:
    """Return the sum of squares of each example."""
    return w.reduce("ReduceSumSquare", value, list(range(1, rank)), keep=False)


def _turned(w: Writer, value: ir.Value) -> ir.Value:
    """Return a stack of matrices, each transposed."""
    return w.op("Transpose", value, attributes={"perm": [0, 2, 1]})
