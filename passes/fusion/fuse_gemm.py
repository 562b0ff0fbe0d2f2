"""Merge a matrix product and the sum behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult

_STANDARD = ("", "ai.onnx")
# What Gemm takes, and the runtime's CPU provider has a kernel for.
_TYPES = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16)
# From this opset on Gemm broadcasts its bias by the usual rule, without an attribute.
_FIRST_OPSET = 7


@dataclass(frozen=True)
class FuseGemm(Pass):
    """Merge a matrix product and the sum behind it.

    ``A B + c = Gemm(A, B, c)`` for matrices, with transposes of ``A`` and ``B`` absorbed.

    What is left alone: operands that are not known to be matrices (vectors, batches, unknown
    ranks); a bias that is not known to broadcast to the product's shape (Gemm refuses one that
    would widen the product); a product that anything else reads, or that is a graph output;
    element types other than float32, float64 and float16; opsets below 7.

    onnxscript's rule of that kind asks for the operands' rank only, and leaves a Gemm that does
    not run where the bias widens the product.
    """

    name: ClassVar[str] = "fuse-gemm"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Merge in the graph, its subgraphs and the functions."""
        count = 0
        roots: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
        for root in roots:
            opset = next((v for d, v in root.opset_imports.items() if d in _STANDARD), 0)
            if opset < _FIRST_OPSET:
                continue
            for node in list(ir.traversal.RecursiveGraphIterator(root)):
                if node.op_type == "Add" and node.domain in _STANDARD:
                    count += _fuse(node)
        return PassResult(model, bool(count), {"fused": count})


def _fuse(add: ir.Node) -> bool:
    graph = add.graph
    for place in (0, 1):
        value, bias = add.inputs[place], add.inputs[1 - place]
        product = None if value is None else _only_for(value, add, "MatMul")
        if graph is None or product is None or value is None or bias is None:
            continue
        left, right = product.inputs
        if not (_is_matrix(left) and _is_matrix(right)) or not _fits(bias, left, right):
            continue
        left, left_turned = _before_transpose(left)
        right, right_turned = _before_transpose(right)
        turned = {"transA": left_turned, "transB": right_turned}
        attributes = {name: 1 for name, value in turned.items() if value}
        gemm = ir.node("Gemm", [left, right, bias], attributes, name=product.name)
        old, new = add.outputs[0], gemm.outputs[0]
        new.name, new.type, new.shape = old.name, old.type, old.shape
        old.name = None
        graph.insert_before(add, gemm)
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        for done in (add, product):
            graph.remove(done, safe=True)
        return True
    return False


def _only_for(value: ir.Value, user: ir.Node, kind: str) -> ir.Node | None:
    """Return the node of this kind that makes ``value`` for ``user`` alone, in the same graph."""
    node = value.producer()
    if node is None or node.op_type != kind or node.domain not in _STANDARD:
        return None
    alone = len(list(value.uses())) == 1 and not value.is_graph_output()
    return node if alone and node.graph is user.graph else None


def _is_matrix(value: ir.Value | None) -> bool:
    return (
        value is not None
        and value.shape is not None
        and len(value.shape) == 2
        and value.dtype in _TYPES
    )


def _fits(bias: ir.Value, left: ir.Value | None, right: ir.Value | None) -> bool:
    """Tell whether a bias broadcasts to the product's shape, and not the other way round."""
    if bias.shape is None or left is None or right is None:
        return False
    if left.shape is None or right.shape is None or bias.dtype != left.dtype:
        return False
    product = (left.shape[0], right.shape[1])
    if len(bias.shape) > 2:
        return False
    tail = product[2 - len(bias.shape) :]
    return all(
        given == 1 or (_is_known(given) and given == wanted)
        for given, wanted in zip(bias.shape, tail, strict=True)
    )


def _is_known(dim: int | ir.SymbolicDim) -> bool:
    return isinstance(dim, int) or dim.value is not None


def _before_transpose(value: ir.Value | None) -> tuple[ir.Value | None, bool]:
    """Return what a transpose of a matrix turns and True, or the value itself and False."""
    node = None if value is None else value.producer()
    if node is None or node.op_type != "Transpose" or node.domain not in _STANDARD:
        return value, False
    perm = node.attributes.get("perm")
    if perm is not None and (perm.is_ref() or tuple(perm.as_ints()) != (1, 0)):
        return value, False
    return node.inputs[0], True
