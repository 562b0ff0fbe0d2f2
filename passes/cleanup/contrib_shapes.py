"""Shapes behind the runtime's own operators, which onnx's inference does not know."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from onnxsmith.passes.match import STANDARD, input_of, int_attribute, ints_attribute

_DOMAIN = "com.microsoft"
# Standard operators that onnx does not infer either; the runtime has the others among them, and
# LayerNormalization long before onnx had it.
_ORPHANS = frozenset({"GroupNormalization", "LayerNormalization", "SimplifiedLayerNormalization"})
_Dims = list[int | ir.SymbolicDim]


def infer_contrib(model: ir.Model) -> int:
    """Set types and shapes of results of the runtime's operators; return how many were unknown."""
    count = 0
    for graph in model.graphs():
        for node in graph:
            rule = _RULES.get(node.op_type) if _is_contributed(node) else None
            source = input_of(node, 0)
            if rule is None or source is None or not node.outputs:
                continue
            dims = rule(node)
            for place in _SAME_AS_FIRST.get(node.op_type, (0,)):
                if place < len(node.outputs):
                    count += _set(node.outputs[place], _typed_like(node, source), dims)
    return count


def _is_contributed(node: ir.Node) -> bool:
    return node.domain == _DOMAIN or (node.domain in STANDARD and node.op_type in _ORPHANS)


def _typed_like(node: ir.Node, source: ir.Value) -> ir.Value | None:
    """Return the value of whose element type the result is."""
    return input_of(node, 2) if node.op_type == "EmbedLayerNormalization" else source


def _set(value: ir.Value, like: ir.Value | None, dims: _Dims | None) -> bool:
    changed = False
    if value.type is None and like is not None and like.type is not None:
        value.type = like.type
        changed = True
    if value.shape is None and dims is not None:
        value.shape = ir.Shape(dims)
        changed = True
    return changed


def _dims(node: ir.Node, place: int, rank: int | None = None) -> _Dims | None:
    value = input_of(node, place)
    if value is None or value.shape is None or rank not in (None, len(value.shape)):
        return None
    return list(value.shape)


def _same(node: ir.Node) -> _Dims | None:
    return _dims(node, 0)


def _attention(node: ir.Node) -> _Dims | None:
    """(batch, length, width) and weights (width, queries + keys + values)."""
    source, weights = _dims(node, 0, 3), _dims(node, 1, 2)
    sizes = ints_attribute(node, "qkv_hidden_sizes")
    if source is None or weights is None:
        return None
    whole = weights[1]
    if sizes is not None and len(sizes) == 3:
        return [*source[:2], sizes[2]]
    return [*source[:2], whole // 3] if isinstance(whole, int) else None


def _multi_head_attention(node: ir.Node) -> _Dims | None:
    """Queries (batch, length, width); values of rank 3, or with heads before lengths."""
    query, value = _dims(node, 0, 3), _dims(node, 2)
    if query is None or value is None:
        return None
    if len(value) == 3:
        return [*query[:2], value[2]]
    heads, size = (value[1], value[3]) if len(value) == 4 else (None, None)
    if isinstance(heads, int) and isinstance(size, int):
        return [*query[:2], heads * size]
    return None


def _group_query_attention(node: ir.Node) -> _Dims | None:
    """As the queries, unless keys and values are packed with them."""
    return None if input_of(node, 1) is None else _dims(node, 0, 3)


def _embedding(node: ir.Node) -> _Dims | None:
    """Numbers (batch, length) and a table (words, width)."""
    numbers, table = _dims(node, 0, 2), _dims(node, 2, 2)
    return None if numbers is None or table is None else [*numbers, table[1]]


def _fused_matmul(node: ir.Node) -> _Dims | None:
    left, right = _dims(node, 0), _dims(node, 1)
    if left is None or right is None or len(left) < 2 or len(right) < 2:
        return None
    if any(int_attribute(node, f"transBatch{side}", 0) != 0 for side in "AB"):
        return None
    rows = left[-1 if int_attribute(node, "transA", 0) else -2]
    columns = right[-2 if int_attribute(node, "transB", 0) else -1]
    if len(right) == 2 or left[:-2] == right[:-2]:
        return [*left[:-2], rows, columns]
    return None


def _fused_gemm(node: ir.Node) -> _Dims | None:
    left, right = _dims(node, 0, 2), _dims(node, 1, 2)
    if left is None or right is None:
        return None
    rows = left[1 if int_attribute(node, "transA", 0) else 0]
    return [rows, right[0 if int_attribute(node, "transB", 0) else 1]]


_SAME_AS_FIRST = {
    "EmbedLayerNormalization": (0, 2),
    "SkipLayerNormalization": (0, 3),
    "SkipSimplifiedLayerNormalization": (0, 3),
}
_RULES: dict[str, Callable[[ir.Node], _Dims | None]] = {
    "Attention": _attention,
    "BiasGelu": _same,
    "EmbedLayerNormalization": _embedding,
    "FastGelu": _same,
    "FusedGemm": _fused_gemm,
    "FusedMatMul": _fused_matmul,
    "Gelu": _same,
    "GroupNormalization": _same,
    "GroupQueryAttention": _group_query_attention,
    "LayerNormalization": _same,
    "MultiHeadAttention": _multi_head_attention,
    "QuickGelu": _same,
    "RotaryEmbedding": _same,
    "SimplifiedLayerNormalization": _same,
    "SkipLayerNormalization": _same,
    "SkipSimplifiedLayerNormalization": _same,
}
