"""Multiply-accumulates of the operators that are made of products.

Each function takes a node with known shapes and returns the count for one execution, after the
equations of the ONNX operator specification and ONNX Runtime's contrib operators.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import onnx_ir as ir

from onnxsmith.inspection.shapes import sizes


class UnknownShapeError(Exception):
    """A shape that the count needs is not known."""


Count = Callable[[ir.Node], int]


def shape(node: ir.Node, index: int) -> tuple[int, ...]:
    """Return the shape of an input.

    Raises:
        UnknownShapeError: It is absent or not fully known.
    """
    found = sizes(node.inputs[index]) if index < len(node.inputs) else None
    if found is None:
        raise UnknownShapeError
    return found


def result(node: ir.Node, index: int = 0) -> tuple[int, ...]:
    """Return the shape of an output.

    Raises:
        UnknownShapeError: It is not fully known.
    """
    found = sizes(node.outputs[index]) if index < len(node.outputs) else None
    if found is None:
        raise UnknownShapeError
    return found


def has_input(node: ir.Node, index: int) -> bool:
    """Return whether the optional input ``index`` is given."""
    return index < len(node.inputs) and node.inputs[index] is not None


def convolution(weight: int) -> Count:
    """Return the count of Conv: each output sums over C/group times the kernel."""
    return lambda node: prod(result(node)) * prod(shape(node, weight)[1:])


def transposed_convolution(node: ir.Node) -> int:
    """Return the count of ConvTranspose: each input spreads over M/group times the kernel."""
    return prod(shape(node, 0)) * prod(shape(node, 1)[1:])


def product(node: ir.Node) -> int:
    """Return the count of matrix products: each output sums over the shared axis of A."""
    a = shape(node, 0)
    inner = -2 if node.attributes.get_int("transA", 0) and len(a) > 1 else -1
    return prod(result(node)) * a[inner]


def recurrent(gates: int) -> Count:
    """Return the count of LSTM, GRU and RNN: per step, gates x hidden x (input + hidden)."""

    def count(node: ir.Node) -> int:
        first, second, width = shape(node, 0)  # sequence and batch, in either layout
        hidden = node.attributes.get_int("hidden_size", 0)
        if not hidden:
            hidden = shape(node, 2)[-1]
        directions = 2 if node.attributes.get_string("direction", "") == "bidirectional" else 1
        return first * second * directions * gates * hidden * (width + hidden)

    return count


def attention(node: ir.Node) -> int:
    """Return the count of Attention: Q K^T and the product of its softmax with V.

    Q, K and V are (batch, heads, length, width) or (batch, length, heads x width).
    """
    q, k, v = (shape(node, index) for index in range(3))
    past = shape(node, 4)[2] if has_input(node, 4) else 0
    if len(q) == 4:
        return prod(q[:3]) * (k[2] + past) * (q[3] + v[3])
    heads = node.attributes.get_int("q_num_heads", 1)
    kv_heads = node.attributes.get_int("kv_num_heads", heads)
    width = q[2] // heads + v[2] // kv_heads
    return q[0] * q[1] * (k[1] + past) * heads * width


def packed_attention(node: ir.Node) -> int:
    """Return the count of com.microsoft Attention and QAttention: projections and attention."""
    batch, length, width = shape(node, 0)
    packed = shape(node, 1)[-1]
    out = result(node)[-1]
    past_index = 4 if node.op_type == "Attention" else 8
    past = shape(node, past_index)[3] if has_input(node, past_index) else 0
    query = (packed - out) // 2  # Q and K have one width, V may have its own
    return batch * length * (width * packed + (length + past) * (query + out))


def multi_head_attention(node: ir.Node) -> int:
    """Return the count of com.microsoft MultiHeadAttention on separate Q, K and V."""
    batch, length, width = shape(node, 0)
    key, value = shape(node, 1), shape(node, 2)
    if len(key) == 4:  # (batch, heads, length, width): cross attention with a cache
        return batch * length * key[2] * (width + value[1] * value[3])
    past = shape(node, 6)[2] if has_input(node, 6) else 0
    return batch * length * (key[1] + past) * (width + value[2])


def grouped_attention(node: ir.Node) -> int:
    """Return the count of com.microsoft GroupQueryAttention on separate Q, K and V."""
    batch, length, width = shape(node, 0)
    total = result(node, 1)[2] if len(node.outputs) > 1 else shape(node, 1)[1]
    return batch * length * total * 2 * width


def einsum(node: ir.Node) -> int:
    """Return the count of Einsum, operands contracted from left to right as the runtime does."""
    equation = (node.attributes.get_string("equation", "") or "").replace(" ", "")
    terms, _, output = equation.partition("->")
    labels = [_labels(term, shape(node, index)) for index, term in enumerate(terms.split(","))]
    extent: dict[str, int] = {}
    for names, index in zip(labels, range(len(labels)), strict=True):
        for name, size in zip(names, shape(node, index), strict=True):
            extent[name] = max(extent.get(name, 1), size)
    kept = set(_output_labels(output, labels) if "->" in equation else _implicit(labels))
    if len(labels) == 1:
        return 0
    total, current = 0, set(labels[0])
    for position, names in enumerate(labels[1:], 2):
        current |= set(names)
        total += prod(extent[name] for name in current)
        needed = kept.union(*labels[position:])
        current &= needed
    return total


def _labels(term: str, dims: tuple[int, ...]) -> list[str]:
    """Return one label an axis; those of an ellipsis are numbered from the right."""
    head, dots, tail = term.partition("...")
    spread = len(dims) - len(head) - len(tail) if dots else 0
    return [*head, *(f".{i}" for i in range(spread, 0, -1)), *tail]


def _output_labels(output: str, labels: list[list[str]]) -> list[str]:
    dots = sorted({name for names in labels for name in names if name.startswith(".")})
    return [*output.replace("...", ""), *(dots if "..." in output else [])]


def _implicit(labels: list[list[str]]) -> list[str]:
    """Return the output of an equation without an arrow: what occurs once, and the ellipsis."""
    names = [name for group in labels for name in group]
    return [name for name in names if names.count(name) == 1 or name.startswith(".")]


def linear(node: ir.Node) -> int:
    """Return the count of ai.onnx.ml linear models: rows times coefficients."""
    coefficients = node.attributes.get_floats("coefficients", ()) or ()
    rows = shape(node, 0)
    return (rows[0] if len(rows) > 1 else 1) * len(coefficients)


MACS: dict[tuple[str, str], Count] = {
    ("", "Attention"): attention,
    ("", "Conv"): convolution(1),
    ("", "ConvInteger"): convolution(1),
    ("", "ConvTranspose"): transposed_convolution,
    ("", "DeformConv"): convolution(1),
    ("", "Einsum"): einsum,
    ("", "GRU"): recurrent(3),
    ("", "Gemm"): product,
    ("", "LSTM"): recurrent(4),
    ("", "MatMul"): product,
    ("", "MatMulInteger"): product,
    ("", "QLinearConv"): convolution(3),
    ("", "QLinearMatMul"): product,
    ("", "RNN"): recurrent(1),
    ("ai.onnx.ml", "LinearClassifier"): linear,
    ("ai.onnx.ml", "LinearRegressor"): linear,
    ("com.microsoft", "Attention"): packed_attention,
    ("com.microsoft", "DynamicQuantizeLSTM"): recurrent(4),
    ("com.microsoft", "DynamicQuantizeMatMul"): product,
    ("com.microsoft", "FusedConv"): convolution(1),
    ("com.microsoft", "FusedGemm"): product,
    ("com.microsoft", "FusedMatMul"): product,
    ("com.microsoft", "GroupQueryAttention"): grouped_attention,
    ("com.microsoft", "MatMulIntegerToFloat"): product,
    ("com.microsoft", "MatMulNBits"): product,
    ("com.microsoft", "MultiHeadAttention"): multi_head_attention,
    ("com.microsoft", "QAttention"): packed_attention,
    ("com.microsoft", "QGemm"): product,
}
"""Operators made of products, by domain and name."""
