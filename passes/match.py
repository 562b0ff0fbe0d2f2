"""Questions and edits that hand-written matchers share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir

Array = np.ndarray[Any, Any]

STANDARD = ("", "ai.onnx")
"""Spellings of the standard operators' domain."""

KNOWN_DOMAINS = (*STANDARD, "ai.onnx.ml", "com.microsoft")
"""Domains of operators that are known to give equal results for equal inputs, but for RANDOM."""

RANDOM = (
    "Bernoulli", "BiasDropout", "BitmaskBiasDropout", "BitmaskDropout", "Dropout", "Multinomial",
    "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Sampling",
)  # fmt: skip
"""Operators whose results may differ between two runs."""


def all_nodes(model: ir.Model, *, functions: bool = False) -> Iterator[ir.Node]:
    """Yield every node, those of subgraphs included; the graph may be edited meanwhile.

    Args:
        model: The model.
        functions: Whether also those of functions, which have no place for initializers.
    """
    yield from list(ir.traversal.RecursiveGraphIterator(model.graph))
    for function in model.functions.values() if functions else ():
        yield from list(ir.traversal.RecursiveGraphIterator(function))


def is_op(node: ir.Node | None, *kinds: str) -> bool:
    """Tell whether a node is one of these standard operators, and still in a graph."""
    return (
        node is not None
        and node.op_type in kinds
        and node.domain in STANDARD
        and node.graph is not None
    )


def made_by(value: ir.Value | None, *kinds: str) -> ir.Node | None:
    """Return the node that makes a value, if it is one of these standard operators."""
    node = None if value is None else value.producer()
    return node if is_op(node, *kinds) else None


def only_user(value: ir.Value, *kinds: str) -> ir.Node | None:
    """Return the one node that reads a value, if it is one of these standard operators."""
    uses = value.uses()
    if len(uses) != 1 or value.is_graph_output():
        return None
    (use,) = uses
    return use.node if is_op(use.node, *kinds) else None


def tensor_of(value: ir.Value | None) -> ir.TensorProtocol | None:
    """Return the tensor of a value that is the same in every run.

    An initializer that is also a graph input is a default that the caller may replace.
    """
    if value is None or value.is_graph_input():
        return None
    if value.is_initializer():
        return value.const_value
    return ir.convenience.get_const_tensor(value)


def array_of(value: ir.Value | None, limit: int = 1024) -> Array | None:
    """Return a constant of at most ``limit`` elements as an array."""
    tensor = tensor_of(value)
    if tensor is None or tensor.size > limit or tensor.dtype == ir.DataType.STRING:
        return None
    return tensor.numpy()


def ints_of(value: ir.Value | None) -> list[int] | None:
    """Return a constant of integers, of any rank, as a list."""
    array = array_of(value)
    if array is None or array.dtype.kind not in "iu":
        return None
    return [int(number) for number in array.reshape(-1)]


def int_attribute(node: ir.Node, name: str, default: int | None = None) -> int | None:
    """Return an integer attribute; None where it is a function's parameter or of another kind."""
    found = node.attributes.get(name)
    if found is None:
        return default
    return None if found.is_ref() or found.type != ir.AttributeType.INT else found.as_int()


def ints_attribute(node: ir.Node, name: str) -> list[int] | None:
    """Return an attribute of integers; None where it is absent, or not known to be some."""
    found = node.attributes.get(name)
    if found is None or found.is_ref() or found.type != ir.AttributeType.INTS:
        return None
    return list(found.as_ints())


def input_of(node: ir.Node, index: int) -> ir.Value | None:
    """Return an input; None where it is left out."""
    return node.inputs[index] if index < len(node.inputs) else None


def same_shape(first: ir.Value, second: ir.Value) -> bool:
    """Tell whether two values are known to have the same shape; names of dimensions count."""
    if first.shape is None or second.shape is None or len(first.shape) != len(second.shape):
        return False
    return all(same_dim(a, b) for a, b in zip(first.shape, second.shape, strict=True))


def same_dim(first: int | ir.SymbolicDim, second: int | ir.SymbolicDim) -> bool:
    """Tell whether two dimensions are known to be of one size."""
    if isinstance(first, int) or isinstance(second, int):
        return isinstance(first, int) and isinstance(second, int) and first == second
    return first.value is not None and first.value == second.value


def can_bypass(node: ir.Node, value: ir.Value) -> bool:
    """Tell whether ``value`` can take the place of the node's first output.

    A graph output needs a producer in its own graph, and its own name.
    """
    if not node.outputs[0].is_graph_output():
        return True
    producer = value.producer()
    return producer is not None and producer.graph is node.graph and not value.is_graph_output()


def bypass(node: ir.Node, value: ir.Value) -> bool:
    """Let ``value`` take the place of the node's first output; return whether that was possible.

    The node is removed where nothing else needs it.
    """
    result, graph = node.outputs[0], node.graph
    if graph is None or not can_bypass(node, value):
        return False
    if result.is_graph_output():
        value.name, result.name = result.name, None
        value.shape = value.shape if result.shape is None else result.shape
    if value.type is None:
        value.type = result.type
    if value.shape is None:
        value.shape = result.shape
    result.replace_all_uses_with(value, replace_graph_outputs=True)
    remove_if_dead(node)
    return True


def replace(node: ir.Node, new: ir.Node) -> None:
    """Put ``new`` in the place of ``node``; its first output takes over name, type and shape."""
    graph = node.graph
    assert graph is not None  # matchers only see nodes of graphs
    old, value = node.outputs[0], new.outputs[0]
    value.name, value.type, value.shape = old.name, old.type, old.shape
    old.name = None
    graph.insert_before(node, new)
    old.replace_all_uses_with(value, replace_graph_outputs=True)
    remove_if_dead(node)


def remove_if_dead(node: ir.Node) -> None:
    """Remove a node none of whose outputs is read, and what was computed for it alone."""
    pending = [node]
    while pending:
        node = pending.pop()
        if node.graph is None or any(v.uses() or v.is_graph_output() for v in node.outputs):
            continue
        before = [v.producer() for v in node.inputs if v is not None]
        pending += [n for n in before if n is not None]
        node.graph.remove(node, safe=True)


def add_constant(graph: ir.Graph, array: Array, name: str) -> ir.Value:
    """Add an initializer.

    Args:
        graph: Where it is read; not that of a function.
        array: What it is.
        name: What to call it; a number is appended where the name is taken.
    """
    return add_tensor(graph, ir.Tensor(array), name)  # ir.tensor() asks many types first


def constant_node(array: Array, name: str) -> ir.Node:
    """Return a Constant, in no graph yet: for functions, and for graphs that may be bodies.

    Args:
        array: What it is.
        name: What to call its output.
    """
    node = ir.node("Constant", [], {"value": ir.Tensor(array)})
    value = node.outputs[0]
    value.name, value.shape = name, ir.Shape(array.shape)
    value.type = ir.TensorType(ir.DataType.from_numpy(array.dtype))
    return node


def add_tensor(graph: ir.Graph, tensor: ir.TensorProtocol, name: str) -> ir.Value:
    """Add an initializer that is a tensor already; see :func:`add_constant`."""
    free, count = name, 1
    while free in graph.initializers:
        free = f"{name}_{count}"
        count += 1
    tensor.name = free
    shape, kind = ir.Shape(tensor.shape.numpy()), ir.TensorType(tensor.dtype)
    value = ir.Value(name=free, shape=shape, type=kind, const_value=tensor)
    graph.register_initializer(value)
    return value
