"""Which results may differ between two runs on equal inputs?"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from onnxsmith.passes.match import (
    KNOWN_DOMAINS,
    RANDOM,
    STANDARD,
    all_nodes,
    array_of,
    input_of,
    int_attribute,
)

# The runtime's searches give another result where a session runs again.
_UNSTEADY = ("BeamSearch", "GreedySearch", "WhisperBeamSearch")


def may_vary(model: ir.Model) -> bool:
    """Tell whether two runs may differ: by random, unsteady or unknown operators."""
    return any(
        node.op_type in (*RANDOM, *_UNSTEADY) or node.domain not in KNOWN_DOMAINS
        for node in all_nodes(model, functions=True)
    )


def random_outputs(model: ir.Model) -> frozenset[str]:
    """Return the outputs that depend on random operators.

    Two runs need not tell: few random elements may come out equal by chance.
    """
    graphs: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    functions = {
        key for key, f in model.functions.items() if any(_is_random(n) for n in _inside(f))
    }
    if not functions and not any(_is_random(node) for graph in graphs for node in _inside(graph)):
        return frozenset()
    return frozenset(
        value.name or ""
        for value in model.graph.outputs
        if any(_is_random(n) or n.op_identifier() in functions for n in _behind(value))
    )


def _inside(graph: ir.Graph | ir.Function) -> Iterator[ir.Node]:
    return iter(ir.traversal.RecursiveGraphIterator(graph))


def _behind(output: ir.Value) -> Iterator[ir.Node]:
    """Yield the nodes that a value depends on, and those of their bodies."""
    seen: set[ir.Value] = set()
    pending = [output]
    while pending:
        value = pending.pop()
        node = value.producer()
        if value in seen or node is None:
            continue
        seen.update(node.outputs)
        yield node
        pending += [v for v in node.inputs if v is not None]
        for attribute in node.attributes.values():
            if attribute.is_ref() or not attribute.type.name.startswith("GRAPH"):
                continue
            one = attribute.type == ir.AttributeType.GRAPH
            for body in (attribute.as_graph(),) if one else attribute.as_graphs():
                for inner in _inside(body):
                    yield inner
                    pending += [v for v in inner.inputs if v is not None]


def _is_random(node: ir.Node) -> bool:
    if node.op_type not in RANDOM:
        return False
    if node.op_type == "Dropout" and node.domain in STANDARD:
        mode, ratio = input_of(node, 2), array_of(input_of(node, 1))
        if mode is None:  # before opset 7, an attribute says that it does not train
            is_test = int_attribute(node, "is_test")
            return "is_test" in node.attributes and is_test != 1
        flag = array_of(mode)
        trains = flag is None or bool(flag.any())
        return trains and not (ratio is not None and not ratio.any())
    return True
