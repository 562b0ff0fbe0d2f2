"""Write fused operators in terms of plain ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from onnxsmith.errors import UsageError
from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.fusion import (
    plain_activations,
    plain_attention,
    plain_embeddings,
    plain_norms,
    plain_products,
    plain_rotary,
)
from onnxsmith.passes.fusion.contrib import DOMAIN, take_over
from onnxsmith.passes.fusion.plain import Plain, Values, Writer
from onnxsmith.passes.match import STANDARD, all_nodes
from onnxsmith.plugins import suggestion

_STANDARD: dict[str, Writer] = {
    "Attention": plain_attention.standard,
    "Gelu": plain_activations.gelu,
    "GroupNormalization": plain_norms.group_norm,
    "HardSwish": plain_activations.hard_swish,
    "LayerNormalization": plain_norms.layer_norm,
    "RMSNormalization": plain_norms.rms_norm,
    "RotaryEmbedding": plain_rotary.rotary,
    "SimplifiedLayerNormalization": plain_norms.rms_norm,
    "Swish": plain_activations.swish,
}
_CONTRIBUTED: dict[str, Writer] = {
    "Attention": plain_attention.packed,
    "BiasGelu": plain_activations.bias_gelu,
    "EmbedLayerNormalization": plain_embeddings.embed_layer_norm,
    "FastGelu": plain_activations.fast_gelu,
    "FusedConv": plain_products.conv,
    "FusedGemm": plain_products.gemm,
    "FusedMatMul": plain_products.matmul,
    "Gelu": plain_activations.gelu,
    "MultiHeadAttention": plain_attention.separate,
    "QuickGelu": plain_activations.quick_gelu,
    "RotaryEmbedding": plain_rotary.rotary,
    "SkipLayerNormalization": plain_norms.skip_layer_norm,
    "SkipSimplifiedLayerNormalization": plain_norms.skip_rms_norm,
}
_OPSET = 13


@dataclass(frozen=True)
class Decompose(Pass):
    """Write fused operators in terms of plain ones.

    Undoes the fusions: ``Gelu(x) = 0.5 x (1 + erf(x / sqrt(2)))``,
    ``QuickGelu(x) = x Sigmoid(a x)``, ``HardSwish(x) = x HardSigmoid(x)``, normalizations as
    ``(x - mean) / deviation * g + b``, attention as ``Softmax(s Q K' + m) V``, rotary embedding as
    ``Concat(x1 cos - x2 sin, x2 cos + x1 sin)``. Normalizations of halves are computed in float32,
    as their kernels do. FusedConv, FusedGemm and FusedMatMul, which the runtime writes into models
    that it saves, become the product, the sum and the activation.

    Attributes:
        ops: Which operators, such as ``Gelu+Attention``; all that are known where it is empty.

    What is left alone: attention that rotates its operands or bounds its scores, a past of packed
    attention, and padding given by lengths; activations that the runtime does not fuse; rotary
    embedding of a part of the heads or of neighbors; values of unknown element type; groups of
    values of unknown rank; scales of another element type; functions, and models below opset 13.

    Source: the operators' definitions in ONNX and in ONNX Runtime's contributed operators.
    """

    name: ClassVar[str] = "decompose"

    ops: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the names.

        Raises:
            UsageError: An operator is not known.
        """
        known = sorted({*_STANDARD, *_CONTRIBUTED})
        for kind in self.ops:
            if kind not in known:
                raise UsageError(f"decompose does not know {kind!r}", suggestion(kind, known))

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Write anew in the graph and its subgraphs."""
        plain, count = Plain(model), 0
        if plain.version < _OPSET:
            return PassResult(model, False, {"refused": f"it needs opset {_OPSET}"})
        for node in all_nodes(model):
            writer = self._writer(node)
            found = None if writer is None else writer(plain, node)
            if found is not None:
                _put(plain, node, found)
                count += 1
        return PassResult(model, bool(count), {"decomposed": count})

    def _writer(self, node: ir.Node) -> Writer | None:
        if self.ops and node.op_type not in self.ops:
            return None
        if node.domain in STANDARD:
            return _STANDARD.get(node.op_type)
        return _CONTRIBUTED.get(node.op_type) if node.domain == DOMAIN else None


def _put(plain: Plain, node: ir.Node, found: Values) -> None:
    """Put what was written in the place of a node."""
    graph = node.graph
    assert graph is not None  # all_nodes yields nodes of graphs
    graph.insert_before(node, plain.nodes)
    plain.nodes = []
    for old, new in zip(node.outputs, found, strict=False):
        if new is not None and (old.uses() or old.is_graph_output()):
            take_over(old, new)
    graph.remove(node, safe=True)
