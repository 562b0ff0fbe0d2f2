"""Fold what only rearranges a weight: transposes and reshapes between it and its use.

tf2onnx does so for constants; weights that stand in its graph as inputs it leaves as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

Array = np.ndarray[Any, Any]


def fold_weights(model: ir.Model) -> None:
    """Fold rearrangements of initializers in the main graph; nothing is computed before writing."""
    graph = model.graph
    for node in list(graph):
        if node.domain != "" or not node.inputs or node.inputs[0] is None:
            continue
        source, result = node.inputs[0], node.outputs[0]
        if not isinstance(source.const_value, ir.LazyTensor) or not source.is_initializer():
            continue
        arrange = _arrangement(node)
        if arrange is None or result in graph.outputs:
            continue
        tensor = _arranged(source.const_value, arrange, result.name or "")
        value = ir.Value(
            name=_name(model, source), shape=tensor.shape, type=result.type, const_value=tensor
        )
        value.dtype = tensor.dtype
        graph.register_initializer(value)
        result.replace_all_uses_with(value)
        graph.remove(node, safe=True)
        if not source.uses():
            graph.initializers.pop(source.name or "")


def _name(model: ir.Model, source: ir.Value) -> str:
    names = model.graph.initializers
    number = 1
    while f"{source.name}_{number}" in names:
        number += 1
    return f"{source.name}_{number}"


def _arrangement(node: ir.Node) -> Callable[[Array], Array] | None:
    """Return what the node does to its first input's array; None where it is no rearrangement."""
    if node.op_type == "Identity":
        return lambda array: array
    if node.op_type == "Transpose":
        perm = node.attributes.get("perm")
        axes = None if perm is None else list(perm.as_ints())
        return lambda array: np.transpose(array, axes)
    if node.op_type not in ("Reshape", "Squeeze", "Unsqueeze"):
        return None
    given = node.inputs[1] if len(node.inputs) > 1 else None
    if given is None or given.const_value is None or isinstance(given.const_value, ir.LazyTensor):
        return None
    numbers = given.const_value.numpy().astype(int).tolist()
    if node.op_type == "Squeeze":
        return lambda array: np.squeeze(array, tuple(numbers))
    if node.op_type == "Unsqueeze":
        return lambda array: np.expand_dims(array, tuple(numbers))
    if "allowzero" in node.attributes:
        return None
    return lambda array: array.reshape(
        [array.shape[axis] if size == 0 else size for axis, size in enumerate(numbers)]
    )


def _arranged(tensor: ir.LazyTensor, arrange: Callable[[Array], Array], name: str) -> ir.LazyTensor:
    # A view without memory behind it: only its shape is asked for.
    shape = arrange(np.broadcast_to(np.zeros((), np.int8), tensor.shape.numpy())).shape
    return ir.LazyTensor(
        lambda: ir.Tensor(np.ascontiguousarray(arrange(tensor.numpy())), dtype=tensor.dtype),
        dtype=tensor.dtype,
        shape=ir.Shape(shape),
        name=name,
    )
