"""Put what a body computes into the graph around it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx_ir as ir

from onnxsmith.passes.match import all_nodes


class Splicer:
    """Takes bodies into the graphs around them, under names that are free in the whole model.

    Args:
        model: The model; whoever else adds values meanwhile has to ask for their names.
    """

    def __init__(self, model: ir.Model) -> None:
        self._taken: set[str | None] = set()
        graphs: list[ir.Graph | ir.Function] = [*model.graphs(), *model.functions.values()]
        for graph in graphs:
            self._taken.update(value.name for value in graph.inputs)
            if isinstance(graph, ir.Graph):
                self._taken.update(graph.initializers)
        for node in all_nodes(model, functions=True):
            self._taken.update(value.name for value in node.outputs)

    def splice(self, body: ir.Graph, before: ir.Node) -> list[ir.Value]:
        """Move the nodes and initializers of a body in front of a node; return its outputs.

        The body is used up. What stands for its inputs has to be put in their place first. Shapes
        with names of dimensions go: a name may mean another size in another turn of a loop.
        """
        graph = before.graph
        assert graph is not None  # callers have found it in one
        results = list(body.outputs)
        body.outputs.clear()
        for value in list(body.initializers.values()):
            del body.initializers[value.name or ""]
            value.name = self.free(value.name or "value")
            assert isinstance(graph, ir.Graph)  # can_splice() was asked
            graph.register_initializer(value)
        inner = list(body)
        body.remove(inner)
        for node in inner:
            for value in node.outputs:
                if value.name is not None:
                    value.name = self.free(value.name)
                if value.shape is not None and not value.shape.is_static():
                    value.shape = None
        graph.insert_before(before, inner)
        return results

    def free(self, name: str) -> str:
        """Return the name, with a number where it is taken, and take it."""
        free, count = name, 1
        while free in self._taken:
            free = f"{name}_{count}"
            count += 1
        self._taken.add(free)
        return free


def hand_on(node: ir.Node, results: Sequence[ir.Value]) -> None:
    """Let values take the place of a node's outputs, and remove the node."""
    graph = node.graph
    assert graph is not None  # callers have found it in one
    for old, new in zip(node.outputs, results, strict=True):
        if old.is_graph_output():
            identity = ir.node("Identity", [new])
            graph.insert_before(node, identity)
            new = identity.outputs[0]
            new.name, old.name = old.name, None
            new.type, new.shape = old.type, old.shape
        if new.type is None:
            new.type = old.type
        if new.shape is None:
            new.shape = old.shape
        old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove(node, safe=True)


def can_splice(body: ir.Graph, *, has_initializers: bool) -> bool:
    """Tell whether the graph around a body has a place for all that is in it.

    Args:
        body: The body.
        has_initializers: Whether the graph around it is no function.
    """
    return has_initializers or not body.initializers


def can_hand_on(outputs: Iterable[ir.Value], opset: int) -> bool:
    """Tell whether outputs that need a node of their own can have an Identity."""
    return opset >= _SEQUENCE_IDENTITY or all(
        not value.is_graph_output() or isinstance(value.type, ir.TensorType) for value in outputs
    )


# From this version on an Identity takes sequences and optionals.
_SEQUENCE_IDENTITY = 16
