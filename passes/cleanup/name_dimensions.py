"""Say by name which sizes of values are those of others."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.cleanup.shape_rules import Element, Elements
from onnxsmith.passes.cleanup.shape_values import ShapeValues
from onnxsmith.passes.match import STANDARD, input_of, int_attribute, ints_attribute, ints_of

_SAME = (
    "Cast", "Clip", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "Identity", "IsNaN",
    "LayerNormalization", "LeakyRelu", "Log", "LogSoftmax", "Neg", "Not", "RMSNormalization",
    "Reciprocal", "Relu", "Sigmoid", "SimplifiedLayerNormalization", "Softmax", "Softplus", "Sqrt",
    "Tanh",
)  # fmt: skip
_BROADCAST = (
    "Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min",
    "Mod", "Mul", "Or", "Pow", "Sub", "Where", "Xor",
)  # fmt: skip

_Dims = Sequence[Element]
_Rule = Callable[[ir.Node, list[Elements], ShapeValues], Elements]


@dataclass(frozen=True)
class NameDimensions(Pass):
    """Say by name which sizes of values are those of others.

    ``Expand(x, Concat(Shape(y)[:1], ...))`` is as large in its first dimension as y. Such sizes are
    followed from the inputs on through arithmetic of shapes, reshapes, products and pointwise
    operators, and written at the values, so that passes behind this one can tell that two sizes are
    one. ONNX's own inference follows numbers only, and gives each size that it cannot compute a
    name of its own.

    Shapes should be inferred. What is left alone: sizes that are numbers, or names of the model's
    inputs; sizes of values with no named one among their inputs; the model's outputs.
    """

    name: ClassVar[str] = "name-dimensions"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Name in the graph and its subgraphs."""
        values, count = ShapeValues(), 0
        given = _names(model)
        for graph in model.graphs():
            for node in graph:
                rule = _RULES.get(node.op_type) if node.domain in STANDARD else None
                shape = node.outputs[0].shape if rule is not None and node.outputs else None
                if rule is None or shape is None or all(_is_given(d, given) for d in shape):
                    continue
                if node.outputs[0].is_graph_output():
                    continue  # the signature stays
                sources = [None if v is None else values.dimensions(v) for v in node.inputs]
                dims = rule(node, sources, values)
                if dims is not None and len(dims) == len(shape):
                    count += _write(node.outputs[0], shape, dims, given)
        return PassResult(model, bool(count), {"named": count})


def _names(model: ir.Model) -> frozenset[str]:
    """Return the names of the sizes of the model's inputs."""
    return frozenset(
        size.value
        for value in model.graph.inputs
        for size in (value.shape if value.shape is not None else ())
        if isinstance(size, ir.SymbolicDim) and size.value is not None
    )


def _is_given(size: int | ir.SymbolicDim, given: frozenset[str]) -> bool:
    return isinstance(size, int) or size.value in given


def _write(value: ir.Value, shape: ir.Shape, dims: _Dims, given: frozenset[str]) -> bool:
    new = [
        size if _is_given(size, given) or not (isinstance(dim, int) or dim in given) else dim
        for size, dim in zip(shape, dims, strict=True)
    ]
    if all(a is b for a, b in zip(new, shape, strict=True)):
        return False
    value.shape = ir.Shape(
        [dim if isinstance(dim, (int, str, ir.SymbolicDim)) else None for dim in new]
    )
    return True


def _same(node: ir.Node, inputs: list[Elements], values: ShapeValues) -> Elements:
    return inputs[0]


def _broadcast(node: ir.Node, inputs: list[Elements], values: ShapeValues) -> Elements:
    return _joined([dims for dims in inputs if dims is not None]) if None not in inputs else None


def _joined(shapes: Sequence[_Dims]) -> Elements:
    """Return the sizes that shapes broadcast to."""
    rank = max((len(dims) for dims in shapes), default=0)
    found: list[Element] = []
    for axis in range(-rank, 0):
        sizes = {dims[axis] for dims in shapes if len(dims) >= -axis} - {1}
        numbers: set[Element] = {size for size in sizes if isinstance(size, int)}
        one = list(numbers or sizes)
        found.append(1 if not sizes else one[0] if len(one) == 1 else None)
    return found


def _expand(node: ir.Node, inputs: list[Elements], values: ShapeValues) -> Elements:
    target = values.elements(input_of(node, 1))
    return None if inputs[0] is None or target is None else _joined([inputs[0], target])


def _reshape(node: ir.Node, inputs: list[Elements], values: ShapeValues) -> Elements:
    given, target = inputs[0], values.elements(input_of(node, 1))
    if given is None or target is None or (0 in target and int_attribute(node, "allowzero", 0)):
        return None
    dims = [given[axis] if e == 0 and axis < len(given) else e for axis, e in enumerate(target)]
    if dims.count(-1) == 1:
        dims[dims.index(-1)] = _rest(given, [dim for dim in dims if dim != -1])
    return dims


def _rest(given: _Dims, taken: _Dims) -> Element:
    """Return what is left of a product of sizes when others are taken from it."""
    names = [size for size in given if not isinstance(size, int)]
    number = math.prod(size for size in given if isinstance(size, int))
    for size in taken:
        if isinstance(size, int):
            if not size or number % size:
                return None
            number //= size
        elif size is not None and size in names:
            names.remove(size)
        else:
            return None
    return number if not names else names[0] if len(names) == 1 and number == 1 else None


def _transpose(node: ir.Node, inputs: list[Elements], values: ShapeValues) -> Elements:
    perm = ints_attribute(node, "perm")
    return None if inputs[0] is None or perm is None else [inputs[0][axis] for axis in perm]


def _axes(node: ir.Node) -> list[int] | None:
    return ints_attribute(node, "axes") if len(node.inputs) < 2 else ints_of(node.inputs[1])


def _unsqueeze(node: ir.Node, inputs: list[Elements], values: ShapeValues) -> Elements:
    axes = _axes(node)
    if inputs[0] is None or axes is None:
        return None
    dims, rank = list(inputs[0]), len(inputs[0]) + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        dims.insert(axis, 1)
    return dims


def _squeeze(node: ir.Node, inputs: list[Elements], values: ShapeValues) -> Elements:
    axes, dims = _axes(node), inputs[0]
    if dims is None or axes is None:
        return None
    gone = {axis % len(dims) for axis in axes}
    return [size for axis, size in enumerate(dims) if axis not in gone]


def _matmul(node: ir.Node, inputs: list[Elements], values: ShapeValues) -> Elements:
    left, right = inputs
    if left is None or right is None or len(left) < 2 or len(right) < 2:
        return None
    outer = _joined([left[:-2], right[:-2]])
    return None if outer is None else [*outer, left[-2], right[-1]]


def _gather(node: ir.Node, inputs: list[Elements], values: ShapeValues) -> Elements:
    data, places = inputs
    axis = int_attribute(node, "axis", 0)
    if data is None or places is None or axis is None:
        return None
    axis %= len(data)
    return [*data[:axis], *places, *data[axis + 1 :]]


def _concat(node: ir.Node, inputs: list[Elements], values: ShapeValues) -> Elements:
    axis, known = int_attribute(node, "axis"), [dims for dims in inputs if dims is not None]
    if axis is None or len(known) != len(inputs) or not known[0]:
        return None
    dims: list[Element] = list(known[0])
    dims[axis % len(dims)] = None
    return dims


def _slice(node: ir.Node, inputs: list[Elements], values: ShapeValues) -> Elements:
    """Keep the sizes of all axes that the model's inference knows to be whole."""
    axes = values.elements(input_of(node, 3))
    if inputs[0] is None or axes is None or any(not isinstance(axis, int) for axis in axes):
        return None
    cut = {axis % len(inputs[0]) for axis in axes if isinstance(axis, int)}
    return [None if axis in cut else size for axis, size in enumerate(inputs[0])]


def _range(node: ir.Node, inputs: list[Elements], values: ShapeValues) -> Elements:
    start, limit, step = (values.elements(v) for v in node.inputs)
    return limit if start == [0] and step == [1] else None


_RULES: dict[str, _Rule] = {
    **dict.fromkeys(_SAME, _same),
    **dict.fromkeys(_BROADCAST, _broadcast),
    "Concat": _concat,
    "Expand": _expand,
    "Gather": _gather,
    "MatMul": _matmul,
    "Range": _range,
    "Reshape": _reshape,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
