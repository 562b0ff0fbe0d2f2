"""Get statistics of values out of the bodies of If, Loop and Scan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.cleanup.remove_unused_nodes import subgraphs
from onnxsmith.passes.match import int_attribute, is_op

Array = np.ndarray[Any, Any]
Found = dict[str, list[ir.Value]]

WITH_BODIES = ("If", "Loop", "Scan")
"""The operators whose bodies are looked into."""

# Of a node's inputs, its body's inputs and its body's outputs, how many come before the states.
_BEFORE = {"Loop": (2, 2, 1), "Scan": (0, 0, 0)}


@dataclass(frozen=True)
class Merge:
    """How the results of several runs of a body become one.

    Attributes:
        op: The operator that merges two results.
        neutral: What changes nothing when merged: the result of no run.
    """

    op: str
    neutral: Array


def body_paths(root: ir.Graph) -> Iterator[tuple[ir.Graph, str]]:
    """Yield each graph with what its values' names are prefixed by; inner graphs come first.

    Names need only be unique in a body and around it: two branches may share one.
    """
    yield from _paths(root, "", set())


def _paths(graph: ir.Graph, prefix: str, taken: set[str]) -> Iterator[tuple[ir.Graph, str]]:
    for node in graph:
        if not is_op(node, *WITH_BODIES):
            continue
        name = next((v.name for v in node.outputs if v.name), node.op_type)
        for number, body in enumerate(subgraphs(node)):
            path = f"{prefix}{name}/{number}/"
            while path in taken:
                path += "/"
            taken.add(path)
            yield from _paths(body, path, taken)
    yield graph, prefix


def value_keys(root: ir.Graph) -> dict[ir.Value, str]:
    """Return a unique key of each value in the graph and its bodies; its name in the graph."""
    return {
        value: f"{prefix}{value.name}"
        for graph, prefix in body_paths(root)
        for value in (*graph.inputs, *(v for node in graph for v in node.outputs))
        if value.name
    }


def lift(graph: ir.Graph, inner: Mapping[ir.Graph, Found], merges: Sequence[Merge]) -> Found:
    """Let results of bodies become results of the nodes that run them.

    An If gets them as outputs, with neutral numbers in the other branch; a Loop or Scan carries
    them from turn to turn, merged, so that their size does not depend on the number of turns.

    Args:
        graph: The graph of the nodes; edited.
        inner: For each body what is computed in it: key to values.
        merges: How each of a key's results is merged.

    Returns:
        Key to values of the graph.
    """
    found: Found = {}
    for node in tuple(graph):
        bodies = [body for body in subgraphs(node) if inner.get(body)]
        if not bodies:
            continue
        if node.op_type == "If":
            found |= _from_branches(node, inner, merges)
        else:
            found |= _from_turns(node, bodies[0], inner[bodies[0]], merges)
    return found


def _from_branches(
    node: ir.Node, inner: Mapping[ir.Graph, Found], merges: Sequence[Merge]
) -> Found:
    branches = list(subgraphs(node))
    keys = [key for branch in branches for key in inner.get(branch, {})]
    for branch in branches:
        own = inner.get(branch, {})
        for key in keys:
            branch.outputs.extend(own[key] if key in own else _neutral(branch, merges))
    first = len(node.outputs)
    node.resize_outputs(first + len(keys) * len(merges))
    results = iter(node.outputs[first:])
    return {key: [next(results) for _ in merges] for key in keys}


def _neutral(graph: ir.Graph, merges: Sequence[Merge]) -> list[ir.Value]:
    nodes = [ir.node("Constant", [], {"value": ir.Tensor(m.neutral)}) for m in merges]
    graph.extend(nodes)
    return [node.outputs[0] for node in nodes]


def _from_turns(node: ir.Node, body: ir.Graph, own: Found, merges: Sequence[Merge]) -> Found:
    graph = node.graph
    assert graph is not None  # lift() goes through one
    given, taken, made = _BEFORE[node.op_type]
    states = _state_count(node, body)
    starts: list[ir.Value] = []
    for values in own.values():
        for value, merge in zip(values, merges, strict=True):
            place = states + len(starts)
            start = ir.node("Constant", [], {"value": ir.Tensor(merge.neutral)})
            graph.insert_before(node, start)
            starts.append(start.outputs[0])
            carried = ir.Value(
                type=ir.TensorType(ir.DataType.from_numpy(merge.neutral.dtype)),
                shape=ir.Shape(merge.neutral.shape),
            )
            merged = ir.node(merge.op, [carried, value])
            body.append(merged)
            body.inputs.insert(taken + place, carried)
            body.outputs.insert(made + place, merged.outputs[0])
    inputs = [*node.inputs, *[None] * (given - len(node.inputs))]
    inputs[given + states : given + states] = starts
    new = _replaced(node, inputs, states, len(starts))
    results = iter(new.outputs[states : states + len(starts)])
    return {key: [next(results) for _ in merges] for key in own}


def _state_count(node: ir.Node, body: ir.Graph) -> int:
    if node.op_type == "Loop":
        return len(body.inputs) - 2
    return len(node.inputs) - (int_attribute(node, "num_scan_inputs") or 0)


def _replaced(node: ir.Node, inputs: Sequence[ir.Value | None], states: int, more: int) -> ir.Node:
    """Replace a node by one with ``more`` outputs behind those of its states."""
    graph = node.graph
    assert graph is not None  # lift() goes through one
    new = ir.Node(
        node.domain,
        node.op_type,
        inputs,
        list(node.attributes.values()),
        num_outputs=len(node.outputs) + more,
        name=node.name,
    )
    graph.insert_before(node, new)
    for place, old in enumerate(node.outputs):
        value = new.outputs[place if place < states else place + more]
        value.name, value.type, value.shape = old.name, old.type, old.shape
        old.replace_all_uses_with(value, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    return new
