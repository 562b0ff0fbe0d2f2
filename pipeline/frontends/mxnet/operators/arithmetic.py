"""Two operands: element by element, with broadcasting, or with a number.

Source: MXNet ``src/operator/tensor/elemwise_binary_*``, ``mshadow_op.h``; the CamelCase names are
those of 0.8 and before.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from onnxsmith.pipeline.frontends.mxnet.call import Call, Family, Operator
from onnxsmith.pipeline.frontends.mxnet.graph import Graph
from onnxsmith.pipeline.frontends.mxnet.operators.common import keep_loose

Rule = Callable[[Graph, ir.Value, ir.Value], ir.Value]


def _node(op_type: str) -> Rule:
    def rule(graph: Graph, left: ir.Value, right: ir.Value) -> ir.Value:
        return graph.add(op_type, [left, right])

    return rule


def _compare(op_type: str, *, negate: bool = False) -> Rule:
    """Comparisons give 1 or 0 in the type of the operands."""

    def rule(graph: Graph, left: ir.Value, right: ir.Value) -> ir.Value:
        result = graph.add(op_type, [left, right])
        if negate:
            result = graph.add("Not", [result])
        return graph.cast(result, left.dtype or ir.DataType.FLOAT)

    return rule


def _logical(op_type: str) -> Rule:
    def rule(graph: Graph, left: ir.Value, right: ir.Value) -> ir.Value:
        both = [graph.cast(value, ir.DataType.BOOL) for value in (left, right)]
        return graph.cast(graph.add(op_type, both), left.dtype or ir.DataType.FLOAT)

    return rule


def _modulo(graph: Graph, left: ir.Value, right: ir.Value) -> ir.Value:
    """``x - floor(x / y) y``, which has the sign of y; 0 where y is 0."""
    if left.dtype is not None and not left.dtype.is_floating_point():
        return graph.add("Mod", [left, right])
    rest = graph.add("Mod", [left, right], {"fmod": 1})  # has the sign of x, and no rounding
    other = graph.add("Less", [graph.add("Mul", [rest, right]), graph.scalar(0.0, right, "zero")])
    rest = graph.add("Where", [other, graph.add("Add", [rest, right]), rest])
    zero = graph.scalar(0.0, right, "zero")
    return graph.add("Where", [graph.add("Equal", [right, zero]), zero, rest])


def _hypotenuse(graph: Graph, left: ir.Value, right: ir.Value) -> ir.Value:
    squares = [graph.add("Mul", [value, value]) for value in (left, right)]
    return graph.add("Sqrt", [graph.add("Add", squares)])


_RULES: dict[str, Rule] = {
    "add": _node("Add"),
    "sub": _node("Sub"),
    "mul": _node("Mul"),
    "div": _node("Div"),
    "mod": _modulo,
    "power": _node("Pow"),
    "maximum": _node("Max"),
    "minimum": _node("Min"),
    "hypot": _hypotenuse,
    "equal": _compare("Equal"),
    "not_equal": _compare("Equal", negate=True),
    "greater": _compare("Greater"),
    "greater_equal": _compare("GreaterOrEqual"),
    "lesser": _compare("Less"),
    "lesser_equal": _compare("LessOrEqual"),
    "logical_and": _logical("And"),
    "logical_or": _logical("Or"),
    "logical_xor": _logical("Xor"),
}


def _pair(name: str) -> Operator:
    """Return the operator of two arrays."""

    def convert(call: Call) -> ir.Value:
        left, right = call[0], call[1]
        loose = call.graph.loose
        # Initial states of zeros, whose batch is not written, need not be computed with.
        if name == "mul" and (left in loose or right in loose) and _are_zeros(call):
            return left if left in loose and _is_zeros(call, left) else right
        if name == "add" and left in loose and _is_zeros(call, left):
            return right
        if name in ("add", "sub") and right in loose and _is_zeros(call, right):
            return left
        return keep_loose(call, _RULES[name](call.graph, left, right))

    return Operator(convert)


def _are_zeros(call: Call) -> bool:
    return any(value in call.graph.loose and _is_zeros(call, value) for value in (call[0], call[1]))


def _is_zeros(call: Call, value: ir.Value) -> bool:
    return value in call.graph.zeros


def _with_number(name: str, *, reverse: bool = False) -> Operator:
    """Return the operator of an array and a number, or of a number and an array."""

    def convert(call: Call) -> ir.Value:
        x = call[0]
        scalar = call.attrs.number("scalar", 1.0)
        if name in ("mul", "div") and scalar == 1.0 and not reverse:
            return x
        if name in ("add", "sub") and scalar == 0.0 and not reverse:
            return x
        if name == "power" and scalar == 2.0 and not reverse:
            return call.graph.add("Mul", [x, x])
        if reverse and name == "div" and scalar == 1.0 and _is_float(x):
            return call.graph.add("Reciprocal", [x])
        number = call.graph.scalar(scalar, x)
        operands = (number, x) if reverse else (x, number)
        return keep_loose(call, _RULES[name](call.graph, *operands))

    return Operator(convert)


def _is_float(value: ir.Value) -> bool:
    return value.dtype is not None and value.dtype.is_floating_point()


def add_n(call: Call) -> ir.Value:
    """The sum of any number of arrays."""
    values = [call[number] for number in range(len(call.inputs))]
    if not values:
        raise call.error("it has no inputs")
    if len(values) == 1:
        return values[0]
    if len(values) == 2:
        return call.graph.add("Add", values)
    return call.graph.add("Sum", values)


def smooth_l1(call: Call) -> ir.Value:
    """``(s x)^2 / 2`` where ``|x| < 1 / s^2``, else ``|x| - 1 / (2 s^2)``."""
    graph, x = call.graph, call[0]
    square = call.attrs.number("scalar", 1.0) ** 2
    size = graph.add("Abs", [x])
    inner = graph.add("Mul", [graph.add("Mul", [x, x]), graph.scalar(square / 2, x, "half")])
    outer = graph.add("Sub", [size, graph.scalar(0.5 / square if square else 0.0, x, "offset")])
    bound = graph.scalar(1 / square if square else 0.0, x, "bound")
    return graph.add("Where", [graph.add("Less", [size, bound]), inner, outer])


# Each name with what it stands in for; the second name of 0.8, then numpy's, where there are.
_CAMEL = {
    "add": ("_Plus", "_plus", "_add", "_grad_add"),
    "sub": ("_Minus", "_minus", "_sub"),
    "mul": ("_Mul", "_mul"),
    "div": ("_Div", "_div"),
    "mod": ("_Mod", "_mod"),
    "power": ("_Power", "_power"),
    "maximum": ("_Maximum", "_maximum"),
    "minimum": ("_Minimum", "_minimum"),
    "hypot": ("_Hypot", "_hypot"),
    "equal": ("_Equal", "_equal"),
    "not_equal": ("_Not_Equal", "_not_equal"),
    "greater": ("_Greater", "_greater"),
    "greater_equal": ("_Greater_Equal", "_greater_equal"),
    "lesser": ("_Lesser", "_lesser"),
    "lesser_equal": ("_Lesser_Equal", "_lesser_equal"),
    "logical_and": ("_Logical_And", "_logical_and"),
    "logical_or": ("_Logical_Or", "_logical_or"),
    "logical_xor": ("_Logical_Xor", "_logical_xor"),
}
_SCALAR = {
    "add": ("_PlusScalar", "_plus_scalar", "_scatter_plus_scalar"),
    "sub": ("_MinusScalar", "_minus_scalar", "_scatter_minus_scalar"),
    "mul": ("_MulScalar", "_mul_scalar"),
    "div": ("_DivScalar", "_div_scalar"),
    "mod": ("_ModScalar", "_mod_scalar"),
    "power": ("_PowerScalar", "_power_scalar"),
    "maximum": ("_MaximumScalar", "_maximum_scalar"),
    "minimum": ("_MinimumScalar", "_minimum_scalar"),
    "hypot": ("_HypotScalar", "_hypot_scalar"),
    "equal": ("_EqualScalar", "_equal_scalar"),
    "not_equal": ("_NotEqualScalar", "_not_equal_scalar"),
    "greater": ("_GreaterScalar", "_greater_scalar"),
    "greater_equal": ("_GreaterEqualScalar", "_greater_equal_scalar"),
    "lesser": ("_LesserScalar", "_lesser_scalar"),
    "lesser_equal": ("_LesserEqualScalar", "_lesser_equal_scalar"),
    "logical_and": ("_LogicalAndScalar", "_logical_and_scalar"),
    "logical_or": ("_LogicalOrScalar", "_logical_or_scalar"),
    "logical_xor": ("_LogicalXorScalar", "_logical_xor_scalar"),
}
_REVERSED = {
    "sub": ("_RMinusScalar", "_rminus_scalar"),
    "div": ("_RDivScalar", "_rdiv_scalar"),
    "mod": ("_RModScalar", "_rmod_scalar"),
    "power": ("_RPowerScalar", "_rpower_scalar"),
}
_BROADCAST = {"add": ("broadcast_plus",), "sub": ("broadcast_minus",)}
_ELEMENTWISE = ("add", "sub", "mul", "div")

OPERATORS: Family = {
    **{name: _pair(rule) for rule, names in _CAMEL.items() for name in names},
    **{f"broadcast_{rule}": _pair(rule) for rule in _RULES},
    **{name: _pair(rule) for rule, names in _BROADCAST.items() for name in names},
    **{f"elemwise_{rule}": _pair(rule) for rule in _ELEMENTWISE},
    **{name: _with_number(rule) for rule, names in _SCALAR.items() for name in names},
    **{
        name: _with_number(rule, reverse=True)
        for rule, names in _REVERSED.items()
        for name in names
    },
    "add_n": Operator(add_n),
    "ElementWiseSum": Operator(add_n, outputs=("output",)),
    "smooth_l1": Operator(smooth_l1),
    "_npx_smooth_l1": Operator(smooth_l1),
}
