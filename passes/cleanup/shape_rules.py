"""How the operators of shape arithmetic act on single elements."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import onnx_ir as ir

from onnxsmith.passes.match import input_of, int_attribute, ints_attribute, ints_of

MAX_ELEMENTS = 1024
"""Values of more elements are not followed."""

Element = int | str | tuple[ir.Value, int] | None
"""An element of a shape: its size, what dimension it is (by name, or of one value), or None."""

Elements = list[Element] | None
"""The elements of a value of rank 0 or 1; None where not even their number is known."""


def product(elements: Iterable[Element]) -> Element:
    """Return the product of elements, where it is a number or one of them."""
    number, names = 1, []
    for element in elements:
        if isinstance(element, int):
            number *= element
        else:
            names.append(element)
    if not names or number == 0:
        return number
    return names[0] if len(names) == 1 and number == 1 else None


def _is_size(element: Element) -> bool:
    """Tell whether an element is a dimension, so that it cannot be negative."""
    return isinstance(element, (str, tuple))


_Inputs = list[Elements]


def _same(node: ir.Node, inputs: _Inputs) -> Elements:
    return inputs[0]


def _cast(node: ir.Node, inputs: _Inputs) -> Elements:
    to = int_attribute(node, "to")
    if inputs[0] is None or to not in (ir.DataType.INT64, ir.DataType.INT32):
        return None
    fits = 1 << (31 if to == ir.DataType.INT32 else 63)
    if any(isinstance(e, int) and not -fits <= e < fits for e in inputs[0]):
        return None
    return inputs[0]


def _reshape(node: ir.Node, inputs: _Inputs) -> Elements:
    target = inputs[1] if len(inputs) == 2 else None  # before opset 5 it is an attribute
    return inputs[0] if target is not None and len(target) <= 1 else None


def _concat(node: ir.Node, inputs: _Inputs) -> Elements:
    found: list[Element] = []
    for part in inputs:
        if part is None:
            return None
        found += part
    return found


def _slice(node: ir.Node, inputs: _Inputs) -> Elements:
    if inputs[0] is None:
        return None
    if len(inputs) == 1:  # before opset 10
        starts, ends = ints_attribute(node, "starts"), ints_attribute(node, "ends")
        return None if starts is None or ends is None else inputs[0][starts[0] : ends[0]]
    start, end, _, step = [
        *(_number(part) for part in inputs[1:3]),
        0,
        1 if input_of(node, 4) is None else _number(inputs[4]),
    ]
    if start is None or end is None or not step:
        return None
    if step < 0 and end < -len(inputs[0]):
        return inputs[0][start::step]
    return inputs[0][start:end:step]


def _number(elements: Elements) -> int | None:
    (first,) = elements if elements is not None and len(elements) == 1 else [None]
    return first if isinstance(first, int) else None


def _gather(node: ir.Node, inputs: _Inputs) -> Elements:
    whole, indices = inputs[0], inputs[1]
    if whole is None or indices is None or input_of(node, 0) is None:
        return None
    found: list[Element] = []
    for index in indices:
        if not isinstance(index, int) or not -len(whole) <= index < len(whole):
            return None
        found.append(whole[index])
    return found


def _pairwise(
    rule: Callable[[Element, Element], Element],
) -> Callable[[ir.Node, _Inputs], Elements]:
    """Return the rule of an operator on two inputs that broadcast."""

    def evaluate(node: ir.Node, inputs: _Inputs) -> Elements:
        left, right = inputs if len(inputs) == 2 else (None, None)
        if left is None or right is None:
            return None
        if len(left) != len(right) and 1 not in (len(left), len(right)):
            return None
        size = max(len(left), len(right)) if left and right else 0
        left, right = (part * size if len(part) == 1 else part for part in (left, right))
        return [rule(a, b) for a, b in zip(left, right, strict=True)]

    return evaluate


def _add(a: Element, b: Element) -> Element:
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    return a if b == 0 else b if a == 0 else None


def _sub(a: Element, b: Element) -> Element:
    if isinstance(a, int) and isinstance(b, int):
        return a - b
    return a if b == 0 else 0 if a is not None and a == b else None


def _mul(a: Element, b: Element) -> Element:
    if isinstance(a, int) and isinstance(b, int):
        return a * b
    if 0 in (a, b):
        return 0
    return a if b == 1 else b if a == 1 else None


def _div(a: Element, b: Element) -> Element:
    if isinstance(a, int) and isinstance(b, int):
        return (
            None if b == 0 else int(math.copysign(1, a) * math.copysign(1, b)) * (abs(a) // abs(b))
        )
    return a if b == 1 else None


def _mod(a: Element, b: Element) -> Element:
    if isinstance(a, int) and isinstance(b, int) and b > 0 and a >= 0:
        return a % b
    return 0 if b == 1 else None


def _equal(a: Element, b: Element) -> Element:
    if isinstance(a, int) and isinstance(b, int):
        return int(a == b)
    for one, other in ((a, b), (b, a)):
        if _is_size(one) and isinstance(other, int) and other < 0:
            return 0
    return 1 if a is not None and a == b else None


def _less(a: Element, b: Element) -> Element:
    if isinstance(a, int) and isinstance(b, int):
        return int(a < b)
    if _is_size(a) and isinstance(b, int) and b <= 0:
        return 0
    return 1 if _is_size(b) and isinstance(a, int) and a < 0 else None


def _greater(a: Element, b: Element) -> Element:
    return _less(b, a)


def _max(a: Element, b: Element) -> Element:
    if isinstance(a, int) and isinstance(b, int):
        return max(a, b)
    for one, other in ((a, b), (b, a)):
        if _is_size(one) and isinstance(other, int) and other <= 0:
            return one
    return a if a == b else None


def _min(a: Element, b: Element) -> Element:
    if isinstance(a, int) and isinstance(b, int):
        return min(a, b)
    return a if a == b else None


def _where(node: ir.Node, inputs: _Inputs) -> Elements:
    choose, left, right = inputs
    if choose is None or left is None or right is None:
        return None
    size = max(len(part) for part in (choose, left, right))
    if not all(len(part) in (1, size) for part in (choose, left, right)):
        return None
    parts = [part * size if len(part) == 1 else part for part in (choose, left, right)]
    return [
        (a if c else b) if isinstance(c, int) else (a if a == b else None)
        for c, a, b in zip(*parts, strict=True)
    ]


def _constant_of_shape(node: ir.Node, inputs: _Inputs) -> Elements:
    size = _number(inputs[0])
    value = node.attributes.get("value")
    if size is None or not 0 <= size <= MAX_ELEMENTS or (value is not None and value.is_ref()):
        return None
    tensor = None if value is None else value.as_tensor()
    if tensor is None or tensor.dtype not in (ir.DataType.INT64, ir.DataType.INT32):
        return None
    return [int(tensor.numpy().reshape(-1)[0])] * size


def _range(node: ir.Node, inputs: _Inputs) -> Elements:
    start, limit, step = (_number(part) for part in inputs)
    if start is None or limit is None or not step or (limit - start) // step > MAX_ELEMENTS:
        return None
    return list(range(start, limit, step))


def _reduce_product(node: ir.Node, inputs: _Inputs) -> Elements:
    return None if inputs[0] is None else [product(inputs[0])]


def _expand(node: ir.Node, inputs: _Inputs) -> Elements:
    target = ints_of(input_of(node, 1))
    if inputs[0] is None or target is None or len(target) != 1:
        return None
    size = target[0]
    if len(inputs[0]) != 1 or not 0 < size <= MAX_ELEMENTS:
        return inputs[0] if size in (1, len(inputs[0])) else None
    return inputs[0] * size


def _absolute(node: ir.Node, inputs: _Inputs) -> Elements:
    if inputs[0] is None:
        return None
    return [abs(e) if isinstance(e, int) else e for e in inputs[0]]


def _negative(node: ir.Node, inputs: _Inputs) -> Elements:
    if inputs[0] is None:
        return None
    return [-e if isinstance(e, int) else None for e in inputs[0]]


RULES: dict[str, Callable[[ir.Node, _Inputs], Elements]] = {
    "Abs": _absolute,
    "Add": _pairwise(_add),
    "Cast": _cast,
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Div": _pairwise(_div),
    "Equal": _pairwise(_equal),
    "Expand": _expand,
    "Gather": _gather,
    "Greater": _pairwise(_greater),
    "Identity": _same,
    "Less": _pairwise(_less),
    "Max": _pairwise(_max),
    "Min": _pairwise(_min),
    "Mod": _pairwise(_mod),
    "Mul": _pairwise(_mul),
    "Neg": _negative,
    "Range": _range,
    "ReduceProd": _reduce_product,
    "Reshape": _reshape,
    "Slice": _slice,
    "Squeeze": _same,
    "Sub": _pairwise(_sub),
    "Unsqueeze": _same,
    "Where": _where,
}
"""Operator to the rule for the elements of its first output, from those of its inputs."""
