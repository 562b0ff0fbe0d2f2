"""Round ties in quantized average pools as TensorFlow Lite does.

Its kernels average the stored integers and round halves away from zero; ONNX rounds them to even.
An average of 64 values is a half in one of 64 cases, so nearly every image holds a tie, and the
layers behind it spread that one step.

The average ``q`` (in steps, the zero point included) is moved away from zero by a share ``d`` that
is too small to cross anything but a half: ``y' = y (1 + d) + d * scale * zero_point``, where
``y = (q - zero_point) * scale``.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

_POOLS = ("AveragePool", "GlobalAveragePool")
_MOVERS = ("Transpose", "Reshape", "Squeeze", "Identity")
# Averages of n values lie 1/(2n) and more from a half that they are not; |q| is at most 255.
_MARGIN = 600


def round_pool_ties(model: ir.Model) -> None:
    """Move the results of quantized average pools away from ties, in place."""
    for node in list(model.graph):
        if node.domain != "" or node.op_type not in _POOLS or node.inputs[0] is None:
            continue
        before = _behind_movers(node.inputs[0].producer())
        after = _before_movers(node.outputs[0])
        count = _window(node)
        if before is None or after is None or count is None:
            continue
        if before.op_type != "DequantizeLinear" or after.op_type != "QuantizeLinear":
            continue
        step, other = _quantization(before), _quantization(after)
        if step is not None and step == other:
            _move(model, node, step, 1.0 / (_MARGIN * count))


def _move(model: ir.Model, node: ir.Node, step: tuple[float, int], share: float) -> None:
    scale, zero = step
    result = node.outputs[0]
    factor = _constant(model, f"{result.name}_tie_factor", 1.0 + share)
    nodes = [ir.node("Mul", [result, factor])]
    if zero:
        offset = _constant(model, f"{result.name}_tie_offset", share * scale * zero)
        nodes.append(ir.node("Add", [nodes[0].outputs[0], offset]))
    for number, made in enumerate(nodes):
        made.outputs[0].name = f"{result.name}_tie{number}"
        made.outputs[0].type, made.outputs[0].shape = result.type, result.shape
    result.replace_all_uses_with(nodes[-1].outputs[0])
    nodes[0].replace_input_with(0, result)
    model.graph.insert_after(node, nodes)


def _constant(model: ir.Model, name: str, number: float) -> ir.Value:
    value = ir.val(name, const_value=ir.tensor(np.array(number, np.float32), name=name))
    model.graph.register_initializer(value)
    return value


def _quantization(node: ir.Node) -> tuple[float, int] | None:
    """Return scale and zero point; None where they differ by channel or are computed."""
    found = []
    for value in node.inputs[1:3]:
        tensor = None if value is None else value.const_value
        if tensor is None or math.prod(tensor.shape.numpy()) != 1:
            return None
        found.append(tensor.numpy().reshape(()).item())
    return (float(found[0]), int(found[1])) if len(found) == 2 else None


def _window(node: ir.Node) -> int | None:
    """Return how many values a pool averages; None where that is not known."""
    if node.op_type == "AveragePool":
        return math.prod(node.attributes["kernel_shape"].as_ints())
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    sizes = [] if shape is None else [dim for dim in shape[2:] if isinstance(dim, int)]
    return math.prod(sizes) if shape is not None and len(sizes) == len(shape) - 2 else None


def _behind_movers(node: ir.Node | None) -> ir.Node | None:
    while node is not None and node.op_type in _MOVERS and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node


def _before_movers(value: ir.Value) -> ir.Node | None:
    users = list(value.consumers())
    while len(users) == 1 and users[0].op_type in _MOVERS:
        users = list(users[0].outputs[0].consumers())
    return users[0] if len(users) == 1 else None
