"""The gradient of a model as a model."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.autodiff.backward import Rules
from onnxsmith.passes.autodiff.differentiate import differentiate
from onnxsmith.passes.autodiff.path import may_flow
from onnxsmith.passes.autodiff.plain_batch_norm import plain_batch_norm
from onnxsmith.passes.autodiff.prepare import prepare
from onnxsmith.passes.autodiff.relu_behind_pool import relu_behind_pool
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.cleanup.remove_unused_nodes import RemoveUnusedNodes
from onnxsmith.plugins import suggestion


def gradients(
    model: Artifact, of: str, wrt: Sequence[str], custom: Rules | None = None
) -> Artifact:
    """Return a model that computes a value and its gradients.

    Args:
        model: It stays as it was.
        of: One of its outputs; where it has more than one element, their sum is differentiated.
        wrt: Inputs or initializers to differentiate by.
        custom: Rules for operators of other domains, by domain and operator.

    Returns:
        A model of the same inputs with the outputs ``of`` and, for each of ``wrt``,
        ``NAME_gradient`` in the shape of ``NAME``.

    Raises:
        SmithError: A name is not there or not a float tensor, or a node cannot be differentiated.
    """
    work = model.model.clone()
    graph = work.graph
    known = {v.name or "": v for v in (*graph.inputs, *graph.initializers.values())}
    results = {v.name or "": v for v in graph.outputs}
    _check(of, results, "output")
    for name in wrt:
        _check(name, known, "input or initializer")
    weights = {
        name: graph.initializers[name].const_value for name in wrt if name in graph.initializers
    }
    inputs = {v.name for v in graph.inputs}
    work = prepare(work, weights, custom)
    relu_behind_pool(work)
    graph = work.graph
    result = next(v for v in graph.outputs if v.name == of)
    by_name = {v.name: v for v in graph.inputs}
    values = [by_name[name] for name in wrt]
    found = differentiate(work, result, values, custom)
    result = next(v for v in graph.outputs if v.name == of)
    graph.outputs[:] = [result]
    for name, value, gradient in zip(wrt, values, found, strict=True):
        graph.outputs.append(_output(graph, name, value, gradient))
    for name, tensor in weights.items():
        value = by_name[name]
        if name not in inputs:
            graph.inputs.remove(value)
        value.const_value = tensor
        graph.register_initializer(value)
    plain_batch_norm(work)
    RemoveUnusedNodes().apply(work, PassContext())
    return Artifact(work, history=model.history)


def _check(name: str, known: dict[str, ir.Value], what: str) -> None:
    if name not in known:
        raise SmithError(f"the model has no {what} {name!r}", suggestion(name, sorted(known)))
    if not may_flow(known[name]):
        raise SmithError(
            f"{name!r} is {known[name].dtype}, which has no gradient", "name a tensor of floats"
        )


def _output(graph: ir.Graph, name: str, value: ir.Value, gradient: ir.Value | None) -> ir.Value:
    """Return a graph output that nothing else is: zeros where there is no gradient."""
    if gradient is None:
        shape = ir.node("Shape", [value])
        zero = ir.node("ConstantOfShape", [shape.outputs[0]])
        like = ir.node("CastLike", [zero.outputs[0], value])
        nodes = [shape, zero, like]
    else:
        nodes = [ir.node("Identity", [gradient])]
    graph.extend(nodes)
    output = nodes[-1].outputs[0]
    output.name, output.type, output.shape = f"{name}_gradient", value.type, value.shape
    return output
