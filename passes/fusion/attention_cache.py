"""Keys and values that are appended to those of earlier steps."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from onnxsmith.passes.fusion.attention_core import Core
from onnxsmith.passes.fusion.attention_operand import Operand, find_operand, is_straight, readers
from onnxsmith.passes.fusion.contrib import rank, take_over
from onnxsmith.passes.match import int_attribute, made_by


@dataclass(frozen=True)
class Cache:
    """Keys or values of which the first come from earlier steps.

    Attributes:
        past: Those of earlier steps, of shape (batch, heads, length, size).
        new: Those of this step.
        present: Both, one after the other.
    """

    past: ir.Value
    new: Operand
    present: ir.Value


def find_caches(core: Core) -> tuple[Cache, Cache] | None:
    """Return the caches of keys and values, if both have one, and nothing else reads them.

    The model may return what is to be the cache of the next step.
    """
    found = [_cache(operand, core) for operand in (core.key, core.value)]
    first, second = found
    return None if first is None or second is None else (first, second)


def _cache(operand: Operand, core: Core) -> Cache | None:
    root = operand.view.root
    concat = made_by(root, "Concat")
    if concat is None or operand.repeats != 1 or rank(root) != 4 or not is_straight(operand):
        return None
    if len(concat.inputs) != 2 or int_attribute(concat, "axis") not in (-2, 2):
        return None
    if any(node is not None and node not in core.nodes for node in readers(root)):
        return None
    past, last = concat.inputs
    new = None if last is None else find_operand(last, turned=False)
    if past is None or new is None or new.repeats != 1 or rank(past) != 4:
        return None
    same = new.heads == operand.heads and new.size == operand.size and past.dtype == root.dtype
    return Cache(past, new, root) if same and rank(new.value) == 4 else None


def write_presents(node: ir.Node, caches: tuple[Cache, Cache]) -> None:
    """Let the operator's second and third result be what the model returns as caches."""
    for cache, output in zip(caches, node.outputs[1:], strict=True):
        if cache.present.is_graph_output():
            take_over(cache.present, output)
        else:
            output.type, output.shape = cache.present.type, cache.present.shape
