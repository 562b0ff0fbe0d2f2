"""Which operators a model has, and how large its weights are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import onnx_ir as ir

# Indices, shapes, masks and texts are no parameters.
_NOT_PARAMETERS = frozenset({ir.DataType.INT64, ir.DataType.BOOL, ir.DataType.STRING})


@dataclass(frozen=True)
class WeightTotals:
    """The weights of one element type.

    Attributes:
        elements: Number of values.
        bytes: Their size in memory.
    """

    elements: int
    bytes: int


def count_operators(model: ir.Model) -> dict[str, int]:
    """Return how often each operator occurs, most frequent first.

    Nodes of subgraphs and of function bodies count once each; a call of a function counts as an
    operator of the function's name. Operators outside ai.onnx are written ``domain.Operator``.
    """
    counts = Counter(operator_name(node) for graph in model.graphs() for node in graph)
    for function in model.functions.values():
        counts.update(operator_name(node) for node in function)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def operator_name(node: ir.Node) -> str:
    """Return ``Operator``, or ``domain.Operator`` outside ai.onnx."""
    plain = node.domain in ("", "ai.onnx")
    return node.op_type if plain else f"{node.domain}.{node.op_type}"


def count_weights(model: ir.Model) -> dict[str, WeightTotals]:
    """Return elements and bytes of initializers and Constant nodes by element type."""
    elements: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for dtype, shape in _tensors(model):
        count = prod(shape)
        elements[dtype.name.lower()] += count
        if dtype != ir.DataType.STRING:
            sizes[dtype.name.lower()] += (count * dtype.bitwidth + 7) // 8
    return {name: WeightTotals(elements[name], sizes[name]) for name in sorted(elements)}


def count_parameters(model: ir.Model) -> int:
    """Return the number of weights, without indices, shapes, masks and texts (int64, bool)."""
    return sum(prod(shape) for dtype, shape in _tensors(model) if dtype not in _NOT_PARAMETERS)


def _tensors(model: ir.Model) -> Iterator[tuple[ir.DataType, tuple[int, ...]]]:
    for graph in model.graphs():
        for value in graph.initializers.values():
            if value.const_value is not None:
                yield value.const_value.dtype, tuple(value.const_value.shape.numpy())
    nodes = [node for graph in model.graphs() for node in graph]
    nodes += [node for function in model.functions.values() for node in function]
    for node in nodes:
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
            yield from _constant(node)


def _constant(node: ir.Node) -> Iterator[tuple[ir.DataType, tuple[int, ...]]]:
    if "value" in node.attributes:
        tensor = node.attributes["value"].as_tensor()
        yield tensor.dtype, tuple(tensor.shape.numpy())
    elif "value_float" in node.attributes:
        yield ir.DataType.FLOAT, ()
    elif "value_floats" in node.attributes:
        yield ir.DataType.FLOAT, (len(node.attributes["value_floats"].as_floats()),)
