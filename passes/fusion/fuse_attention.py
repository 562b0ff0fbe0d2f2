"""Fuse scaled dot product attention into one operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.fusion.attention_core import Core, find_core, join_keys, split_keys
from onnxsmith.passes.fusion.contrib import contrib, declare, take_over
from onnxsmith.passes.match import (
    add_constant,
    all_nodes,
    array_of,
    input_of,
    ints_attribute,
    is_op,
    made_by,
    only_user,
    remove_if_dead,
    same_dim,
    tensor_of,
)

_HEADS_INNER = [0, 2, 1, 3]


@dataclass(frozen=True)
class FuseAttention(Pass):
    """Fuse scaled dot product attention into one operator.

    ``Softmax(s Q K' + m) V`` becomes ``com.microsoft.MultiHeadAttention`` with the mask m as its
    ``attention_bias``; where queries, keys and values are products of one value with constant
    weights, ``com.microsoft.Attention`` with those weights side by side. The exporter's guard
    ``Where(IsNaN(p), 0, p)`` on the probabilities is dropped where no row of the mask can be all
    minus infinity; numbers that are not finite before the softmax are not kept apart.

    What is left alone: probabilities that anything else reads, heads of unknown number or size,
    masks that are not of rank 4 or broadcast over queries or keys, guards of masks that may hold
    infinities, and element types other than float32 and float16.

    Source: Vaswani et al., "Attention Is All You Need", 2017; ONNX Runtime's contributed operators.
    """

    name: ClassVar[str] = "fuse-attention"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Fuse in the graph, its subgraphs and functions."""
        packed = separate = 0
        split_keys(model)
        for node in all_nodes(model):
            core = find_core(node) if is_op(node, "Softmax") else None
            if core is None:
                continue
            if _pack(core):
                packed += 1
            else:
                separate += _fuse(core)
        if packed or separate:
            declare(model)
        join_keys(model)
        details = {"packed": packed, "separate": separate}
        return PassResult(model, bool(packed or separate), details)


def _fuse(core: Core) -> bool:
    """Make a MultiHeadAttention of a core."""
    query = flat(core.query)
    key, value = flat(core.key), flat(core.value)
    if key is None or value is None:
        key, value = core.key, core.value
    graph = core.product.graph
    assert graph is not None  # matchers only see nodes of graphs
    new: list[ir.Node] = []
    if query is None:
        turned = ir.node("Transpose", [core.query], {"perm": _HEADS_INNER})
        target = add_constant(graph, np.array([0, 0, core.width]), "attention_query_shape")
        shaped = ir.node("Reshape", [turned.outputs[0], target])
        new += [turned, shaped]
        query = shaped.outputs[0]
    inputs = [query, key, value, None, None, _mask(core)]
    attributes: dict[str, object] = {"num_heads": core.heads, "scale": core.scale}
    new.append(contrib("MultiHeadAttention", inputs, attributes))
    _finish(core, new)
    return True


def _pack(core: Core) -> bool:
    """Make an Attention of a core whose operands are products of one value."""
    graph = core.product.graph
    parts = [_projection(flat(v)) for v in (core.query, core.key, core.value)]
    if graph is None or any(part is None for part in parts):
        return False
    found = [part for part in parts if part is not None]
    source = found[0][0]
    if any(part[0] is not source for part in found) or source.shape is None:
        return False
    weights = [part[1].numpy() for part in found]
    kind = weights[0].dtype
    if any(w.dtype != kind for w in weights) or weights[0].shape != weights[1].shape:
        return False
    biases = [part[2] for part in found]
    name = f"{core.product.outputs[0].name}_qkv"
    weight = add_constant(graph, np.concatenate(weights, axis=1), f"{name}_weight")
    # The runtime's CPU kernel crashes without a bias, though the operator lets it be left out.
    rows = [
        np.zeros(w.shape[1], kind) if b is None else b.numpy()
        for w, b in zip(weights, biases, strict=True)
    ]
    bias = add_constant(graph, np.concatenate(rows), f"{name}_bias")
    attributes: dict[str, object] = {"num_heads": core.heads, "scale": core.scale}
    if weights[2].shape != weights[0].shape:
        attributes["qkv_hidden_sizes"] = [w.shape[1] for w in weights]
    inputs = [source, weight, bias, None, None, _mask(core)]
    _finish(core, [contrib("Attention", inputs, attributes)])
    return True


def _mask(core: Core) -> ir.Value | None:
    """Return the mask, expanded once to the lengths of queries and keys where it may be of one."""
    mask, graph = core.mask, core.product.graph
    if mask is None or mask.shape is None or core.query.shape is None or core.key.shape is None:
        return mask
    lengths = (core.query.shape[2], core.key.shape[2])
    if all(same_dim(mask.shape[i], lengths[i - 2]) for i in (2, 3)) or graph is None:
        return mask
    wide = [d if isinstance(d, int) else 1 for d in lengths]
    for use in mask.uses():
        shape = array_of(input_of(use.node, 1)) if is_op(use.node, "Expand") else None
        if use.node.graph is graph and shape is not None and list(shape) == [1, 1, *wide]:
            return use.node.outputs[0]
    target = add_constant(graph, np.array([1, 1, *wide]), f"{mask.name}_shape")
    expand = ir.node("Expand", [mask, target])
    result = expand.outputs[0]
    result.type, result.shape = mask.type, ir.Shape([*mask.shape[:2], *lengths])
    producer = mask.producer()
    if producer is not None and producer.graph is graph:
        graph.insert_after(producer, expand)
    else:
        graph.insert_before(graph[0], expand)
    return result


def _projection(
    value: ir.Value | None,
) -> tuple[ir.Value, ir.TensorProtocol, ir.TensorProtocol | None] | None:
    """Return x, W and b where a value is x W + b, of rank 3, with constants W and b."""
    bias = None
    add = made_by(value, "Add")
    if add is not None:
        for first, second in (add.inputs, reversed(add.inputs)):
            tensor = tensor_of(second)
            if tensor is not None and len(tensor.shape) == 1:
                value, bias = first, tensor
                break
    product = made_by(value, "MatMul")
    if product is None or value is None or len(value.uses()) != 1 or value.is_graph_output():
        return None
    x, weight = product.inputs[0], tensor_of(product.inputs[1])
    if x is None or x.shape is None or len(x.shape) != 3 or weight is None:
        return None
    if len(weight.shape) != 2 or (bias is not None and bias.shape[0] != weight.shape[1]):
        return None
    return x, weight, bias


def flat(value: ir.Value) -> ir.Value | None:
    """Return the value of shape (batch, length, heads * size) that one of rank 4 is made of."""
    turn = made_by(value, "Transpose")
    if turn is None or ints_attribute(turn, "perm") != _HEADS_INNER:
        return None
    inner = turn.inputs[0]
    reshape = made_by(inner, "Reshape")
    source = None if reshape is None else reshape.inputs[0]
    if inner is None or source is None or inner.shape is None or source.shape is None:
        return None
    if len(inner.shape) != 4 or len(source.shape) != 3:
        return None
    heads, size = inner.shape[2], inner.shape[3]
    if not isinstance(heads, int) or not isinstance(size, int) or source.shape[2] != heads * size:
        return None
    same = all(same_dim(inner.shape[i], source.shape[i]) for i in (0, 1))
    return source if same else None


def _finish(core: Core, new: list[ir.Node]) -> None:
    """Put the new nodes where the last product stood, and let their result be read."""
    old, graph = core.product.outputs[0], core.product.graph
    assert graph is not None  # matchers only see nodes of graphs
    for node in new:
        graph.insert_before(core.product, node)
    result = new[-1].outputs[0]
    turn = only_user(old, "Transpose")
    shape = None
    if turn is not None and ints_attribute(turn, "perm") == _HEADS_INNER:
        shape = only_user(turn.outputs[0], "Reshape")
    width = core.value_width
    assert old.shape is not None  # the core knows it
    merged = None if shape is None else shape.outputs[0]
    result.type = old.type
    result.shape = ir.Shape([old.shape[0], old.shape[2], width])
    if (
        shape is not None
        and merged is not None
        and merged.shape is not None
        and shape.graph is graph
        and len(merged.shape) == 3
        and merged.shape[2] == width
        and all(same_dim(merged.shape[i], result.shape[i]) for i in (0, 1))
    ):
        take_over(merged, result)
        remove_if_dead(shape)
        return
    result.name = f"{old.name}_merged"
    target = add_constant(graph, np.array([0, 0, core.heads, width // core.heads]), "heads_shape")
    split = ir.node("Reshape", [result, target])
    turned = ir.node("Transpose", [split.outputs[0]], {"perm": _HEADS_INNER})
    for node in (split, turned):
        graph.insert_before(core.product, node)
    split.outputs[0].type = old.type
    split.outputs[0].shape = ir.Shape([old.shape[0], old.shape[2], old.shape[1], old.shape[3]])
    take_over(old, turned.outputs[0])
