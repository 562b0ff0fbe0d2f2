"""Drop activations after the forward pass and compute them again on the way back."""

from __future__ import annotations

import bisect
from collections.abc import Container, Iterable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.autodiff.differentiate import writer_for
from onnxsmith.passes.autodiff.path import inputs_of
from onnxsmith.passes.autodiff.recomputation.checkpoints import choose_cuts
from onnxsmith.passes.autodiff.recomputation.halves import Halves, read_by
from onnxsmith.passes.autodiff.training_form import AGAIN, is_random
from onnxsmith.passes.autodiff.writer import BOOL, Writer
from onnxsmith.passes.match import STANDARD


def recompute(
    model: ir.Model,
    results: Sequence[ir.Value],
    parameters: Container[str],
    patterns: Sequence[str],
) -> int:
    """Let the backward half compute activations again instead of reading those of the forward half.

    The forward half is cut into stretches. What crosses a cut is kept; what else the backward half
    reads of a stretch, but for the last, is computed again when the gradient arrives there. The
    copies of a stretch stand with its gradients in the branch of an If, for two reasons. The
    runtime merges equal nodes of a graph, but none of a branch with those outside of it. And it
    chooses the order of nodes by itself, but runs a branch in one go, once all that it reads is
    there, and then frees what was made in it. The condition is always true, which cannot be told
    beforehand.

    Random nodes draw the same numbers again: copies take the seed of what they are copies of
    (:func:`onnxsmith.passes.autodiff.training_form.seed_random`), and run as often.

    Args:
        model: A sorted graph of gradients, its shapes inferred; it is edited.
        results: Its outputs that are no gradients, the loss first.
        parameters: Names of the inputs that are no data.
        patterns: Names of values behind which to cut, or ``auto``.

    Returns:
        How many stretches are computed again.

    Raises:
        SmithError: A pattern matches no value.
    """
    halves = Halves.of(model.graph, results, parameters)
    cuts = choose_cuts(halves, patterns)
    if not cuts:
        return 0
    plan = _Plan(halves, cuts)
    write = writer_for(model)
    loss = results[0]
    condition = write.op("Not", write.op("Less", loss, loss, dtype=BOOL))  # true for NaN as well
    model.graph.extend(write.nodes)
    count = 0
    for stretch in reversed(range(len(cuts))):
        count += _move(model.graph, plan, stretch, condition, write)
    return count


class _Plan:
    """Which stretch each node belongs to; the last one is not computed again.

    A node of the backward half belongs to the first stretch that it, or what it reads, needs.
    """

    def __init__(self, halves: Halves, cuts: Sequence[int]) -> None:
        self.halves, self.last = halves, len(cuts)
        self.stretch = {
            node: bisect.bisect_left(cuts, index) for index, node in enumerate(halves.forward)
        }
        self.dropped = {value for value in halves.index if self._is_dropped(value)}
        for node in halves.backward:
            self.stretch[node] = min(
                (self._needed(value) for value in inputs_of(node)), default=self.last
            )
        self._sink()

    def _is_dropped(self, value: ir.Value) -> bool:
        node = value.producer()
        assert node is not None  # a node of the forward half makes it
        own, halves = self.stretch[node], self.halves
        read = halves.last_read.get(value)
        return (
            own < self.last
            and value not in halves.results
            and (read is None or self.stretch[halves.forward[read]] == own)
            and _repeats(node)
        )

    def _needed(self, value: ir.Value) -> int:
        node = value.producer()
        if node is None or node not in self.stretch:
            return self.last
        if value in self.halves.index and value not in self.dropped:
            return self.last
        return self.stretch[node]

    def _sink(self) -> None:
        """Let what only one stretch reads, made of kept values alone, be computed there."""
        light: set[ir.Node] = set()
        for node in self.halves.backward:
            makers = [value.producer() for value in inputs_of(node)]
            if self.stretch[node] == self.last and all(
                maker is None or maker in light or self.stretch.get(maker, -1) < self.last
                for maker in makers
            ):
                light.add(node)
        readers: dict[ir.Value, set[int]] = {}
        for node in reversed(self.halves.backward):
            places = {p for v in node.outputs for p in readers.get(v, {self.last})}
            if node in light and len(places) == 1:
                self.stretch[node] = places.pop()
            for value in inputs_of(node):
                readers.setdefault(value, set()).add(self.stretch[node])

    def again(self, stretch: int) -> tuple[list[ir.Node], list[ir.Value]]:
        """Return the nodes of a stretch to copy, in order, and their values that are read."""
        read = read_by(self.halves.backward) & self.dropped
        values = [
            value for value, index in self.halves.index.items()
            if value in read and self.stretch[self.halves.forward[index]] == stretch
        ]  # fmt: skip
        wanted, nodes = set(values), []
        for node in reversed(self.halves.forward):
            if any(value in wanted for value in node.outputs):
                nodes.append(node)
                wanted.update(v for v in inputs_of(node) if v in self.dropped)
        return nodes[::-1], values

    def backward(self, stretch: int) -> list[ir.Node]:
        """Return the nodes of the backward half that belong to a stretch."""
        return [node for node in self.halves.backward if self.stretch[node] == stretch]


def _repeats(node: ir.Node) -> bool:
    """Tell whether a copy of a node gives the same again: chance in a body has no known seed."""
    if is_random(node):
        return True
    inner = ir.traversal.RecursiveGraphIterator
    graphs = [a.as_graph() for a in node.attributes.values() if a.type == ir.AttributeType.GRAPH]
    return node.domain in STANDARD and not any(is_random(n) for g in graphs for n in inner(g))


def _move(graph: ir.Graph, plan: _Plan, stretch: int, condition: ir.Value, write: Writer) -> int:
    """Put the copies of a stretch and its gradients into a branch; return whether there are any."""
    nodes, values = plan.again(stretch)
    if not values:
        return 0
    copies, copied = _copies(nodes, values, write)
    backward = plan.backward(stretch)
    later = [node for node in plan.halves.backward if plan.stretch[node] < stretch]
    for node in (*backward, *later):
        _reread(node, copied)
    graph.remove(backward)
    inside = [*copies, *backward]
    outside = read_by(later) | set(graph.outputs)
    made = [value for node in inside for value in node.outputs if value in outside]
    outer = {value: _outside(value, write) for value in made}
    for node in later:
        _reread(node, outer)
    graph.outputs[:] = [outer.get(value, value) for value in graph.outputs]
    branches = {
        "then_branch": ir.Graph([], made, nodes=inside, name=write.name("again")),
        "else_branch": _never(made, write),
    }
    attributes = [ir.AttrGraph(name, branch) for name, branch in branches.items()]
    name = write.name("node")
    graph.append(
        ir.Node("", "If", [condition], attributes, outputs=list(outer.values()), name=name)
    )
    return 1


def _copies(
    nodes: Sequence[ir.Node], values: Sequence[ir.Value], write: Writer
) -> tuple[list[ir.Node], dict[ir.Value, ir.Value]]:
    """Return copies of nodes, in no graph, and which values they make for which."""
    made = {value for node in nodes for value in node.outputs}
    reads = [value for value in dict.fromkeys(v for n in nodes for v in inputs_of(n))
             if value not in made]  # fmt: skip
    copy = ir.GraphView(reads, values, nodes=nodes).clone()
    for old, new in zip(reads, list(copy.inputs), strict=True):
        new.replace_all_uses_with(old)
    copied = dict(zip(values, list(copy.outputs), strict=True))
    copy.outputs.clear()
    copy.inputs.clear()
    copies = list(copy)
    copy.remove(copies)
    for old_node, node in zip(nodes, copies, strict=True):
        if is_random(node):
            node.metadata_props[AGAIN] = old_node.outputs[0].name or ""
    for inner in ir.traversal.RecursiveGraphIterator(ir.GraphView([], [], nodes=copies)):
        inner.name = write.name("node")  # the runtime wants them to differ between graphs, too
        for value in inner.outputs:
            value.name = write.name("again") if value.name else value.name
    return copies, copied


def _reread(node: ir.Node, change: Mapping[ir.Value, ir.Value]) -> None:
    """Let a node, and what is in its bodies, read other values."""
    for inner in ir.traversal.RecursiveGraphIterator(ir.GraphView([], [], nodes=[node])):
        for index, value in enumerate(inner.inputs):
            if value is not None and value in change:
                inner.replace_input_with(index, change[value])


def _outside(value: ir.Value, write: Writer) -> ir.Value:
    """Return what a value is outside of its branch: under its own name, as outputs have to be."""
    result = ir.Value(name=value.name, type=value.type, shape=value.shape)
    value.name = write.name("inside")
    return result


def _never(values: Iterable[ir.Value], write: Writer) -> ir.Graph:
    """Return the other branch, which an If needs: the smallest values of the same kinds."""
    inner = write.inner()
    outputs = []
    for value in values:
        assert value.dtype is not None  # gradients have types
        zero = ir.Tensor(np.zeros(1, value.dtype.numpy()), dtype=value.dtype)
        rank = 0 if value.shape is None else len(value.shape)
        attributes = {"value": zero}
        outputs.append(
            inner.op(
                "ConstantOfShape", inner.ints([1] * rank), attributes=attributes, dtype=value.dtype
            )
        )
    for node in inner.nodes:
        node.name = write.name("node")
    return ir.Graph([], outputs, nodes=inner.nodes, name=write.name("never"))
