"""Tell the forward half of a gradient's graph from the backward half."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import onnx_ir as ir

from onnxsmith.passes.autodiff.path import inputs_of


@dataclass(frozen=True)
class Halves:
    """What computes the results, and what only leads to gradients.

    Attributes:
        forward: Nodes that lead to the results and depend on the data, in the order they run.
        backward: Nodes that lead to no result, in the order they run.
        results: Values that are kept in any case.
    """

    forward: tuple[ir.Node, ...]
    backward: tuple[ir.Node, ...]
    results: tuple[ir.Value, ...]

    @classmethod
    def of(cls, graph: ir.Graph, results: Sequence[ir.Value], parameters: Container[str]) -> Halves:
        """Return the halves of a sorted graph.

        Args:
            graph: What computes results and gradients.
            results: Its outputs that are no gradients.
            parameters: Names of the inputs that are no data.
        """
        wanted, leading = set(results), []
        for node in reversed(graph):
            if any(value in wanted for value in node.outputs):
                wanted.update(inputs_of(node))
                leading.append(node)
        moving = {value for value in graph.inputs if value.name not in parameters}
        forward = []
        for node in reversed(leading):
            if any(value in moving for value in inputs_of(node)):
                forward.append(node)
                moving.update(node.outputs)
        ahead = set(leading)
        return cls(
            tuple(forward), tuple(node for node in graph if node not in ahead), tuple(results)
        )

    @cached_property
    def index(self) -> dict[ir.Value, int]:
        """Each value of the forward half to the place of the node that makes it."""
        return {value: i for i, node in enumerate(self.forward) for value in node.outputs}

    @cached_property
    def last_read(self) -> dict[ir.Value, int]:
        """Each value of the forward half to the place of the last node of it that reads it."""
        return {
            value: i
            for i, node in enumerate(self.forward)
            for value in inputs_of(node)
            if value in self.index
        }

    @cached_property
    def saved(self) -> frozenset[ir.Value]:
        """The values of the forward half that the backward half reads."""
        return frozenset(read_by(self.backward) & self.index.keys())


def read_by(nodes: Iterable[ir.Node]) -> set[ir.Value]:
    """Return what nodes read."""
    return {value for node in nodes for value in inputs_of(node)}
