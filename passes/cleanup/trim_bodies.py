"""Leave out what bodies compute and nobody reads, and states of loops that never change."""

from __future__ import annotations

from collections.abc import Iterable, MutableSequence, Sequence
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.cleanup.remove_unused_nodes import subgraphs
from onnxsmith.passes.match import all_nodes, int_attribute, is_op, made_by

# Of a body's inputs and outputs, how many come before the states.
_BEFORE = {"Loop": (2, 1), "Scan": (0, 0)}
_FIRST_OPSET = 11  # what came before has other rules, and is not written any more


@dataclass(frozen=True)
class TrimBodies(Pass):
    """Leave out what bodies compute and nobody reads, and states of loops that never change.

    An output of an If that nobody reads goes from both branches; so does a scan output of a Loop or
    Scan, and a state whose end nobody reads and that no other result needs. A state that each turn
    hands on as it is stands for its first value.

    What is left alone: nodes of which no output is read, which go as a whole; inputs of a Scan's
    turns.
    """

    name: ClassVar[str] = "trim-bodies"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Trim in the graph, its subgraphs and the functions, the outer bodies first."""
        count, opset = 0, model.opset_imports.get("", 1)
        for node in all_nodes(model, functions=True) if opset >= _FIRST_OPSET else ():
            if node.graph is None or not is_op(node, "If", "Loop", "Scan"):
                continue
            if node.op_type != "If":
                count += _release_states(node)
            count += _trim(node)
        return PassResult(model, bool(count), {"trimmed": count})


def _is_read(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()


def _state_count(node: ir.Node) -> int:
    if node.op_type == "Loop":
        return len(node.inputs) - 2
    return len(node.inputs) - (int_attribute(node, "num_scan_inputs") or 0)


def _release_states(node: ir.Node) -> int:
    """Let the readers of states that never change read their first values."""
    body = node.attributes["body"].as_graph()
    inputs, outputs = _BEFORE[node.op_type]
    first = 2 if node.op_type == "Loop" else 0
    count = 0
    for place in range(_state_count(node)):
        begin, state = node.inputs[first + place], body.inputs[inputs + place]
        if begin is None or _unwrapped(body.outputs[outputs + place]) is not state:
            continue
        keeper = body.outputs[outputs + place].producer()
        for use in tuple(state.uses()):
            if use.node is not keeper:
                use.node.replace_input_with(use.idx, begin)
                count += 1
        end = node.outputs[place]
        if not end.is_graph_output() and end.uses():
            end.replace_all_uses_with(begin)
            count += 1
    return count


def _unwrapped(value: ir.Value) -> ir.Value:
    while (node := made_by(value, "Identity")) is not None and node.inputs[0] is not None:
        value = node.inputs[0]
    return value


def _trim(node: ir.Node) -> int:
    """Rebuild a node without what nobody reads of it; return how many outputs went."""
    if not any(_is_read(value) for value in node.outputs):
        return 0
    if node.op_type == "If":
        kept = [place for place, value in enumerate(node.outputs) if _is_read(value)]
        fits = all(len(body.outputs) == len(node.outputs) for body in subgraphs(node))
        if len(kept) < len(node.outputs) and fits:
            for body in subgraphs(node):
                _keep(body.outputs, kept)
            return _rebuild(node, list(node.inputs), kept)
        return 0
    return _trim_loop(node)


def _trim_loop(node: ir.Node) -> int:
    body, states = node.attributes["body"].as_graph(), _state_count(node)
    inputs, outputs = _BEFORE[node.op_type]
    if len(body.outputs) != outputs + len(node.outputs):
        return 0
    kept = _needed(node, body, states)
    if len(kept) == len(node.outputs):
        return 0
    gone = [place for place in range(states) if place not in kept]
    given = [v for place, v in enumerate(node.inputs) if place - inputs not in gone]
    _keep(body.outputs, [*range(outputs), *(outputs + place for place in kept)])
    for inner in _feeding(body, [body.inputs[inputs + place] for place in gone]):
        for index in range(len(inner.inputs)):
            inner.replace_input_with(index, None)
        body.remove(inner)
    _keep(body.inputs, [p for p in range(len(body.inputs)) if p - inputs not in gone])
    attributes = _scan_attributes(node, states, kept) if node.op_type == "Scan" else None
    return _rebuild(node, given, kept, attributes)


def _needed(node: ir.Node, body: ir.Graph, states: int) -> list[int]:
    """Return which outputs are read, or are states that something else needs."""
    inputs, outputs = _BEFORE[node.op_type]
    kept = {place for place, value in enumerate(node.outputs) if _is_read(value)}
    results = list(body.outputs)
    while True:
        reached = _reached([*results[:outputs], *(results[outputs + place] for place in kept)])
        more = {place for place in range(states) if body.inputs[inputs + place] in reached}
        if more <= kept:
            return sorted(kept)
        kept |= more


def _reached(values: Iterable[ir.Value]) -> set[ir.Value]:
    """Return what values depend on, by way of bodies too."""
    found: set[ir.Value] = set()
    pending = list(values)
    while pending:
        value = pending.pop()
        if value in found:
            continue
        found.add(value)
        node = value.producer()
        if node is None:
            continue
        pending += [v for v in node.inputs if v is not None]
        for body in subgraphs(node):
            for inner in ir.traversal.RecursiveGraphIterator(body):
                pending += [v for v in inner.inputs if v is not None]
            pending += list(body.outputs)
    return found


def _feeding(body: ir.Graph, inputs: list[ir.Value]) -> list[ir.Node]:
    """Return the nodes of a body that depend on inputs which no result needs, users first."""
    tainted = set(inputs)
    found = []
    for node in body:
        inner = [n for b in subgraphs(node) for n in ir.traversal.RecursiveGraphIterator(b)]
        if any(value in tainted for each in (node, *inner) for value in each.inputs):
            tainted.update(node.outputs)
            found.append(node)
    return found[::-1]


def _scan_attributes(node: ir.Node, states: int, kept: Sequence[int]) -> list[ir.Attr]:
    """Return a Scan's attributes with the axes and directions of the scan outputs that stay."""
    attributes = []
    for attribute in node.attributes.values():
        if attribute.name in ("scan_output_axes", "scan_output_directions"):
            numbers = list(attribute.as_ints())
            left = [numbers[place - states] for place in kept if place >= states]
            if not left:
                continue
            attribute = ir.AttrInt64s(attribute.name, left)
        attributes.append(attribute)
    return attributes


def _keep(values: MutableSequence[ir.Value], places: Sequence[int]) -> None:
    left = [values[place] for place in places]
    values.clear()
    values.extend(left)


def _rebuild(
    node: ir.Node,
    inputs: Sequence[ir.Value | None],
    kept: Sequence[int],
    attributes: list[ir.Attr] | None = None,
) -> int:
    """Replace a node by one with fewer inputs and outputs."""
    graph = node.graph
    assert graph is not None  # apply() asked
    new = ir.Node(
        node.domain,
        node.op_type,
        inputs,
        list(node.attributes.values()) if attributes is None else attributes,
        num_outputs=len(kept),
        name=node.name,
    )
    graph.insert_before(node, new)
    for place, value in zip(kept, new.outputs, strict=True):
        old = node.outputs[place]
        value.name, value.type, value.shape = old.name, old.type, old.shape
        old.name = None
        old.replace_all_uses_with(value, replace_graph_outputs=True)
    gone = len(node.outputs) - len(kept)
    graph.remove(node, safe=True)
    return gone
