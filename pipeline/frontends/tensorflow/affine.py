"""Fold per-channel scales and shifts behind a convolution into its weights.

``(W * x + b) s + t = (s W) * x + (s b + t)``. Keras writes a batch normalization as such a pair;
TensorFlow's optimizer folds it only into weights that it sees, and not into depthwise ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

Array = np.ndarray[Any, Any]


def fold_affine(model: ir.Model) -> None:
    """Fold constant Mul and Add behind the main graph's convolutions, in place."""
    for node in list(model.graph):
        if node.domain != "" or node.op_type != "Conv" or not _weights_are_constant(node):
            continue
        while (after := _only_user(model, node.outputs[0])) is not None:
            numbers = _per_channel(after, node)
            if numbers is None:
                break
            if after.op_type == "Mul":
                _scale(model, node, numbers)
            else:
                _shift(model, node, numbers)
            result = after.outputs[0]
            node.outputs[0].shape = result.shape
            result.replace_all_uses_with(node.outputs[0])
            model.graph.remove(after, safe=True)
    _drop_unused(model)


def _weights_are_constant(node: ir.Node) -> bool:
    values = [node.inputs[1], *node.inputs[2:3]]
    return all(value is None or _is_weight(value) for value in values) and values[0] is not None


def _is_weight(value: ir.Value) -> bool:
    return value.is_initializer() and value.const_value is not None


def _only_user(model: ir.Model, value: ir.Value) -> ir.Node | None:
    uses = list(value.uses())
    if len(uses) != 1 or value in model.graph.outputs:
        return None
    node = uses[0].node
    if node.domain != "" or node.op_type not in ("Mul", "Add"):
        return None
    # An output has its name from its own node, which stays.
    return None if node.outputs[0] in model.graph.outputs else node


def _per_channel(node: ir.Node, conv: ir.Node) -> Array | None:
    """Return the constant of a Mul or Add as one number for each channel of a convolution."""
    weight = conv.inputs[1]
    others = [value for value in node.inputs if value is not conv.outputs[0]]
    if len(others) != 1 or others[0] is None or weight is None or weight.const_value is None:
        return None
    tensor, shape = others[0].const_value, weight.const_value.shape.numpy()
    if tensor is None or not _is_weight(others[0]) or tensor.dtype != weight.const_value.dtype:
        return None
    given = tensor.shape.numpy()
    full = (1,) * (len(shape) - len(given)) + tuple(given)
    wanted = (1, shape[0], *(1,) * (len(shape) - 2))
    if len(full) != len(shape) or any(a not in (1, b) for a, b in zip(full, wanted, strict=True)):
        return None
    return np.broadcast_to(tensor.numpy().reshape(full), wanted).reshape(-1)


def _scale(model: ir.Model, node: ir.Node, numbers: Array) -> None:
    weight = node.inputs[1]
    assert weight is not None  # _per_channel has looked at it
    tensor = weight.const_value
    assert tensor is not None
    across = numbers.reshape(-1, *(1,) * (len(tensor.shape.numpy()) - 1))
    lazy = ir.LazyTensor(
        lambda: ir.Tensor(np.asarray(tensor.numpy() * across), dtype=tensor.dtype),
        dtype=tensor.dtype,
        shape=ir.Shape(tensor.shape.numpy()),
    )
    _replace(model, node, 1, lazy, f"{weight.name}_scaled")
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None and bias.const_value is not None:
        _replace(model, node, 2, ir.tensor(bias.const_value.numpy() * numbers), f"{bias.name}")


def _shift(model: ir.Model, node: ir.Node, numbers: Array) -> None:
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is None or bias.const_value is None:
        if len(node.inputs) < 3:
            node.resize_inputs(3)
        _replace(model, node, 2, ir.tensor(np.array(numbers)), f"{node.outputs[0].name}_bias")
    else:
        _replace(model, node, 2, ir.tensor(bias.const_value.numpy() + numbers), f"{bias.name}")


def _replace(
    model: ir.Model, node: ir.Node, index: int, tensor: ir.TensorProtocol, name: str
) -> None:
    """Give the node a new weight; the old one may have other users."""
    taken = model.graph.initializers
    free, number = name, 1
    while free in taken:
        free = f"{name}_{number}"
        number += 1
    tensor.name = free
    value = ir.val(free, const_value=tensor)
    model.graph.register_initializer(value)
    node.replace_input_with(index, value)


def _drop_unused(model: ir.Model) -> None:
    kept = {id(value) for value in model.graph.outputs}
    for name, value in list(model.graph.initializers.items()):
        if not value.uses() and id(value) not in kept:
            del model.graph.initializers[name]
