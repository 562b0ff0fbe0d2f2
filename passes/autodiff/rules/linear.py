"""Gradients of matrix products.

Source: the operators' definitions in ONNX; ``d(A B) = dA B + A dB``.
"""

from __future__ import annotations

import onnx_ir as ir

from onnxsmith.passes.autodiff.backward import Backward, Gradients
from onnxsmith.passes.autodiff.writer import Writer, rank_of


def matmul(b: Backward) -> Gradients:
    """``dA = g B'`` and ``dB = A' g``, summed over broadcast batch dimensions.

    A weight behind a batch of matrices is one product of all rows.
    """
    a, c = b.x(0), b.x(1)
    if rank_of(a) < 2 or rank_of(c) < 2:
        return _with_vectors(b, a, c)
    first = second = None
    if b.needs[0]:
        first = _to_operand(b, b.write.op("MatMul", b.grad, _turned(b.write, c)), a)
    if b.needs[1]:
        if rank_of(c) == 2 and rank_of(a) > 2:
            second = _weight(b, a)
        else:
            second = _to_operand(b, b.write.op("MatMul", _turned(b.write, a), b.grad), c)
    return [first, second]


def gemm(b: Backward) -> Gradients:
    """``Y = alpha A B + beta C``: each gradient is one Gemm."""
    w, a, c = b.write, b.x(0), b.x(1)
    alpha = b.float("alpha", 1.0)
    left, right = b.int("transA", 0), b.int("transB", 0)

    def product(x: ir.Value, y: ir.Value, turn_x: int, turn_y: int) -> ir.Value:
        return w.op("Gemm", x, y, attributes={"alpha": alpha, "transA": turn_x, "transB": turn_y})

    first = product(c, b.grad, right, 1) if left else product(b.grad, c, 0, 1 - right)
    second = product(b.grad, a, 1, left) if right else product(a, b.grad, 1 - left, 0)
    bias = b.optional(2)
    if bias is None:
        return [first, second]
    third = w.sum_to(b.grad, bias, b.y)
    beta = b.float("beta", 1.0)
    return [first, second, third if beta == 1 else w.op("Mul", third, w.number(beta, third))]


def _weight(b: Backward, a: ir.Value) -> ir.Value:
    """Flatten the batch: the product of all rows of the input and of the gradient."""
    w = b.write
    flat = {"axis": rank_of(a) - 1}
    rows = w.op("Flatten", a, attributes=flat)
    grads = w.op("Flatten", b.grad, attributes=flat)
    return w.op("Gemm", rows, grads, attributes={"transA": 1})


def _to_operand(b: Backward, gradient: ir.Value, operand: ir.Value) -> ir.Value:
    """Sum over the batch dimensions that the operand was broadcast along."""
    if operand.shape is not None and b.y.shape is not None:
        lead = list(operand.shape)[:-2]
        if len(operand.shape) == len(b.y.shape) and all(
            mine == other for mine, other in zip(lead, list(b.y.shape)[:-2], strict=True)
        ):
            return gradient
        gradient.shape = ir.Shape([*list(b.y.shape)[:-2], *list(operand.shape)[-2:]])
    return b.write.sum_to(gradient, operand, gradient)


def _turned(w: Writer, value: ir.Value) -> ir.Value:
    """Return the matrices transposed."""
    order = list(range(rank_of(value)))
    order[-2:] = [order[-1], order[-2]]
    return w.op("Transpose", value, attributes={"perm": order})


def _with_vectors(b: Backward, a: ir.Value, c: ir.Value) -> Gradients:
    """Treat a vector as a matrix of one row or one column."""
    w = b.write
    grad, row, column = b.grad, a, c
    if rank_of(c) == 1:
        column, grad = w.op("Unsqueeze", c, w.ints([1])), w.op("Unsqueeze", grad, w.ints([-1]))
    if rank_of(a) == 1:
        row, grad = w.op("Unsqueeze", a, w.ints([0])), w.op("Unsqueeze", grad, w.ints([-2]))
    row.shape = row.shape or ir.Shape([1, *(a.shape or [])])
    column.shape = column.shape or ir.Shape([*(c.shape or []), 1])
    first = w.op("MatMul", grad, _turned(w, column))
    second = w.op("MatMul", _turned(w, row), grad)
    return [_matrix_to(w, first, a), _matrix_to(w, second, c)]


def _matrix_to(w: Writer, gradient: ir.Value, operand: ir.Value) -> ir.Value:
    """Sum a stack of matrices of unknown height to a vector, or to an operand's shape."""
    if rank_of(operand) > 1:
        return w.sum_to_at_run_time(gradient, operand)
    size = w.size_of(operand, 0)
    flat = w.op("Reshape", gradient, w.op("Concat", w.ints([-1]), size, attributes={"axis": 0}))
    return w.reduce("ReduceSum", flat, [0], keep=False)
