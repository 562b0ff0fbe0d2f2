"""Attention that is the standard operator already."""

from __future__ import annotations

import math
from dataclasses import replace

import onnx_ir as ir

from onnxsmith.passes.fusion.attention_core import Core
from onnxsmith.passes.fusion.attention_mask import Sizes, Term, fits
from onnxsmith.passes.fusion.attention_operand import find_operand
from onnxsmith.passes.fusion.contrib import float_attribute, is_float, rank
from onnxsmith.passes.match import input_of, int_attribute, is_op, same_dim


def core_of_operator(node: ir.Node, sizes: Sizes) -> Core | None:
    """Return the core that a standard Attention computes, its heads told apart in front of lengths.

    None for other nodes, and for those with a past, a bound on the scores, more than one result,
    heads side by side already, or causal masks between different numbers of queries and keys.

    Args:
        node: A node.
        sizes: Where the model tells named sizes, for masks that have to be expanded.
    """
    if not is_op(node, "Attention") or not is_float(node.outputs[0]):
        return None
    if any(v.uses() or v.is_graph_output() for v in node.outputs[1:]):
        return None
    if (
        any(input_of(node, place) is not None for place in (4, 5, 6))
        or "q_num_heads" in node.attributes
    ):
        return None
    if float_attribute(node, "softcap", 0.0) != 0 or any(rank(v) != 4 for v in node.inputs[:3]):
        return None
    query, key, value = (
        None if v is None else find_operand(v, turned=False) for v in node.inputs[:3]
    )
    if query is None or key is None or value is None or node.graph is None:
        return None
    repeats, over = divmod(query.heads, key.heads)
    if over or key.heads != value.heads or {query.repeats, key.repeats, value.repeats} != {1}:
        return None
    key, value = (replace(o, heads=query.heads, repeats=repeats) for o in (key, value))
    causal = int_attribute(node, "is_causal", 0)
    if causal is None or (causal and not same_dim(query.length, key.length)):
        return None
    scale = float_attribute(node, "scale", 1 / math.sqrt(query.size))
    mask = input_of(node, 3)
    terms = () if mask is None else (_term(mask),)
    if scale is None or not fits(terms, query, key, sizes):
        return None
    # The kernel gives zeros to queries that a mask of truth values lets see no key.
    empty = terms[0] if terms and terms[0].chooses else None
    return Core(query, key, value, terms, scale, bool(causal), empty, node, frozenset([node]))


def _term(mask: ir.Value) -> Term:
    chooses = mask.dtype == ir.DataType.BOOL
    return Term(mask, 4, chooses=chooses, masked=False)
