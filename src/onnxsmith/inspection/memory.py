"""How much memory the values between the nodes take at most."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import onnx_ir as ir

from onnxsmith.inspection.shapes import sizes

# These share the memory of their first input in ONNX Runtime.
_VIEWS = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})


@dataclass(frozen=True)
class Peak:
    """The largest sum of live values.

    Attributes:
        bytes: The sum, weights and constants left out.
        node: The name or operator of the node at which it is reached; empty without nodes.
        unknown: Values that were left out because their size is not known.
    """

    bytes: int
    node: str
    unknown: int


def peak_activations(graph: ir.Graph) -> Peak:
    """Return the peak of the live values over the nodes in the order they are listed.

    A value lives from the node that makes it to the last one that reads it. Inputs and outputs of
    the graph belong to the caller and live throughout, once made. Views (Reshape and the like)
    share their input's memory; writing in place, which the runtime does where it can, is not
    assumed. A subgraph adds its own peak while its node runs.

    Args:
        graph: A graph with concrete shapes, as `infer_shapes` returns.
    """
    scan = _Scan(graph)
    return Peak(*scan.run(), scan.unknown)


class _Scan:
    """One pass over one graph."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._nodes = list(graph)
        self._root: dict[ir.Value, ir.Value] = {}
        self.unknown = 0

    def run(self) -> tuple[int, str]:
        last = self._last_uses()
        live = sum(self._bytes(v) for v in self._graph.inputs if not v.is_initializer())
        peak, where = live, ""
        dying: dict[int, list[ir.Value]] = {}
        for value, index in last.items():
            dying.setdefault(index, []).append(value)
        bytes_of: dict[ir.Value, int] = {}
        for index, node in enumerate(self._nodes):
            for value in self._made_by(node):
                bytes_of[value] = self._bytes(value)
                live += bytes_of[value]
            now = live + self._inside(node)
            if now > peak:
                peak, where = now, node.name or node.op_type
            live -= sum(bytes_of[value] for value in dying.get(index, ()))
        return peak, where

    def _last_uses(self) -> dict[ir.Value, int]:
        """Return the node index after which each value made here is dead; outputs are never."""
        last: dict[ir.Value, int] = {}
        for index, node in enumerate(self._nodes):
            for read in _reads(node):
                root = self._root.get(read, read)
                if root in last:
                    last[root] = index
            for value in node.outputs:
                source = node.inputs[0] if _is_view(node) else None
                self._root[value] = value if source is None else self._root.get(source, source)
            for value in self._made_by(node):
                last[value] = index
        for value in self._graph.outputs:
            last.pop(self._root.get(value, value), None)
        return last

    def _made_by(self, node: ir.Node) -> list[ir.Value]:
        if node.op_type == "Constant":
            return []
        return [v for v in node.outputs if v.name and self._root.get(v) is v]

    def _inside(self, node: ir.Node) -> int:
        """Return the larger peak of the node's subgraphs."""
        peak = 0
        for graph in _subgraphs(node):
            scan = _Scan(graph)
            peak = max(peak, scan.run()[0])
            self.unknown += scan.unknown
        return peak

    def _bytes(self, value: ir.Value) -> int:
        dims = sizes(value)
        if dims is None or value.dtype is None or value.dtype == ir.DataType.STRING:
            self.unknown += 1
            return 0
        return (prod(dims) * value.dtype.bitwidth + 7) // 8


def _is_view(node: ir.Node) -> bool:
    return node.op_type in _VIEWS and node.domain in ("", "ai.onnx")


def _subgraphs(node: ir.Node) -> list[ir.Graph]:
    found: list[ir.Graph] = []
    for attribute in node.attributes.values():
        if isinstance(attribute, ir.Attr) and attribute.type == ir.AttributeType.GRAPH:
            found.append(attribute.as_graph())
        elif isinstance(attribute, ir.Attr) and attribute.type == ir.AttributeType.GRAPHS:
            found.extend(attribute.as_graphs())
    return found


def _reads(node: ir.Node) -> list[ir.Value]:
    """Return what the node and the nodes of its subgraphs read."""
    reads = [value for value in node.inputs if value is not None]
    for graph in _subgraphs(node):
        for inner in graph.all_nodes():
            reads += [value for value in inner.inputs if value is not None]
        reads += list(graph.outputs)
    return reads
