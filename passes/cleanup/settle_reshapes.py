"""Make targets of reshapes constant where they only keep dimensions."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult

# An element of a shape: its size, what dimension it is (of one value, or by its name), or None.
Element = int | tuple[str, int] | str | None
_STATES = ("LSTM", "GRU", "RNN")


@dataclass(frozen=True)
class SettleReshapes(Pass):
    """Make targets of reshapes constant where they only keep dimensions.

    ``Reshape(x, Concat(Shape(x)[:1], [-1])) = Reshape(x, [0, -1])``: a dimension that is kept in
    its place is written as 0, and one element that is not known as -1. Dimensions of one name are
    of one size, as ONNX defines.

    What is left alone: targets with two unknown elements that move, and targets that hold a 0.
    """

    name: ClassVar[str] = "settle-reshapes"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Settle the reshapes of the graph and its subgraphs; shapes should be inferred."""
        count = 0
        for graph in model.graphs():
            for node in list(graph):
                if node.domain in ("", "ai.onnx") and node.op_type == "Reshape":
                    count += settle_reshape(node, symbols=True)
        return PassResult(model, bool(count), {"settled": count})


def settle_reshape(node: ir.Node, *, symbols: bool) -> bool:
    """Make the target of a Reshape constant, in place; return whether that was possible.

    Args:
        node: The node.
        symbols: Whether dimensions of one name are of one size.
    """
    data, target = node.inputs[:2]
    if data is None or target is None or ir.convenience.get_const_tensor(target) is not None:
        return False
    elements = shape_elements(target, symbols)
    if elements is None or 0 in elements:  # 0 would be read as: keep
        return False
    dims: list[Element] = []
    for axis, element in enumerate(elements):
        kept = element is not None and axis < (_rank(data) or 0)
        same = kept and not isinstance(element, int) and element == dimension(data, axis, symbols)
        dims.append(0 if same else element if isinstance(element, int) else -1)
    if dims.count(-1) > 1:
        return False
    graph = node.graph
    assert graph is not None  # it was reached through its graph
    array = np.array(dims, np.int64)
    constant = ir.Value(const_value=ir.tensor(array), shape=ir.Shape(array.shape))
    constant.type = ir.TensorType(ir.DataType.INT64)
    constant.name = f"{node.outputs[0].name}_target"
    graph.register_initializer(constant)
    node.replace_input_with(1, constant)
    node.attributes.pop("allowzero", None)
    return True


def shape_elements(value: ir.Value, symbols: bool) -> list[Element] | None:
    """Return what is known of each element of a computed shape.

    Args:
        value: The shape, as a Reshape takes it.
        symbols: Whether dimensions of one name are of one size.

    Returns:
        For each element its size, what dimension it is, or None; None where not even their number
        is known.
    """
    constant = ir.convenience.get_const_tensor(value)
    if constant is not None:
        return [int(number) for number in constant.numpy().reshape(-1)]
    node = value.producer()
    if node is None or node.domain:
        return None
    known = functools.partial(shape_elements, symbols=symbols)
    inputs = [v for v in node.inputs if v is not None]
    rule = _RULES.get(node.op_type)
    if node.op_type == "Shape":
        rank = _rank(inputs[0])
        if rank is None:
            return None
        axes = range(rank)[slice(_attribute(node, "start", 0), _attribute(node, "end", rank))]
        return [dimension(inputs[0], axis, symbols) for axis in axes]
    found = None if rule is None else rule(node, inputs, known)
    return _unknown(value) if found is None else found


def _unknown(value: ir.Value) -> list[Element] | None:
    """Return as many unknown elements as the value has."""
    if value.shape is None or len(value.shape) > 1:
        return None
    size = value.shape[0] if len(value.shape) else 1
    return [None] * size if isinstance(size, int) else None


_Known = Callable[[ir.Value], list[Element] | None]


def _same(node: ir.Node, inputs: list[ir.Value], known: _Known) -> list[Element] | None:
    return known(inputs[0])


def _concat(node: ir.Node, inputs: list[ir.Value], known: _Known) -> list[Element] | None:
    found: list[Element] = []
    for value in inputs:
        part = known(value)
        if part is None:
            return None
        found += part
    return found


def _slice(node: ir.Node, inputs: list[ir.Value], known: _Known) -> list[Element] | None:
    whole = known(inputs[0])
    bounds = [ir.convenience.get_const_tensor(value) for value in inputs[1:]]
    if whole is None or len(inputs) != len(node.inputs) or any(b is None for b in bounds):
        return None
    numbers = [int(b.numpy().item()) for b in bounds if b is not None]
    return whole[slice(numbers[0], numbers[1], numbers[3] if len(numbers) > 3 else 1)]


def _gather(node: ir.Node, inputs: list[ir.Value], known: _Known) -> list[Element] | None:
    whole, index = known(inputs[0]), ir.convenience.get_const_tensor(inputs[1])
    if whole is None or index is None:
        return None
    numbers = [int(number) for number in index.numpy().reshape(-1)]
    return [whole[number] for number in numbers]  # the checker bounds them


def _mul(node: ir.Node, inputs: list[ir.Value], known: _Known) -> list[Element] | None:
    left, right = known(inputs[0]), known(inputs[1])
    if left is None or right is None or len(left) != 1 or len(right) != 1:
        return None
    factors = (*left, *right)
    numbers = [factor for factor in factors if isinstance(factor, int)]
    return [math.prod(numbers) if len(numbers) == 2 else None]


_RULES: dict[str, Callable[[ir.Node, list[ir.Value], _Known], list[Element] | None]] = {
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


def dimension(value: ir.Value, axis: int, symbols: bool) -> Element:
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
            return dimension(source, perm.as_ints()[axis], symbols)
        if node.op_type in _STATES and value.index() == 0:
            return _recurrent_dim(node, value, axis)
    return (value.name or "", axis)


def _recurrent_dim(node: ir.Node, value: ir.Value, axis: int) -> Element:
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
