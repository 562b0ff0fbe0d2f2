"""Decide which nodes compute in integers, and which values are rounded for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from onnxsmith.passes.match import array_of, input_of, is_op, tensor_of
from onnxsmith.passes.quantization.calibration.bodies import WITH_BODIES, body_paths
from onnxsmith.passes.quantization.select import LeftFloat, Selection
from onnxsmith.passes.quantization.static.operators import (
    ABSORBED,
    BOTH_ACTIVATIONS,
    Operator,
    find,
)

# Operators with weights for which there is no integer kernel with ranges that are known before.
_NO_KERNEL = ("Attention", "GRU", "LSTM", "MultiHeadAttention", "RNN", "Einsum")
_FLOAT_KINDS = (ir.DataType.FLOAT, None)


@dataclass(frozen=True)
class Scope:
    """What may be quantized.

    Attributes:
        selection: What the user wants.
        between: Whether also what lies between products computes in integers; else only the
            inputs of products are rounded, which is what TensorRT asks for.
        both: Whether products of two activations are quantized.
        transposed: Whether there are kernels for transposed convolutions.
        clips: Whether rounding to the integers clips at 0 where nothing is below: it does where
            the zero point may be the least integer.
    """

    selection: Selection = field(default_factory=Selection)
    between: bool = True
    both: bool = False
    transposed: bool = False
    clips: bool = True


@dataclass
class Plan:
    """What becomes integers in the main graph or in a body, whose values are rounded apart.

    Attributes:
        graph: The graph or body.
        prefix: What the names of values that are added to it begin with.
        nodes: The nodes that compute in integers, in the order of the graph.
        left: The nodes that could, and stay in float.
        between: See :class:`Scope`.
        clips: See :class:`Scope`.
    """

    graph: ir.Graph
    prefix: str = ""
    nodes: dict[ir.Node, Operator] = field(default_factory=dict)
    left: LeftFloat = field(default_factory=LeftFloat)
    between: bool = True
    clips: bool = True

    def values(self) -> list[ir.Value]:
        """Return the activations that are rounded, in the order of the graph."""
        found: dict[ir.Value, None] = {}
        for node in self.nodes:
            for _, value in self.inputs(node):
                if not is_constant(value):
                    found[value] = None
            for value in self.results(node):
                if self.makes_integers(node) or self.is_read(value):
                    found[value] = None
        return list(found)

    def inputs(self, node: ir.Node) -> Iterator[tuple[int, ir.Value]]:
        """Yield the activations that a node of the plan reads, with their places."""
        for index in self.nodes[node].activations(node):
            value = node.inputs[index]
            assert value is not None  # activations() skips what is left out
            yield index, value

    def results(self, node: ir.Node) -> Iterator[ir.Value]:
        """Yield what a node makes: behind a Relu or Clip where rounding clips as well."""
        for value in node.outputs:
            yield behind(value) if self.clips else value

    def makes_integers(self, node: ir.Node) -> bool:
        """Tell whether a node's results are rounded whoever reads them."""
        return self.between and node in self.nodes and self.nodes[node].must_round

    def is_read(self, value: ir.Value) -> bool:
        """Tell whether a node of the plan reads a value as an activation."""
        return any(
            use.node in self.nodes and use.idx in self.nodes[use.node].activations(use.node)
            for use in value.uses()
        )

    def maker(self, value: ir.Value) -> ir.Node | None:
        """Return the node of the plan that makes a value in integers; None where there is none."""
        node = core(value) if self.clips else value.producer()
        return node if self.between and node in self.nodes else None


def is_constant(value: ir.Value) -> bool:
    """Tell whether a value is the same in every run."""
    return tensor_of(value) is not None


def behind(value: ir.Value) -> ir.Value:
    """Return what is rounded in the place of a value: that of the Relu that alone reads it."""
    uses, node = value.uses(), value.producer()
    operator = None if node is None else find(node)
    if operator is not None and operator.kind == "move":
        return value  # its scale is that of what it moves, which may go below 0
    if len(uses) == 1 and not value.is_graph_output():
        (use,) = uses
        if is_absorbed(use.node) and use.idx == 0 and _same_graph(use.node, node):
            return use.node.outputs[0]
    return value


def core(value: ir.Value) -> ir.Node | None:
    """Return the node that makes a value, leaving out a Relu that rounding replaces."""
    node = value.producer()
    if node is not None and is_absorbed(node):
        inner = node.inputs[0]
        if inner is not None and behind(inner) is value:
            return inner.producer()
    return node


def _same_graph(reader: ir.Node, maker: ir.Node | None) -> bool:
    return maker is None or reader.graph is maker.graph


def is_absorbed(node: ir.Node) -> bool:
    """Tell whether rounding to integers from 0 on clips as the node does."""
    if not is_op(node, *ABSORBED):
        return False
    if node.op_type == "Relu":
        return True
    least = array_of(input_of(node, 1))
    return least is not None and least.size == 1 and float(least.reshape(())) == 0.0


def make_plans(root: ir.Graph, scope: Scope) -> list[Plan]:
    """Return what becomes integers in the main graph and in bodies, inner ones first.

    Products are taken wherever they can be; what lies between them follows where it reads
    integers and gives to a reader of integers, so that no value is rounded for its sake alone.
    A body gets and gives float: the runtime's kernels see no pairs on the other side.
    """
    left = LeftFloat()
    plans = []
    for graph, prefix in body_paths(root):
        plan = Plan(graph, prefix, {}, left, scope.between, scope.between and scope.clips)
        for node in graph:
            _consider(plan, node, scope)
        prune(plan)
        plans.append(plan)
    return plans


def give_up(plan: Plan, reasons: Mapping[ir.Value, str]) -> None:
    """Leave the products that read or make these values in float, for the reasons given.

    What lies between and is not worth it without them goes back to float as well.
    """
    for node in list(plan.nodes):
        touched = [value for _, value in plan.inputs(node)] + list(plan.results(node))
        reason = next((reasons[v] for v in touched if v in reasons), "")
        if reason:
            if plan.nodes[node].kind == "product":
                plan.left.add(node, reason)
            del plan.nodes[node]
    prune(plan)


def _consider(plan: Plan, node: ir.Node, scope: Scope) -> None:
    if not is_op(node, *WITH_BODIES):
        for inner in _inner_nodes(node):
            if is_op(inner, "Conv", "Gemm", "MatMul"):
                plan.left.add(inner, f"it is in the body of a node {node.op_type}")
    operator = find(node)
    if operator is None:
        if node.op_type in _NO_KERNEL:
            reason = scope.selection.refusal(node) or "it has no kernel for known ranges"
            plan.left.add(node, reason)
        return
    if operator.kind != "product" and not scope.between:
        return
    reason = operator.refuse(node)
    if reason == BOTH_ACTIVATIONS and scope.both:
        operator, reason = _BOTH, ""
    reason = scope.selection.refusal(node) or reason or _other_reason(plan, node, operator, scope)
    if not reason:
        plan.nodes[node] = operator
    elif operator.kind == "product":
        plan.left.add(node, reason)


_BOTH = Operator("product", inputs=(0, 1), must_round=False)


def _other_reason(plan: Plan, node: ir.Node, operator: Operator, scope: Scope) -> str:
    if node.op_type == "ConvTranspose" and not scope.transposed:
        return "the target has no integer kernel for it"
    values = [node.inputs[i] for i in operator.activations(node)]
    if any(v is not None and v.dtype not in _FLOAT_KINDS for v in values):
        return "it does not compute in float32"
    if plan.prefix and any(v is not None and v.dtype is None for v in (*values, *node.outputs)):
        return "the types of its values are not known"
    return ""


def _inner_nodes(node: ir.Node) -> Iterator[ir.Node]:
    for attribute in node.attributes.values():
        if not attribute.is_ref() and attribute.type == ir.AttributeType.GRAPH:
            yield from ir.traversal.RecursiveGraphIterator(attribute.as_graph())


def prune(plan: Plan) -> None:
    """Leave out what is between, until each reads integers and is worth it."""
    followers = [n for n, operator in plan.nodes.items() if operator.kind != "product"]
    changed = True
    while changed:
        changed = False
        for node in list(followers):
            if not _follows(plan, node):
                del plan.nodes[node]
                followers.remove(node)
                changed = True


def _follows(plan: Plan, node: ir.Node) -> bool:
    """Tell whether a node that is no product should compute in integers."""
    operator = plan.nodes[node]
    values = [value for _, value in plan.inputs(node)]
    moving = [value for value in values if not is_constant(value)]
    if not moving or (operator.kind == "move" and len(moving) < len(values)):
        return False
    wanted = any(plan.is_read(value) for value in plan.results(node))
    if operator.kind == "move" and wanted:
        return True
    if wanted:
        return all(_in_integers(plan, value) for value in moving)
    # Nobody asks for integers. Where all inputs are integers anyway, it is cheaper to leave them
    # so than to go back to float before; a function of single values would only lose precision.
    if operator.needs_reader:
        return False
    return all(_rounded_anyway(plan, value) for value in moving)


def _in_integers(plan: Plan, value: ir.Value) -> bool:
    """Tell whether a value is there in integers, or is once for several readers.

    One that is made in float is rounded where a product reads it, or where all of its several
    readers compute in integers: they would round as often behind it.
    """
    if plan.maker(value) is not None:
        return True
    readers = [
        plan.nodes[use.node]
        for use in value.uses()
        if use.node in plan.nodes and use.idx in plan.nodes[use.node].activations(use.node)
    ]
    if any(operator.kind == "product" for operator in readers):
        return True
    return 1 < len(readers) == len(value.uses()) and not value.is_graph_output()


def _rounded_anyway(plan: Plan, value: ir.Value) -> bool:
    node = plan.maker(value)
    if node is None or plan.nodes[node].needs_reader:
        return False
    return plan.makes_integers(node)
