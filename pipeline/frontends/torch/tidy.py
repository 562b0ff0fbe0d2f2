"""Take out what torch's exporters compute in the graph although it is known beforehand.

Both write a reshape's target by slices of a shape, also where it keeps dimensions as they are, and
begin recurrent layers with states of zeros that they build from the batch's size.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

# An element of a shape: its size, what dimension it is (of one value, or by its name), or None.
_Element = int | tuple[str, int] | str | None
_STATES = {"LSTM": (5, 6), "GRU": (5,), "RNN": (5,)}
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
# Their first input's elements are all that comes out, and no others.
_MOVERS = ("Slice", "Expand", "Transpose", "Reshape", "Unsqueeze", "Squeeze", "Gather", "Identity")


def tidy(model: ir.Model, *, symbols: bool) -> None:
    """Make targets of reshapes constant and drop zero states, in place.

    A reshape whose target keeps dimensions of its input says so by 0; one element that is not
    known becomes -1. A recurrent layer without a state begins with zeros, by ONNX's definition.

    Args:
        model: The model; its shapes are inferred.
        symbols: Whether dimensions of one name are of one size: torch.export proves that, the
            older exporter only repeats what the user said.
    """
    for graph in model.graphs():
        for node in list(graph):
            if node.domain:
                continue
            if node.op_type in _STATES:
                _drop_zero_states(node)
            elif node.op_type == "Reshape":
                _settle_reshape(node, symbols)
    common.RemoveUnusedNodesPass()(model)


def _drop_zero_states(node: ir.Node) -> None:
    for index in _STATES[node.op_type]:
        state = node.inputs[index] if index < len(node.inputs) else None
        if state is not None and _is_zero(state):
            node.replace_input_with(index, None)


def _is_zero(value: ir.Value) -> bool:
    """Tell whether a value is made of a constant's zeros, whatever its shape."""
    constant = ir.convenience.get_const_tensor(value)
    if constant is not None:
        return not constant.numpy().any()
    node = value.producer()
    if node is None or node.domain:
        return False
    if node.op_type == "ConstantOfShape":
        fill = node.attributes.get("value")
        return fill is None or not fill.as_tensor().numpy().any()
    first = node.inputs[0] if node.inputs else None
    return node.op_type in _MOVERS and first is not None and _is_zero(first)


def _settle_reshape(node: ir.Node, symbols: bool) -> None:
    data, target = node.inputs[:2]
    if data is None or target is None or ir.convenience.get_const_tensor(target) is not None:
        return
    elements = _elements(target, symbols)
    if elements is None or 0 in elements:  # 0 would be read as: keep
        return
    dims: list[_Element] = []
    for axis, element in enumerate(elements):
        kept = element is not None and axis < (_rank(data) or 0)
        same = kept and not isinstance(element, int) and element == _dim(data, axis, symbols)
        dims.append(0 if same else element if isinstance(element, int) else -1)
    if dims.count(-1) > 1:
        return
    graph = node.graph
    assert graph is not None  # it was reached through its graph
    array = np.array(dims, np.int64)
    constant = ir.Value(const_value=ir.tensor(array), shape=ir.Shape(array.shape))
    constant.type = ir.TensorType(ir.DataType.INT64)
    constant.name = f"{node.outputs[0].name}_target"
    graph.register_initializer(constant)
    node.replace_input_with(1, constant)
    node.attributes.pop("allowzero", None)


def _elements(value: ir.Value, symbols: bool) -> list[_Element] | None:
    """Return what is known of each element of a shape, or None where not even their number is."""
    constant = ir.convenience.get_const_tensor(value)
    if constant is not None:
        return [int(number) for number in constant.numpy().reshape(-1)]
    node = value.producer()
    if node is None or node.domain:
        return None
    known = functools.partial(_elements, symbols=symbols)
    inputs = [v for v in node.inputs if v is not None]
    rule = _RULES.get(node.op_type)
    if node.op_type == "Shape":
        rank = _rank(inputs[0])
        if rank is None:
            return None
        axes = range(rank)[slice(_attribute(node, "start", 0), _attribute(node, "end", rank))]
        return [_dim(inputs[0], axis, symbols) for axis in axes]
    found = None if rule is None else rule(node, inputs, known)
    return _unknown(value) if found is None else found


def _unknown(value: ir.Value) -> list[_Element] | None:
    """Return as many unknown elements as the value has."""
    if value.shape is None or len(value.shape) > 1:
        return None
    size = value.shape[0] if len(value.shape) else 1
    return [None] * size if isinstance(size, int) else None


_Known = Callable[[ir.Value], list[_Element] | None]


def _same(node: ir.Node, inputs: list[ir.Value], known: _Known) -> list[_Element] | None:
    return known(inputs[0])


def _concat(node: ir.Node, inputs: list[ir.Value], known: _Known) -> list[_Element] | None:
    found: list[_Element] = []
    for value in inputs:
        part = known(value)
        if part is None:
            return None
        found += part
    return found


def _slice(node: ir.Node, inputs: list[ir.Value], known: _Known) -> list[_Element] | None:
    whole = known(inputs[0])
    bounds = [ir.convenience.get_const_tensor(value) for value in inputs[1:]]
    if whole is None or len(inputs) != len(node.inputs) or any(b is None for b in bounds):
        return None
    numbers = [int(b.numpy().item()) for b in bounds if b is not None]
    return whole[slice(numbers[0], numbers[1], numbers[3] if len(numbers) > 3 else 1)]


def _gather(node: ir.Node, inputs: list[ir.Value], known: _Known) -> list[_Element] | None:
    whole, index = known(inputs[0]), ir.convenience.get_const_tensor(inputs[1])
    if whole is None or index is None:
        return None
    numbers = [int(number) for number in index.numpy().reshape(-1)]
    return [whole[number] for number in numbers]  # the checker bounds them


def _mul(node: ir.Node, inputs: list[ir.Value], known: _Known) -> list[_Element] | None:
    left, right = known(inputs[0]), known(inputs[1])
    if left is None or right is None or len(left) != 1 or len(right) != 1:
        return None
    factors = (*left, *right)
    numbers = [factor for factor in factors if isinstance(factor, int)]
    return [math.prod(numbers) if len(numbers) == 2 else None]


_RULES: dict[str, Callable[[ir.Node, list[ir.Value], _Known], list[_Element] | None]] = {
    "Cast": _same,
    "Concat": _concat,
    "Gather": _gather,
    "Identity": _same,
    "Mul": _mul,
    "Reshape": _same,
    "Slice": _slice,
    "Squeeze": _same,
    "Unsqueeze": _same,
}


def _rank(value: ir.Value) -> int | None:
    if value.shape is not None:
        return len(value.shape)
    node = value.producer()
    if node is None or node.domain:
        return None
    if node.op_type == "Transpose":
        perm = node.attributes.get("perm")
        return None if perm is None else len(perm.as_ints())
    if node.op_type in _STATES and value.index() == 0:
        return 4
    return None


def _dim(value: ir.Value, axis: int, symbols: bool) -> _Element:
    """Return a dimension: its size, its name, or the first value that has it."""
    if value.shape is not None:
        size = value.shape[axis]
        if isinstance(size, int):
            return size
        if symbols and size.value is not None:
            return size.value
    node = value.producer()
    if node is not None and not node.domain:
        perm = node.attributes.get("perm") if node.op_type == "Transpose" else None
        source = node.inputs[0] if node.inputs else None
        if perm is not None and source is not None:
            return _dim(source, perm.as_ints()[axis], symbols)
        if node.op_type in _STATES and value.index() == 0:
            return _recurrent_dim(node, value, axis)
    return (value.name or "", axis)


def _recurrent_dim(node: ir.Node, value: ir.Value, axis: int) -> _Element:
    """Directions and width of the sequence [time, directions, batch, width] are its weights'."""
    recurrence = node.inputs[2]  # [directions, gates * width, width]
    shape = None if recurrence is None else recurrence.shape
    size = {1: 0, 3: 2}.get(axis)
    width = None if shape is None or size is None else shape[size]
    if isinstance(width, int):
        return width
    return (value.name or "", axis)


def _attribute(node: ir.Node, name: str, default: int) -> int:
    found = node.attributes.get(name)
    return default if found is None else found.as_int()
