"""Fuse scaled dot product attention into one operator of the runtime."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.fusion.attention_cache import find_caches, write_presents
from onnxsmith.passes.fusion.attention_core import Core, find_core
from onnxsmith.passes.fusion.attention_mask import MaskWriter, named_sizes
from onnxsmith.passes.fusion.attention_operator import core_of_operator
from onnxsmith.passes.fusion.attention_projection import Projection, pack, projections
from onnxsmith.passes.fusion.attention_writer import AttentionWriter
from onnxsmith.passes.fusion.contrib import contrib, declare, version_of
from onnxsmith.passes.match import add_tensor, all_nodes, is_op

_OPSET = 13


@dataclass(frozen=True)
class FuseAttention(Pass):
    """Fuse scaled dot product attention into one operator of the runtime.

    ``Softmax(s Q K' + m) V`` becomes ``com.microsoft.MultiHeadAttention`` with the sum m of the
    masks as its ``attention_bias``; where queries, keys and values are products of one value with
    constant weights, in one product or in three, ``com.microsoft.Attention`` with the columns of
    those weights in the operator's order. Heads may be told apart in any order of reshapes,
    transposes, splits and selections, and batches of heads may be one dimension. Keys and values of
    fewer heads, each repeated by an Expand, are repeated by a Gather. Keys and values that a Concat
    appends to those of earlier steps become the operator's past and present. Masks may be added,
    choose between scores and a low number, or differ from window to window of an image; the
    constant that lets each query see the keys up to its own becomes ``unidirectional``.

    The exporter's guard ``Where(IsNaN(p), 0, p)`` on the probabilities is dropped where no row of
    the mask can be all minus infinity; where it can, results of queries that see no key are set to
    zero behind the operator. Numbers that are not finite before the softmax are not kept apart.
    Scores that a mask replaces by -1e9 or less count as lost in it. The standard operator is
    replaced too.

    What is left alone: probabilities that anything else reads, heads of unknown number or size,
    masks that cannot be brought to (batch or 1, heads or 1, queries, keys), guards of masks that
    hold infinities in unknown places, masks of truth values that differ from head to head, element
    types other than float32 and float16, functions, and models below opset 13.

    Source: Vaswani et al., "Attention Is All You Need", 2017; ONNX Runtime's contributed operators.
    """

    name: ClassVar[str] = "fuse-attention"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Fuse in the graph and its subgraphs; shapes should be inferred."""
        if version_of(model) < _OPSET:
            return PassResult(model, False, {"refused": f"it needs opset {_OPSET}"})
        packed = separate = 0
        sizes = named_sizes(model)
        for node in all_nodes(model):
            softmax = is_op(node, "Softmax")
            core = find_core(node, sizes) if softmax else core_of_operator(node, sizes)
            writer = None if core is None else AttentionWriter(core, version_of(model))
            if core is None or writer is None or not writer.can_finish():
                continue
            masks = MaskWriter(core.product, core.query.value, sizes)
            found = projections(core)
            if found is not None:
                _pack(core, found, masks, writer)
                packed += 1
            else:
                separate += _fuse(core, masks, writer)
        if packed or separate:
            declare(model)
        details = {"packed": packed, "separate": separate}
        return PassResult(model, bool(packed or separate), details)


def _fuse(core: Core, masks: MaskWriter, writer: AttentionWriter) -> bool:
    """Make a MultiHeadAttention of a core."""
    attributes: dict[str, object] = {"num_heads": core.heads, "scale": core.scale}
    caches = find_caches(core)
    new = None if caches is None else writer.cached_operands([cache.new for cache in caches])
    if caches is not None and new is not None:
        pasts = [cache.past for cache in caches]
        inputs = [*new, None, None, _mask(core, masks, attributes), *pasts]
        node = contrib("MultiHeadAttention", inputs, attributes)
        node.resize_outputs(3)
        writer.finish(node)
        write_presents(node, caches)
        return True
    operands = writer.operands()
    if operands is None:
        return False
    mask = _mask(core, masks, attributes)
    writer.finish(contrib("MultiHeadAttention", [*operands, None, None, mask], attributes))
    return True


def _pack(core: Core, found: Projection, masks: MaskWriter, writer: AttentionWriter) -> None:
    """Make an Attention of a core whose operands are products of one value."""
    name = f"{core.product.outputs[0].name}_qkv"
    weight, bias = (
        add_tensor(core.graph, tensor, f"{name}_{kind}")
        for tensor, kind in zip(pack(found), ("weight", "bias"), strict=True)
    )
    source = writer.batch_first(found.source) if found.lengths_first else found.source
    attributes: dict[str, object] = {"num_heads": core.heads, "scale": core.scale}
    if found.widths[2] != found.widths[0]:
        attributes["qkv_hidden_sizes"] = found.widths
    mask = _mask(core, masks, attributes)
    writer.finish(contrib("Attention", [source, weight, bias, None, None, mask], attributes))


def _mask(core: Core, masks: MaskWriter, attributes: dict[str, object]) -> ir.Value | None:
    """Return the mask, or say with an attribute what it is."""
    if core.causal:
        attributes["unidirectional"] = 1
    return masks.write(core.masks, core.query, core.key)
