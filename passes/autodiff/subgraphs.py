"""Differentiate the body of a node that has one, and write bodies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from onnxsmith.passes.autodiff.backward import Backward, NotDifferentiableError
from onnxsmith.passes.autodiff.differentiate import back_through, total
from onnxsmith.passes.autodiff.path import dependents, inputs_of, path_between
from onnxsmith.passes.autodiff.writer import Writer
from onnxsmith.passes.match import RANDOM


@dataclass
class Copy:
    """The parts of a copy of a body, in no graph, for a body that computes it again.

    Attributes:
        inputs: What the body is given.
        outputs: What it returns; may be inputs or values of graphs around it.
        nodes: In the order they run.
        constants: Its initializers.
    """

    inputs: list[ir.Value]
    outputs: list[ir.Value]
    nodes: list[ir.Node]
    constants: list[ir.Value]

    def put_in(self, old: ir.Value, new: ir.Value) -> None:
        """Let another value take the place of an input."""
        old.replace_all_uses_with(new)
        self.inputs = [new if value is old else value for value in self.inputs]
        self.outputs = [new if value is old else value for value in self.outputs]


def copy_of(b: Backward, body: ir.Graph, write: Writer) -> Copy:
    """Return a copy of a body under names of its own.

    Raises:
        NotDifferentiableError: Run again, it would give something else.
    """
    if any(_is_random(node) for node in ir.traversal.RecursiveGraphIterator(body)):
        raise NotDifferentiableError("it draws random numbers, which would be drawn anew")
    graph = body.clone(allow_outer_scope_values=True)
    inputs, outputs, nodes = list(graph.inputs), list(graph.outputs), list(graph)
    constants = list(graph.initializers.values())
    graph.inputs.clear()
    graph.outputs.clear()
    graph.initializers.clear()
    graph.remove(nodes)
    for value in (*inputs, *constants, *(v for node in nodes for v in node.outputs if v.name)):
        value.name = write.name("again")
    return Copy(inputs, outputs, nodes, constants)


def _is_random(node: ir.Node) -> bool:
    return node.op_type in RANDOM and (node.op_type != "Dropout" or len(node.inputs) > 2)


def differentiate_copy(
    b: Backward,
    copy: Copy,
    grads: Sequence[ir.Value | None],
    wrt: Sequence[ir.Value],
    inner: Writer,
) -> list[ir.Value | None]:
    """Write the gradients of a copied body behind it.

    Args:
        b: The node that has the body.
        copy: It.
        grads: The gradient for each of its outputs; None where nothing depends on one.
        wrt: Inputs of it, or values of graphs around it, to differentiate by.
        inner: Writes into the body; what it has written already runs first.

    Returns:
        A gradient for each of ``wrt``; None where nothing depends on one.
    """
    sums: dict[ir.Value, list[ir.Value]] = {}
    for output, grad in zip(copy.outputs, grads, strict=True):
        if grad is not None:
            sums.setdefault(output, []).append(grad)
    reached = dependents(copy.nodes, wrt)
    path = path_between(copy.nodes, reached, list(sums))
    inner.nodes += copy.nodes
    for node in path:
        back_through(node, sums, reached, inner, b.custom)
    return [total(inner, sums, value) for value in wrt]


def body_graph(
    inner: Writer, inputs: Iterable[ir.Value], outputs: Iterable[ir.Value], copy: Copy | None = None
) -> ir.Graph:
    """Return what was written as a body; every output is a value of its own."""
    inputs = list(inputs)
    made = {value for node in inner.nodes for value in node.outputs}
    results: list[ir.Value] = []
    for value in outputs:
        if value not in made or value in results:
            value = own(inner, value)
        results.append(value)
    nodes = live(inner.nodes, results)
    read = {value for node in nodes for value in inputs_of(node)}
    constants = [value for value in (copy.constants if copy else []) if value in read]
    return ir.Graph(inputs, results, nodes=nodes, initializers=constants, name=inner.name("body"))


def own(write: Writer, value: ir.Value) -> ir.Value:
    """Return a copy of a value, of the same shape."""
    result = write.op("Identity", value)
    result.shape = value.shape
    return result


def live(nodes: Sequence[ir.Node], outputs: Iterable[ir.Value]) -> list[ir.Node]:
    """Return the nodes that outputs need, in the order they run; the others read nothing more."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if any(value in wanted for value in node.outputs):
            kept.append(node)
            wanted.update(inputs_of(node))
        else:
            for index in range(len(node.inputs)):
                node.replace_input_with(index, None)
    return kept[::-1]


Step = Callable[
    [Writer, list[ir.Value], list[ir.Value]], tuple[Sequence[ir.Value], Sequence[ir.Value]]
]
"""From the states and the elements of one step to the next states and what is collected."""


def write_scan(
    w: Writer,
    states: Sequence[ir.Value],
    items: Sequence[ir.Value],
    step: Step,
    *,
    backward: bool = False,
) -> tuple[list[ir.Value], list[ir.Value]]:
    """Write a Scan along the first dimension.

    Args:
        w: Writes it.
        states: What it begins with.
        items: Of which each step gets one element.
        step: Writes one step.
        backward: Whether to go from the last element to the first; what is collected is in the
            order of the elements all the same.

    Returns:
        The last states, and what was collected.
    """
    inner = w.inner()
    inside = [_input(w, state, state.shape) for state in states]
    elements = [
        _input(w, item, None if item.shape is None else ir.Shape(list(item.shape)[1:]))
        for item in items
    ]
    after, collected = step(inner, inside, elements)
    body = body_graph(inner, [*inside, *elements], [*after, *collected])
    attributes: dict[str, object] = {"body": body, "num_scan_inputs": len(items)}
    if backward:
        attributes["scan_input_directions"] = [1] * len(items)
        attributes["scan_output_directions"] = [1] * len(collected)
    results = w.ops("Scan", *states, *items, outputs=len(body.outputs), attributes=attributes)
    for result, state in zip(results, states, strict=False):
        result.shape = state.shape
    for result, value in zip(results, body.outputs, strict=True):
        result.type = value.type
    return list(results[: len(states)]), list(results[len(states) :])


def _input(w: Writer, like: ir.Value, shape: ir.Shape | None) -> ir.Value:
    return ir.Value(name=w.name("given"), type=like.type, shape=shape)
