"""Evaluate everything that depends on constants only, in one session of the runtime."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx
import onnx_ir as ir

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.match import RANDOM
from onnxsmith.runtime.session import Session
from onnxsmith.storage.save import STREAM_THRESHOLD
from onnxsmith.storage.tensors import TransposedTensor

# A quantized weight is stored small and expanded by the kernel: folding would undo that.
_QUANTIZATION = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"}
# What the runtime hands over as a numpy array.
_TYPES = {
    ir.DataType.FLOAT,
    ir.DataType.DOUBLE,
    ir.DataType.FLOAT16,
    ir.DataType.BOOL,
    ir.DataType.INT8,
    ir.DataType.INT16,
    ir.DataType.INT32,
    ir.DataType.INT64,
    ir.DataType.UINT8,
    ir.DataType.UINT16,
    ir.DataType.UINT32,
    ir.DataType.UINT64,
}
_MAX_WAVES = 8


@dataclass(frozen=True)
class FoldConstants(Pass):
    """Evaluate nodes whose inputs are all constant, in one session of the runtime.

    ``f(constants) = constant``. Left alone are random operators, quantization pairs, nodes with
    subgraphs, producers of a subgraph's outputs, operators that the runtime lacks, and results
    larger than both ``limit`` bytes and the node's inputs together. Large transposed weights are
    computed one by one when the model is run or written, not held in memory until then; of those
    that something else reads as they are, ``untie`` makes a second copy, as quantizers want.

    Source: the idea of ``onnxruntime``'s ConstantFolding, with a size budget.
    """

    name: ClassVar[str] = "fold-constants"

    limit: int = 1024 * 1024
    untie: bool = False

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Fold in waves: a result may give the next wave a shape it needs."""
        folded, refused = 0, set[ir.Node]()
        for _ in range(_MAX_WAVES):
            count = sum(
                self._fold_graph(model, graph, refused)
                for graph in (model.graph, *model.graph.subgraphs())
            )
            folded += count
            if not count:
                break
        details = {"folded": folded, "refused": sorted({node.op_type for node in refused})}
        return PassResult(model, bool(folded), details)

    def _fold_graph(self, model: ir.Model, graph: ir.Graph, refused: set[ir.Node]) -> int:
        at_root = graph is model.graph
        transposed = _transpose(graph, refused, at_root=at_root, untie=self.untie)
        candidates = _candidates(graph, refused, at_root=at_root)
        chosen = self._affordable(model, candidates) if candidates else []
        return transposed + (_evaluate(model, graph, chosen, refused) if chosen else 0)

    def _affordable(self, model: ir.Model, nodes: Sequence[ir.Node]) -> list[ir.Node]:
        """Return the nodes whose results have a known size within the budget."""
        shapes = _infer(model, nodes)
        sizes: dict[ir.Value, int] = {}
        chosen = []
        for node in nodes:
            inputs = [value for value in node.inputs if value is not None]
            if not all(_is_constant(value) or value in sizes for value in inputs):
                continue
            given = sum(sizes[v] if v in sizes else _tensor(v).nbytes for v in inputs)
            results = {out: shapes.get(out.name or "") for out in node.outputs if out.name}
            if all(
                size is not None and size <= max(self.limit, given) for size in results.values()
            ):
                sizes.update({out: size or 0 for out, size in results.items()})
                chosen.append(node)
        return chosen


def _candidates(graph: ir.Graph, refused: set[ir.Node], *, at_root: bool) -> list[ir.Node]:
    """Return the nodes that depend on constants only, in topological order."""
    found: list[ir.Node] = []
    reached: set[ir.Value] = set()
    for node in graph:
        if node in refused or not _is_pure(node, at_root=at_root):
            continue
        inputs = [value for value in node.inputs if value is not None]
        if all(_is_constant(value) or value in reached for value in inputs):
            found.append(node)
            reached.update(node.outputs)
    return found


def _transpose(graph: ir.Graph, refused: set[ir.Node], *, at_root: bool, untie: bool) -> int:
    """Replace large transposed constants by tensors that are transposed when they are read."""
    count = 0
    for node in graph:
        if node.op_type != "Transpose" or node in refused or not _is_pure(node, at_root=at_root):
            continue
        source = node.inputs[0]
        if source is None or not _is_constant(source) or _tensor(source).nbytes < STREAM_THRESHOLD:
            continue
        if not untie and not all(user.op_type == "Transpose" for user, _ in source.uses()):
            refused.add(node)  # a tied weight is stored once: the runtime transposes it on loading
            continue
        tensor = _tensor(source)
        rank = len(tensor.shape)
        order = node.attributes.get_ints("perm") or tuple(reversed(range(rank)))
        if tensor.dtype not in _TYPES or sorted(order) != list(range(rank)):
            continue
        result = node.outputs[0]
        _replace(graph, result, TransposedTensor(tensor, order, result.name or ""))
        graph.remove(node, safe=True)
        count += 1
    return count


def _is_pure(node: ir.Node, *, at_root: bool) -> bool:
    return (
        node.domain in ("", "ai.onnx")
        and node.op_type not in (*RANDOM, *_QUANTIZATION, "Constant")
        and not any(
            attr.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) or attr.is_ref()
            for attr in node.attributes.values()
        )
        and (at_root or not any(out.is_graph_output() for out in node.outputs))
    )


def _is_constant(value: ir.Value) -> bool:
    return (
        value.is_initializer()
        and not value.is_graph_input()
        and value.const_value is not None
        and value.const_value.dtype != ir.DataType.STRING
    )


def _tensor(value: ir.Value) -> ir.TensorProtocol:
    assert value.const_value is not None  # _is_constant() was asked before
    return value.const_value


def _evaluate(model: ir.Model, graph: ir.Graph, nodes: list[ir.Node], refused: set[ir.Node]) -> int:
    """Replace the results of ``nodes`` by initializers; where the runtime refuses, halve."""
    inside = set(nodes)
    wanted = [
        out
        for node in nodes
        for out in node.outputs
        if out.is_graph_output() or any(user not in inside for user, _ in out.uses())
    ]
    try:
        results = _run(model, nodes, wanted)
    except SmithError:
        if len(nodes) == 1:
            refused.add(nodes[0])
            return 0
        # A prefix in topological order depends on nothing behind it.
        half = len(nodes) // 2
        count = _evaluate(model, graph, nodes[:half], refused)
        rest = [n for n in nodes[half:] if all(v is None or _is_constant(v) for v in n.inputs)]
        return count + (_evaluate(model, graph, rest, refused) if rest else 0)
    for value in wanted:
        name = value.name or ""
        _replace(graph, value, ir.Tensor(results[name], name=name))
    count = 0
    for node in reversed(nodes):  # users first
        if not any(out.uses() for out in node.outputs):
            graph.remove(node, safe=True)
            count += 1
    return count


def _replace(graph: ir.Graph, value: ir.Value, tensor: ir.TensorProtocol) -> None:
    name = value.name
    assert name is not None  # the result of a node has a name
    constant = ir.Value(
        name=name,
        shape=ir.Shape(tensor.shape.numpy()),
        type=ir.TensorType(tensor.dtype),
        const_value=tensor,
    )
    value.replace_all_uses_with(constant, replace_graph_outputs=True)
    value.name = f"{name}_folded"
    graph.initializers[name] = constant


def _run(
    model: ir.Model, nodes: Sequence[ir.Node], wanted: Sequence[ir.Value]
) -> dict[str, np.ndarray[Any, Any]]:
    if not wanted:
        return {}
    extract = _extract(model, nodes, wanted)
    with Session(Artifact(extract), optimize=False) as session:
        return session.run({})


def _infer(model: ir.Model, nodes: Sequence[ir.Node]) -> dict[str, int | None]:
    """Return the bytes of each result by name; None where the shape depends on values."""
    extract = _extract(model, nodes, [out for node in nodes for out in node.outputs if out.name])
    for value in extract.graph.initializers.values():
        # Other passes may have left what was inferred before the value was known.
        value.shape = ir.Shape(_tensor(value).shape.numpy())
        if _tensor(value).nbytes >= STREAM_THRESHOLD:
            # Shape inference needs the shape of a large weight only.
            tensor = _tensor(value)
            value.const_value = ir.ExternalTensor(
                "unread",
                0,
                tensor.nbytes,
                tensor.dtype,
                shape=ir.Shape(tensor.shape.numpy()),
                name=value.name or "",
            )
    proto = onnx.shape_inference.infer_shapes(ir.to_proto(extract), data_prop=True)
    return {info.name: _bytes(info) for info in proto.graph.output}


def _bytes(info: onnx.ValueInfoProto) -> int | None:
    kind = info.type.tensor_type
    if not info.type.HasField("tensor_type") or not kind.HasField("shape"):
        return None
    dtype = ir.DataType(kind.elem_type)
    if dtype not in _TYPES or not all(dim.HasField("dim_value") for dim in kind.shape.dim):
        return None
    size = 1
    for dim in kind.shape.dim:
        size *= dim.dim_value
    return size * dtype.bitwidth // 8


def _extract(model: ir.Model, nodes: Sequence[ir.Node], outputs: Sequence[ir.Value]) -> ir.Model:
    """Return a model of its own that computes ``outputs`` from constants."""
    constants = {v: _copy(v) for v in _inputs(nodes) if _is_constant(v)}
    mapping: dict[ir.Value, ir.Value] = dict(constants)
    copies = []
    for node in nodes:
        copy = ir.Node(
            node.domain,
            node.op_type,
            [None if v is None else mapping[v] for v in node.inputs],
            list(node.attributes.values()),
            num_outputs=len(node.outputs),
            name=node.name,
        )
        for old, new in zip(node.outputs, copy.outputs, strict=True):
            new.name = old.name
            mapping[old] = new
        copies.append(copy)
    graph = ir.Graph(
        [],
        [mapping[v] for v in outputs],
        nodes=copies,
        initializers=list(constants.values()),
        opset_imports=model.graph.opset_imports,
        name="constants",
    )
    return ir.Model(graph, ir_version=max(model.ir_version, 4))


def _inputs(nodes: Sequence[ir.Node]) -> Iterator[ir.Value]:
    for node in nodes:
        yield from (value for value in node.inputs if value is not None)


def _copy(value: ir.Value) -> ir.Value:
    return ir.Value(
        name=value.name, shape=value.shape, type=value.type, const_value=value.const_value
    )
