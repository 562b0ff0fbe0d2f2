"""Move initializers of If, Loop and Scan bodies to the main graph."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult

_OWNERS = ("If", "Loop", "Scan", "SequenceMap")


@dataclass(frozen=True)
class LiftSubgraphInitializers(Pass):
    """Move initializers of If, Loop and Scan bodies to the main graph.

    What is left alone: initializers that are inputs or outputs of their body; bodies inside
    functions, which see no weights of the graph; bodies of other operators: com.microsoft's
    BeamSearch runs its decoder as a graph of its own, which sees nothing outside.

    onnx_ir's pass of that name lifts from all of these, and may give a weight a name that a body
    uses for something else.
    """

    name: ClassVar[str] = "lift-subgraph-initializers"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Lift from all depths; a name that is taken gets a number."""
        bodies = list(_bodies(model.graph))
        if not any(body.initializers for body in bodies):
            return PassResult(model, False, {"lifted": 0})
        taken = {name for graph in model.graphs() for name in _names(graph)}
        seen = set(_names(model.graph))
        count = 0
        for body in bodies:
            for name, value in list(body.initializers.items()):
                if value.is_graph_input() or value.is_graph_output():
                    continue
                del body.initializers[name]
                value.name = name if name not in seen else _free(name, taken)
                seen.add(value.name)
                taken.add(value.name)
                model.graph.register_initializer(value)
                count += 1
        return PassResult(model, bool(count), {"lifted": count})


def _bodies(graph: ir.Graph) -> Iterator[ir.Graph]:
    """Yield the bodies that see the values around them."""
    for node in graph:
        if node.domain not in ("", "ai.onnx") or node.op_type not in _OWNERS:
            continue
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH and not attribute.is_ref():
                body = attribute.as_graph()
                yield body
                yield from _bodies(body)


def _names(graph: ir.Graph) -> Iterator[str]:
    yield from (value.name for value in graph.inputs if value.name)
    yield from graph.initializers
    yield from (value.name for node in graph for value in node.outputs if value.name)


def _free(name: str, taken: set[str]) -> str:
    number = 1
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"
