"""Names inside bodies that hide names around them.

A body's input or initializer may have the name of an outer value, which it hides. onnx_ir keeps
both apart, but a rewrite that lets a node inside read the outer value would, once written, have it
read the inner one.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

# Whose bodies see what is around them, and take their inputs by place.
_OWNERS = ("If", "Loop", "Scan", "SequenceMap")
_STANDARD = ("", "ai.onnx")


def rename_shadows(model: ir.Model) -> None:
    """Give values inside bodies names that none of the graphs around them uses, in place."""
    roots: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    for root in roots:
        bodies = list(_bodies(root))
        if bodies:
            taken = set(_names(root))
            for body in bodies:
                taken.update(_names(body))
            _rename(root, (), taken)


def _rename(
    graph: ir.Graph | ir.Function, outer: tuple[frozenset[str], ...], taken: set[str]
) -> None:
    visible = (*outer, frozenset(_names(graph)))
    for node in graph:
        for body in _bodies_of(node):
            for value in _values(body):
                name = value.name or ""
                if any(name in names for names in visible):
                    _set_name(body, value, _fresh(name, taken))
            _rename(body, visible, taken)


def _set_name(body: ir.Graph, value: ir.Value, name: str) -> None:
    stored = value.is_initializer()
    if stored:
        del body.initializers[value.name or ""]
    value.name = name
    if stored:
        body.register_initializer(value)


def _fresh(name: str, taken: set[str]) -> str:
    number = 1
    while f"{name}_{number}" in taken:
        number += 1
    taken.add(f"{name}_{number}")
    return f"{name}_{number}"


def _bodies(graph: ir.Graph | ir.Function) -> Iterator[ir.Graph]:
    for node in graph:
        for body in _bodies_of(node):
            yield body
            yield from _bodies(body)


def _bodies_of(node: ir.Node) -> Iterator[ir.Graph]:
    if node.op_type in _OWNERS and node.domain in _STANDARD:
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH and not attribute.is_ref():
                yield attribute.as_graph()


def _values(graph: ir.Graph | ir.Function) -> list[ir.Value]:
    stored = list(graph.initializers.values()) if isinstance(graph, ir.Graph) else []
    outputs = [value for node in graph for value in node.outputs]
    return list(dict.fromkeys([*graph.inputs, *stored, *outputs]))


def _names(graph: ir.Graph | ir.Function) -> list[str]:
    return [value.name for value in _values(graph) if value.name]
