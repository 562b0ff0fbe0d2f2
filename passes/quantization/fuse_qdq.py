"""Write rounded values and what computes between them as operators on integers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.base import Effect, Pass, PassContext, PassResult
from onnxsmith.passes.fusion.contrib import DOMAIN, declare, take_over
from onnxsmith.passes.match import (
    all_nodes,
    array_of,
    input_of,
    is_op,
    made_by,
    remove_if_dead,
)
from onnxsmith.passes.quantization.affine import LIMITS
from onnxsmith.passes.quantization.static.operators import ABSORBED, find


@dataclass(frozen=True)
class FuseQdq(Pass):
    """Write rounded values and what computes between them as operators on integers.

    ``QuantizeLinear(Conv(DequantizeLinear(x), DequantizeLinear(w)))`` becomes ``QLinearConv``, and
    so do MatMul, Gemm, Add, Mul, Sigmoid, LeakyRelu, Concat and averages; what only moves numbers
    moves the integers. This is what the runtime makes of such pairs when it loads a model; written
    down, the model loads quicker and runs on runtimes that do not do so. Matrix products whose
    result nobody rounds give floats. All but QLinearConv and QLinearMatMul are operators of
    onnxruntime's.

    What is left alone: products of other than 8 bits, pairs around other operators, and results
    that are also read before they are rounded.

    Source: onnxruntime, ``docs/ContribOperators.md``.
    """

    name: ClassVar[str] = "fuse-qdq"
    effect: ClassVar[Effect] = "approximate"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Fuse in the graph and its subgraphs."""
        fused = sum(_fuse(node) for node in all_nodes(model))
        if fused:
            declare(model)
        return PassResult(model, bool(fused), {"fused": fused})


@dataclass(frozen=True)
class _Integers:
    """A value in integers: what stands for it, and how."""

    value: ir.Value
    scale: ir.Value
    zero: ir.Value

    @property
    def triple(self) -> list[ir.Value]:
        return [self.value, self.scale, self.zero]


# Of what the kernels read and make; biases are int32.
_EIGHT = (ir.DataType.INT8, ir.DataType.UINT8)


@dataclass(frozen=True)
class _Group:
    """A node between pairs: its inputs in integers, and the QuantizeLinear behind each output."""

    node: ir.Node
    inputs: dict[int, _Integers]
    rounding: tuple[ir.Node | None, ...]

    @property
    def output(self) -> list[ir.Value]:
        """The scale and zero point of the first output; empty where it stays in float."""
        node = self.rounding[0]
        return [] if node is None else [v for v in node.inputs[1:] if v is not None]

    def attributes(self, *leave_out: str) -> list[ir.Attr]:
        return [a for a in self.node.attributes.values() if a.name not in leave_out]


def _fuse(node: ir.Node) -> bool:
    operator = find(node)
    if operator is None or node.graph is None:
        return False
    group = _group(node, operator.kind == "move")
    if group is None:
        return False
    if operator.kind == "move":
        new = _moved(group)
    else:
        rule = _RULES.get(node.op_type)
        new = None if rule is None else rule(group)
    if new is None:
        return False
    _take_place(group, new)
    return True


def _group(node: ir.Node, moves: bool) -> _Group | None:
    """Return the group of a node all of whose numbers are in 8 bits, if it has one."""
    inputs = {}
    for index, value in enumerate(node.inputs[:1] if moves else node.inputs):
        if value is None:
            continue
        found = _integers(value)
        if found is None:
            return None
        inputs[index] = found
    return _Group(node, inputs, tuple(_rounding(value, moves) for value in node.outputs))


def _integers(value: ir.Value) -> _Integers | None:
    node = made_by(value, "DequantizeLinear")
    if node is None or len(node.inputs) < 3 or "block_size" in node.attributes:
        return None
    stored, scale, zero = node.inputs
    if stored is None or scale is None or zero is None:
        return None
    known = (*_EIGHT, ir.DataType.INT32)
    return _Integers(stored, scale, zero) if zero.dtype in known else None


def _rounding(value: ir.Value, moves: bool) -> ir.Node | None:
    """Return the QuantizeLinear that alone reads a value, maybe behind a Relu that it replaces."""
    uses = value.uses()
    if len(uses) != 1 or value.is_graph_output():
        return None
    (use,) = uses
    if use.idx != 0:
        return None
    if is_op(use.node, "QuantizeLinear"):
        zero = input_of(use.node, 2)
        return use.node if zero is not None and zero.dtype in _EIGHT else None
    if moves or not is_op(use.node, *ABSORBED):
        return None
    behind = _rounding(use.node.outputs[0], moves=True)
    return behind if behind is not None and _clips(use.node, behind) else None


def _clips(node: ir.Node, rounding: ir.Node) -> bool:
    """Tell whether no integer stands for a number that a Relu or Clip would change."""
    scale, zero = array_of(rounding.inputs[1]), array_of(rounding.inputs[2])
    if scale is None or zero is None or zero.size != 1:
        return False
    least, most = LIMITS[ir.DataType.from_numpy(zero.dtype)]
    if node.op_type == "Relu":
        return int(zero.item()) == least
    low, high = (array_of(input_of(node, i)) for i in (1, 2))
    if input_of(node, 2) is not None and high is None:
        return False
    steps = np.array([least - int(zero.item()), most - int(zero.item())], np.float32) * scale
    return low is not None and low <= steps[0] and (high is None or steps[1] <= high)


def _moved(group: _Group) -> ir.Node | None:
    """Return the node itself, on integers: what comes out must have the scale of what goes in."""
    first = group.inputs[0]
    for rounding in group.rounding:
        if rounding is None:
            return None
        for known, other in zip((first.scale, first.zero), rounding.inputs[1:], strict=True):
            one, two = array_of(known), array_of(other)
            if one is None or two is None or one.dtype != two.dtype or not np.array_equal(one, two):
                return None
    inputs = [first.value, *group.node.inputs[1:]]
    count = len(group.rounding)
    return ir.Node("", group.node.op_type, inputs, group.attributes(), num_outputs=count)


def _conv(group: _Group) -> ir.Node | None:
    if not group.output:
        return None
    bias = [group.inputs[2].value] if 2 in group.inputs else []
    inputs = [*group.inputs[0].triple, *group.inputs[1].triple, *group.output, *bias]
    return ir.Node("", "QLinearConv", inputs, group.attributes())


def _matmul(group: _Group) -> ir.Node:
    a, b = group.inputs[0], group.inputs[1]
    if group.output:
        return ir.Node("", "QLinearMatMul", [*a.triple, *b.triple, *group.output])
    inputs = [a.value, b.value, a.scale, b.scale, a.zero, b.zero]
    return _contrib("MatMulIntegerToFloat", inputs, [])


def _gemm(group: _Group) -> ir.Node:
    bias = group.inputs[2].value if 2 in group.inputs else None
    inputs = [*group.inputs[0].triple, *group.inputs[1].triple, bias, *group.output]
    return _contrib("QGemm", inputs, group.attributes("beta"))


def _binary(group: _Group) -> ir.Node | None:
    if not group.output:
        return None
    inputs = [*group.inputs[0].triple, *group.inputs[1].triple, *group.output]
    return _contrib(f"QLinear{group.node.op_type}", inputs, [])


def _unary(group: _Group) -> ir.Node | None:
    if not group.output:
        return None
    inputs = [*group.inputs[0].triple, *group.output]
    return _contrib(f"QLinear{group.node.op_type}", inputs, group.attributes("dilations"))


def _concat(group: _Group) -> ir.Node | None:
    if not group.output:
        return None
    parts = [value for part in group.inputs.values() for value in part.triple]
    return _contrib("QLinearConcat", [*group.output, *parts], group.attributes())


def _contrib(op: str, inputs: Sequence[ir.Value | None], attributes: list[ir.Attr]) -> ir.Node:
    return ir.Node(DOMAIN, op, inputs, attributes)


_RULES: dict[str, Callable[[_Group], ir.Node | None]] = {
    "Add": _binary,
    "AveragePool": _unary,
    "Concat": _concat,
    "Conv": _conv,
    "Gemm": _gemm,
    "GlobalAveragePool": _unary,
    "LeakyRelu": _unary,
    "MatMul": _matmul,
    "Mul": _binary,
    "Sigmoid": _unary,
}


def _take_place(group: _Group, new: ir.Node) -> None:
    """Let the new node's outputs stand for the rounded ones, or for those in float."""
    node, graph = group.node, group.node.graph
    assert graph is not None  # _fuse() looked
    new.name = node.name
    graph.insert_before(node, new)
    for index, rounding in enumerate(group.rounding):
        old = node.outputs[index] if rounding is None else rounding.outputs[0]
        take_over(old, new.outputs[index])
        if rounding is not None:
            remove_if_dead(rounding)
    remove_if_dead(node)
