"""Fuse scaled dot product attention into the standard operator."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.fusion.attention_core import Core, find_core
from onnxsmith.passes.fusion.attention_mask import MaskWriter, named_sizes
from onnxsmith.passes.fusion.attention_operator import core_of_operator
from onnxsmith.passes.fusion.attention_writer import AttentionWriter
from onnxsmith.passes.fusion.contrib import loads, version_of
from onnxsmith.passes.match import all_nodes, input_of, is_op

_OPSET = 23


@dataclass(frozen=True)
class FuseStandardAttention(Pass):
    """Fuse scaled dot product attention into the standard operator.

    ``Softmax(s Q K' + m) V = Attention(Q, K, V, m)``, with ``is_causal`` where the mask is the
    constant that lets each query see the keys up to its own. Queries, keys and values have their
    heads side by side where they come from values of rank 3. Keys and values may have fewer heads
    than the queries: an Expand that repeats them is dropped. Masks are those of ``fuse-attention``.

    The exporter's guard ``Where(IsNaN(p), 0, p)`` on the probabilities is dropped where no row of
    the mask can be all minus infinity; where it can, results of queries that see no key are set to
    zero behind the operator. An operator that is there already takes its operands with the heads
    side by side, if they come so.

    What is left alone: models below opset 23 and for targets that do not load it, functions, and
    what ``fuse-attention`` leaves alone.

    Attributes:
        grouped: Whether only keys and values that queries share will do, for which the runtime's
            own operators need them repeated.

    Source: the operator's definition in ONNX; Ainslie et al., "GQA", 2023.
    """

    name: ClassVar[str] = "fuse-standard-attention"

    grouped: bool = False

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Fuse in the graph and its subgraphs; shapes should be inferred."""
        if not loads(model, context.target, _OPSET):
            return PassResult(model, False, {"refused": f"it needs opset {_OPSET}"})
        count, sizes = 0, named_sizes(model)
        for node in all_nodes(model):
            softmax = is_op(node, "Softmax")
            core = find_core(node, sizes) if softmax else core_of_operator(node, sizes)
            if core is not None and (core.key.repeats > 1 or not self.grouped):
                masks = MaskWriter(core.product, core.query.value, sizes)
                count += _fuse(core, masks, version_of(model))
        return PassResult(model, bool(count), {"fused": count})


def _fuse(core: Core, masks: MaskWriter, version: int) -> bool:
    is_operator = is_op(core.product, "Attention")
    writer = AttentionWriter(replace(core, empty=None) if is_operator else core, version)
    if not writer.can_finish():
        return False
    operands, attributes = writer.flat_operands(), dict[str, object](scale=core.scale)
    if operands is not None:
        heads = core.heads // core.key.repeats
        attributes |= {"q_num_heads": core.heads, "kv_num_heads": heads}
    elif not is_operator:
        operands = writer.split_operands()
    if operands is None:
        return False
    if core.causal:
        attributes["is_causal"] = 1
    if is_operator:
        mask = input_of(core.product, 3)
    else:
        mask = masks.write(core.masks, core.query, core.key)
    inputs = [*operands, mask] if mask is not None else operands
    node = ir.node("Attention", inputs, attributes)  # type: ignore[arg-type]  # plain values
    if "q_num_heads" in attributes:
        writer.finish(node)
    else:
        writer.finish_split(node)
    return True
