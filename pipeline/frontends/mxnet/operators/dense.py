"""Products of matrices.

Source: MXNet ``src/operator/nn/fully_connected-inl.h``, ``tensor/dot-inl.h``, ``tensor/la_op.h``.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxsmith.pipeline.frontends.mxnet.call import Call, Family, Operator, SizesNeededError
from onnxsmith.pipeline.frontends.mxnet.graph import dims_of
from onnxsmith.pipeline.frontends.mxnet.weights import reshaped, transposed


def fully_connected(call: Call) -> ir.Value:
    """``y = x weight^T + bias``; with ``flatten`` x is made (batch, features) first."""
    data = call[0]
    rank = call.rank()
    if data in call.graph.zeros and data in call.graph.loose and rank == 2:
        return _of_zeros(call)
    flatten = call.attrs.flag("flatten", True)
    bias = None if call.attrs.flag("no_bias", False) else call[2]
    if flatten and rank != 2:
        _check_features(call, _product(call.dims()[1:]))
        data = call.graph.add("Flatten", [data], {"axis": 1})
    elif rank >= 1:
        _check_features(call, call.dims()[-1])
    if flatten or rank == 2:
        result = call.graph.add("Gemm", [data, call[1], bias], {"transB": 1})
    else:
        result = call.graph.add("MatMul", [data, transposed(call, 1)])
        result = result if bias is None else call.graph.add("Add", [result, bias])
    if call[0] in call.graph.loose:
        call.graph.loose.add(result)
    return result


def _of_zeros(call: Call) -> ir.Value:
    """Return what an initial state of zeros gives: the bias, as one row."""
    weight = call.dims(1)
    if not weight or not isinstance(weight[0], int):
        raise call.error("the size of its weight is unknown")
    if call.attrs.flag("no_bias", False):
        like = call[1]
        dtype = (like.dtype or ir.DataType.FLOAT).numpy()
        result = call.graph.constant(np.zeros((1, weight[0]), dtype), "zeros")
        call.graph.zeros.add(result)
    else:
        result = reshaped(call, 2, (1, weight[0]), "row")
    call.graph.loose.add(result)
    return result


def dot(call: Call) -> ir.Value:
    """The last axis of a (the first if ``transpose_a``) times the first of b (the last)."""
    graph = call.graph
    left, right = call[0], call[1]
    if call.attrs.flag("transpose_a", False):
        left = graph.transpose(left, [*range(1, call.rank()), 0])
    if call.attrs.flag("transpose_b", False):
        rank = call.rank(1)
        right = graph.transpose(right, [rank - 1, *range(rank - 1)])
    if call.rank(1) <= 2:
        product = graph.add("MatMul", [left, right])
        # MXNet has no scalars.
        return graph.reshape(product, [1]) if not dims_of(product) else product
    flat = graph.reshape_to(right, [(right, 0), -1])
    product = graph.add("MatMul", [left, flat])
    shape = [(left, axis) for axis in range(call.rank() - 1)]
    return graph.reshape_to(product, [*shape, *((right, at) for at in range(1, call.rank(1)))])


def batch_dot(call: Call) -> ir.Value:
    """``a b`` for each sample, each transposed if asked."""
    return call.graph.add("MatMul", _pair(call))


def linalg_gemm2(call: Call) -> ir.Value:
    """``alpha op(a) op(b)`` over the last two axes."""
    _check_last_axis(call)
    product = call.graph.add("MatMul", _pair(call))
    return _scaled(call, product, "alpha")


def linalg_gemm(call: Call) -> ir.Value:
    """``alpha op(a) op(b) + beta c`` over the last two axes."""
    product = linalg_gemm2(call)
    return call.graph.add("Add", [product, _scaled(call, call[2], "beta")])


def linalg_syrk(call: Call) -> ir.Value:
    """``alpha a a^T``, or ``alpha a^T a`` with ``transpose``."""
    flipped = _flip(call, call[0])
    both = [flipped, call[0]] if call.attrs.flag("transpose", False) else [call[0], flipped]
    return _scaled(call, call.graph.add("MatMul", both), "alpha")


def _pair(call: Call) -> list[ir.Value]:
    names = ("transpose_a", "transpose_b")
    return [
        _flip(call, call[n]) if call.attrs.flag(name, False) else call[n]
        for n, name in enumerate(names)
    ]


def _flip(call: Call, value: ir.Value) -> ir.Value:
    rank = len(dims_of(value))
    if rank < 2:
        raise call.error("its input is no matrix")
    return call.graph.transpose(value, [*range(rank - 2), rank - 1, rank - 2])


def _scaled(call: Call, value: ir.Value, name: str) -> ir.Value:
    factor = call.attrs.number(name, 1.0)
    if factor == 1.0:
        return value
    return call.graph.add("Mul", [value, call.graph.scalar(factor, value, name)])


def _check_last_axis(call: Call) -> None:
    if call.attrs.integer("axis", -2) not in (-2, call.rank() - 2):
        raise call.refuse("another axis than the last two")


def _product(dims: list[int | str | None]) -> int | None:
    known = [dim for dim in dims if isinstance(dim, int)]
    return int(np.prod(known)) if len(known) == len(dims) else None


def _check_features(call: Call, found: int | str | None) -> None:
    weight = call.dims(1)
    if len(weight) != 2:
        raise call.error(f"its weight {weight} is no matrix", "check the file of weights")
    wanted = weight[1]
    if not isinstance(wanted, int) or found == wanted:
        return
    if isinstance(found, int):
        raise SizesNeededError(
            f"{call.node} takes {wanted} features, but gets {found}",
            "check the sizes in --input",
            found,
            wanted,
        )
    if call.graph.guessed:
        raise call.sizes_needed(f"{wanted} features")


_WEIGHTS = ("data", "weight", "bias")
_FULLY_CONNECTED = Operator(fully_connected, _WEIGHTS, frozenset({1, 2}), outputs=("output",))
_GEMM2 = Operator(linalg_gemm2)
_GEMM = Operator(linalg_gemm)

OPERATORS: Family = {
    "FullyConnected": _FULLY_CONNECTED,
    "_npx_fully_connected": _FULLY_CONNECTED,
    "_sparse_FullyConnected": _FULLY_CONNECTED,
    "dot": Operator(dot),
    "_sparse_dot": Operator(dot),
    "batch_dot": Operator(batch_dot),
    "_npx_batch_dot": Operator(batch_dot),
    "_linalg_gemm": _GEMM,
    "linalg_gemm": _GEMM,
    "_linalg_gemm2": _GEMM2,
    "linalg_gemm2": _GEMM2,
    "_linalg_syrk": Operator(linalg_syrk),
    "linalg_syrk": Operator(linalg_syrk),
}
