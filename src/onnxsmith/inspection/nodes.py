"""What each node of a graph costs in one run of the model, control flow included."""

from __future__ import annotations

from dataclasses import dataclass, replace

import onnx_ir as ir

from onnxsmith.inspection.census import operator_name
from onnxsmith.inspection.costs import Cost, node_cost
from onnxsmith.inspection.shapes import sizes


@dataclass(frozen=True)
class NodeCost:
    """One node's share of a run.

    Attributes:
        name: The node's name, or that of its first output.
        operator: Its operator.
        outputs: The shapes of its outputs as text.
        executions: How often it runs: more than once in a loop of known length.
        macs: Multiply-accumulates of all executions.
        flops: Operations of all executions.
        reason: Why it was not counted, or an empty text.
        note: What was assumed for it, or an empty text.
        counted: False for nodes of the cheaper branches of an ``If``: only one branch runs, and
            the costliest stands for all.
    """

    name: str
    operator: str
    outputs: str
    executions: int
    macs: int
    flops: int
    reason: str = ""
    note: str = ""
    counted: bool = True


def cost_nodes(graph: ir.Graph) -> tuple[NodeCost, ...]:
    """Return the cost of each node of a graph with concrete shapes, subgraphs included."""
    return tuple(_walk(graph, 1))


def _walk(graph: ir.Graph, executions: int) -> list[NodeCost]:
    found: list[NodeCost] = []
    for node in graph:
        times, note = _repetitions(node)
        found.append(_row(node, node_cost(node), executions, note))
        branches = [_walk(body, executions * times) for body in _bodies(node)]
        dearest = max(branches, key=_flops, default=[])
        for branch in branches:
            kept = branch is dearest or node.op_type != "If"
            found += branch if kept else [replace(row, counted=False) for row in branch]
    return found


def _flops(rows: list[NodeCost]) -> int:
    return sum(row.flops for row in rows if row.counted)


def _row(node: ir.Node, cost: Cost, executions: int, note: str) -> NodeCost:
    first = node.outputs[0].name if node.outputs else ""
    return NodeCost(
        node.name or first or "",
        operator_name(node),
        ", ".join(_shape_text(value) for value in node.outputs),
        executions,
        cost.macs * executions,
        cost.flops * executions,
        cost.reason,
        note,
    )


def _repetitions(node: ir.Node) -> tuple[int, str]:
    """Return how often the bodies of ``node`` run in one execution of it."""
    if node.domain not in ("", "ai.onnx"):
        return 1, ""
    if node.op_type == "Loop":
        limit = node.inputs[0] if node.inputs else None
        tensor = None if limit is None else ir.convenience.get_const_tensor(limit)
        if tensor is not None and tensor.size == 1:
            return int(tensor.numpy().item()), ""
        return 1, "the number of iterations is not known"
    if node.op_type == "Scan":
        scanned = node.attributes.get_int("num_scan_inputs", 1) or 1
        axes = node.attributes.get_ints("scan_input_axes", ()) or (0,) * scanned
        shape = sizes(node.inputs[len(node.inputs) - scanned])
        if shape is not None:
            return shape[axes[0]], ""
        return 1, "the length of the scan is not known"
    return 1, ""


def _bodies(node: ir.Node) -> list[ir.Graph]:
    return [
        attribute.as_graph()
        for attribute in node.attributes.values()
        if isinstance(attribute, ir.Attr) and attribute.type == ir.AttributeType.GRAPH
    ]


def _shape_text(value: ir.Value) -> str:
    if value.shape is None:
        return "?"
    dims = ",".join(str(d) if isinstance(d, int) else "?" for d in value.shape)
    return f"{'' if value.dtype is None else value.dtype.name.lower()}[{dims}]"
