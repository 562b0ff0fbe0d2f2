"""Fuse the embeddings of words, positions and segments with the normalization of their sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.fusion.contrib import (
    contrib,
    declare,
    float_attribute,
    is_float,
    rank,
    take_over,
)
from onnxsmith.passes.match import (
    add_constant,
    array_of,
    int_attribute,
    is_op,
    made_by,
    remove_if_dead,
    same_dim,
    same_shape,
    tensor_of,
)

_INDICES = (ir.DataType.INT32, ir.DataType.INT64)
_LARGEST = 1 << 24


@dataclass(frozen=True)
class _Lookup:
    """Rows of a table that indices pick."""

    table: ir.Value
    indices: ir.Value


@dataclass(frozen=True)
class FuseEmbedLayerNorm(Pass):
    """Fuse the embeddings of words, positions and segments with the normalization of their sum.

    ``LayerNormalization(W[i] + P[p] + S[s]) = com.microsoft.EmbedLayerNormalization``, whose third
    output is the sum, for those that read it too. Positions that are 0, 1, 2, ... are left out, and
    a constant in the place of their embedding is its table.

    What is left alone: other sums, tables that are computed or of another rank than 2, element
    types other than float32 and float16, indices that are not of one shape (batch, length),
    normalization over more than the last dimension or without a shift, and normalizations whose
    mean or deviation is read. The runtime's kernel takes no negative indices, which Gather counts
    from the end.

    Source: ONNX Runtime's contributed operators.
    """

    name: ClassVar[str] = "fuse-embed-layer-norm"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Fuse in the graph; embeddings stand at its begin, not in bodies."""
        norms = [node for node in model.graph if is_op(node, "LayerNormalization")]
        count = sum(_fuse(node) for node in norms)
        if count:
            declare(model)
        return PassResult(model, bool(count), {"fused": count})


def _fuse(norm: ir.Node) -> bool:
    total, epsilon = norm.inputs[0], float_attribute(norm, "epsilon", 1e-5)
    if total is None or epsilon is None or len(norm.inputs) < 3 or None in norm.inputs:
        return False
    if rank(total) != 3 or not is_float(total) or int_attribute(norm, "axis", -1) not in (-1, 2):
        return False
    if any(value.uses() or value.is_graph_output() for value in norm.outputs[1:]):
        return False
    if any(tensor_of(value) is None for value in norm.inputs[1:3]):
        return False
    add = made_by(total, "Add")
    leaves = None if add is None else _leaves(add)
    if add is None or leaves is None:
        return False
    lookups = [found for leaf in leaves if (found := _lookup(leaf, total)) is not None]
    others = [leaf for leaf in leaves if _lookup(leaf, total) is None]
    inputs = _roles(norm, lookups, others)
    if inputs is None:
        return False
    _put(norm, add, inputs, epsilon)
    return True


def _leaves(add: ir.Node) -> list[ir.Value] | None:
    """Return the two or three addends of a sum; None where there are more."""
    found: list[ir.Value] = []
    for value in add.inputs:
        inner = made_by(value, "Add")
        if value is not None and inner is not None and len(value.uses()) == 1:
            found += [part for part in inner.inputs if part is not None]
        elif value is not None:
            found.append(value)
    return found if len(found) in (2, 3) else None


def _lookup(value: ir.Value, total: ir.Value) -> _Lookup | None:
    node = made_by(value, "Gather")
    if node is None or int_attribute(node, "axis", 0) != 0:
        return None
    table, indices = node.inputs
    if table is None or indices is None or tensor_of(table) is None or rank(table) != 2:
        return None
    if table.dtype != total.dtype or indices.dtype not in _INDICES or rank(indices) != 2:
        return None
    return _Lookup(table, indices)


def _roles(
    norm: ir.Node, lookups: Sequence[_Lookup], others: Sequence[ir.Value]
) -> list[ir.Value | None] | None:
    """Return the operator's inputs, indices as they are; None where the addends do not fit."""
    gamma, beta = norm.inputs[1:3]
    if not lookups or len(lookups) + len(others) < 2 or len(others) > 1:
        return None
    positions = [found for found in lookups if _is_of_all_items(found)]
    words = [found for found in lookups if found not in positions]
    if not words:  # a batch of one: what counts is that the positions are known
        positions = [found for found in lookups if _is_counting(found)]
        words = [found for found in lookups if found not in positions]
    if not words or any(not same_shape(words[0].indices, w.indices) for w in words[1:]):
        return None
    table, places = _positions(norm, words[0], positions, others)
    if table is None and len(words) > 1 and not positions and not others:
        # No positions that are known: one of the lookups by the same kind of indices is as good.
        table, places = words[1].table, words[1].indices
        words = [words[0], *words[2:]]
    if table is None or len(words) > 2:
        return None
    segment = words[1] if len(words) == 2 else None
    return [
        words[0].indices,
        segment.indices if segment else None,
        words[0].table,
        table,
        segment.table if segment else None,
        gamma,
        beta,
        None,
        places,
    ]


def _is_of_all_items(found: _Lookup) -> bool:
    """Tell whether indices are the same for every item of a batch."""
    shape = found.indices.shape
    return shape is not None and shape[0] == 1


def _is_counting(found: _Lookup) -> bool:
    """Tell whether indices are 0, 1, 2, ... for every item."""
    array = array_of(found.indices, _LARGEST)
    if array is None or array.shape[0] != 1:
        return False
    return bool((array[0] == np.arange(array.shape[1])).all())


def _positions(
    norm: ir.Node, word: _Lookup, given: Sequence[_Lookup], others: Sequence[ir.Value]
) -> tuple[ir.Value | None, ir.Value | None]:
    """Return the table of positions and, unless they are 0, 1, 2, ..., their indices."""
    if len(given) + len(others) != 1:
        return None, None
    shape = word.indices.shape
    length = None if shape is None else shape[1]
    if given:
        known = given[0].indices.shape
        if length is None or known is None or not same_dim(known[1], length):
            return None, None
        return given[0].table, None if _is_counting(given[0]) else given[0].indices
    array = array_of(others[0], _LARGEST)
    graph = norm.graph
    if array is None or not isinstance(length, int) or not isinstance(graph, ir.Graph):
        return None, None
    if array.shape not in ((length, array.shape[-1]), (1, length, array.shape[-1])):
        return None, None
    name = f"{others[0].name}_positions"
    return add_constant(graph, array.reshape(length, array.shape[-1]), name), None


def _put(norm: ir.Node, add: ir.Node, inputs: list[ir.Value | None], epsilon: float) -> None:
    total, graph = add.outputs[0], norm.graph
    assert graph is not None  # matchers only see nodes of graphs
    needed = total.is_graph_output() or len(total.uses()) > 1
    place = add if needed else norm
    narrow = [_narrow(graph, place, v) if i in (0, 1, 8) else v for i, v in enumerate(inputs)]
    fused = contrib("EmbedLayerNormalization", narrow, {"epsilon": epsilon})
    fused.resize_outputs(3 if needed else 2)
    # Nobody reads the second, but the runtime's inference wants it to be there.
    fused.outputs[1].name = f"{norm.outputs[0].name}_mask_index"
    fused.outputs[1].type = ir.TensorType(ir.DataType.INT32)
    graph.insert_before(place, fused)
    if needed:
        take_over(total, fused.outputs[2])
    take_over(norm.outputs[0], fused.outputs[0])
    for node in (norm, add):
        remove_if_dead(node)


def _narrow(
    graph: ir.Graph | ir.Function, place: ir.Node, value: ir.Value | None
) -> ir.Value | None:
    """Return indices as the int32 that the operator takes."""
    if value is None or value.dtype == ir.DataType.INT32:
        return value
    cast = ir.node("Cast", [value], {"to": int(ir.DataType.INT32)})
    cast.outputs[0].type = ir.TensorType(ir.DataType.INT32)
    cast.outputs[0].shape = value.shape
    graph.insert_before(place, cast)
    return cast.outputs[0]
