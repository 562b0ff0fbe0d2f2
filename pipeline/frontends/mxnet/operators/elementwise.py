"""One operand, element by element.

Source: MXNet ``src/operator/tensor/elemwise_unary_op_*.cc``, ``mshadow_op.h``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import onnx_ir as ir

from onnxsmith.pipeline.frontends.mxnet.call import Call, Family, Operator
from onnxsmith.pipeline.frontends.mxnet.graph import Graph
from onnxsmith.pipeline.frontends.mxnet.operators.common import keep_loose

Rule = Callable[[Graph, ir.Value], ir.Value]


def _chain(*op_types: str) -> Rule:
    """Apply nodes one after the other."""

    def rule(graph: Graph, x: ir.Value) -> ir.Value:
        for op_type in op_types:
            x = graph.add(op_type, [x])
        return x

    return rule


def _times(factor: float, *before: str) -> Rule:
    """Multiply by a number what the nodes give."""

    def rule(graph: Graph, x: ir.Value) -> ir.Value:
        y = _chain(*before)(graph, x)
        return graph.add("Mul", [y, graph.scalar(factor, x, "factor")])

    return rule


def _square(graph: Graph, x: ir.Value) -> ir.Value:
    return graph.add("Mul", [x, x])


def _log1p(graph: Graph, x: ir.Value) -> ir.Value:
    return graph.add("Log", [graph.add("Add", [x, graph.scalar(1.0, x, "one")])])


def _expm1(graph: Graph, x: ir.Value) -> ir.Value:
    """``exp(x) - 1`` as ``2 sinh(x / 2) exp(x / 2)``, which keeps the digits of small x."""
    half = graph.add("Mul", [x, graph.scalar(0.5, x, "half")])
    product = graph.add("Mul", [graph.add("Sinh", [half]), graph.add("Exp", [half])])
    return graph.add("Mul", [product, graph.scalar(2.0, x, "two")])


def _cube_root(graph: Graph, x: ir.Value) -> ir.Value:
    third = graph.scalar(1 / 3, x, "third")
    root = graph.add("Pow", [graph.add("Abs", [x]), third])
    return graph.add("Mul", [graph.add("Sign", [x]), root])


def _truncate(graph: Graph, x: ir.Value) -> ir.Value:
    """Toward zero."""
    size = graph.add("Floor", [graph.add("Abs", [x])])
    return graph.add("Mul", [graph.add("Sign", [x]), size])


def _round(graph: Graph, x: ir.Value) -> ir.Value:
    """To the nearest, halves away from zero; ONNX's Round takes halves to even."""
    half = graph.scalar(0.5, x, "half")
    size = graph.add("Floor", [graph.add("Add", [graph.add("Abs", [x]), half])])
    return graph.add("Mul", [graph.add("Sign", [x]), size])


def _rint(graph: Graph, x: ir.Value) -> ir.Value:
    """To the nearest, halves down: MXNet compares the distances with <=."""
    return graph.add("Ceil", [graph.add("Sub", [x, graph.scalar(0.5, x, "half")])])


def _logical_not(graph: Graph, x: ir.Value) -> ir.Value:
    zero = graph.scalar(0.0, x, "zero")
    return graph.cast(graph.add("Equal", [x, zero]), x.dtype or ir.DataType.FLOAT)


def _convert(rule: Rule) -> Operator:
    def convert(call: Call) -> ir.Value:
        return keep_loose(call, rule(call.graph, call[0]))

    return Operator(convert)


def identity(call: Call) -> ir.Value:
    """The input itself."""
    return call[0]


def cast(call: Call) -> ir.Value:
    """Another element type; to bool and back as 0 and 1."""
    if not call.attrs.has("dtype"):
        raise call.error("it does not say to which element type")
    return keep_loose(call, call.graph.cast(call[0], call.attrs.dtype("dtype", ir.DataType.FLOAT)))


def amp_multicast(call: Call) -> list[ir.Value]:
    """All inputs in the widest of their float types, or the narrowest."""
    values = [call[number] for number in range(len(call.inputs))]
    narrow = call.attrs.flag("cast_narrow", False)
    types = sorted((v.dtype or ir.DataType.FLOAT for v in values), key=lambda t: t.bitwidth)
    return [call.graph.cast(value, types[0 if narrow else -1]) for value in values]


def clip(call: Call) -> ir.Value:
    """Within ``a_min`` and ``a_max``."""
    graph, x = call.graph, call[0]
    low = graph.scalar(call.attrs.number("a_min", -math.inf), x, "low")
    high = graph.scalar(call.attrs.number("a_max", math.inf), x, "high")
    return graph.add("Clip", [x, low, high])


def quadratic(call: Call) -> ir.Value:
    """``a x^2 + b x + c``."""
    graph, x = call.graph, call[0]
    a, b, c = (graph.scalar(call.attrs.number(name, 0.0), x, name) for name in "abc")
    inner = graph.add("Add", [graph.add("Mul", [a, x]), b])
    return graph.add("Add", [graph.add("Mul", [inner, x]), c])


def div_sqrt_dim(call: Call) -> ir.Value:
    """``x / sqrt(d)``, d the size of the last axis."""
    graph, x = call.graph, call[0]
    size = call.dims()[-1] if call.rank() else 1
    if isinstance(size, int):
        return graph.add("Div", [x, graph.scalar(math.sqrt(size), x, "root")])
    rank = call.rank()
    length = graph.cast(graph.sizes(x, rank - 1, rank), x.dtype or ir.DataType.FLOAT)
    return graph.add("Div", [x, graph.add("Sqrt", [length])])


_RULES: dict[str, Rule] = {
    "abs": _chain("Abs"),
    "arccos": _chain("Acos"),
    "arccosh": _chain("Acosh"),
    "arcsin": _chain("Asin"),
    "arcsinh": _chain("Asinh"),
    "arctan": _chain("Atan"),
    "arctanh": _chain("Atanh"),
    "cbrt": _cube_root,
    "ceil": _chain("Ceil"),
    "cos": _chain("Cos"),
    "cosh": _chain("Cosh"),
    "degrees": _times(180 / math.pi),
    "erf": _chain("Erf"),
    "exp": _chain("Exp"),
    "expm1": _expm1,
    "fix": _truncate,
    "floor": _chain("Floor"),
    "log": _chain("Log"),
    "log10": _times(1 / math.log(10), "Log"),
    "log1p": _log1p,
    "log2": _times(1 / math.log(2), "Log"),
    "logical_not": _logical_not,
    "negative": _chain("Neg"),
    "radians": _times(math.pi / 180),
    "rcbrt": lambda graph, x: graph.add("Reciprocal", [_cube_root(graph, x)]),
    "reciprocal": _chain("Reciprocal"),
    "relu": _chain("Relu"),
    "rint": _rint,
    "round": _round,
    "rsqrt": _chain("Sqrt", "Reciprocal"),
    "sigmoid": _chain("Sigmoid"),
    "sign": _chain("Sign"),
    "sin": _chain("Sin"),
    "sinh": _chain("Sinh"),
    "softsign": _chain("Softsign"),
    "sqrt": _chain("Sqrt"),
    "square": _square,
    "tan": _chain("Tan"),
    "tanh": _chain("Tanh"),
    "trunc": _truncate,
}
_IDENTITIES = (
    "_copy",
    "identity",
    "BlockGrad",
    "stop_gradient",
    "MakeLoss",
    "Dropout",
    "_npx_dropout",
    "_CrossDeviceCopy",
    "_copyto",
    "IdentityAttachKLSparseReg",
    "_contrib_gradientmultiplier",
    "cast_storage",
)

OPERATORS: Family = {
    **{name: _convert(rule) for name, rule in _RULES.items()},
    **{f"_npx_{name}": _convert(_RULES[name]) for name in ("relu", "sigmoid", "erf")},
    **{name: Operator(identity, outputs=("output",)) for name in _IDENTITIES},
    "make_loss": Operator(identity, outputs=("loss",)),
    "_identity_with_attr_like_rhs": Operator(identity, unused=frozenset({1})),
    "_contrib_round_ste": _convert(_round),
    "_contrib_sign_ste": _convert(_chain("Sign")),
    "Cast": Operator(cast, outputs=("output",)),
    "cast": Operator(cast),
    "_npx_cast": Operator(cast),
    "amp_cast": Operator(cast),
    "amp_multicast": Operator(amp_multicast),
    "clip": Operator(clip),
    "_contrib_quadratic": Operator(quadratic),
    "_contrib_div_sqrt_dim": Operator(div_sqrt_dim),
}
