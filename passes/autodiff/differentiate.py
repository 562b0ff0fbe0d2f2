"""Append to a graph the gradient of one of its values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import onnx_ir as ir

from onnxsmith.errors import SmithError
from onnxsmith.passes.autodiff.backward import Backward, NotDifferentiableError, Rule, Rules
from onnxsmith.passes.autodiff.bodies import expand
from onnxsmith.passes.autodiff.custom import known_operators, rules_of
from onnxsmith.passes.autodiff.path import (
    FLOATS,
    bodies_of,
    captured,
    dependents,
    may_flow,
    path_between,
)
from onnxsmith.passes.autodiff.table import REFUSED, find_rule
from onnxsmith.passes.autodiff.writer import UnknownRankError, Writer
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.match import STANDARD
from onnxsmith.passes.pipeline import PassPipeline

_AFTER_BODIES = "infer-shapes,fold-shapes,fold-constants,infer-shapes"
"""Bodies compute shapes, which are constants where the sizes are known."""


def differentiate(
    model: ir.Model, of: ir.Value, wrt: Sequence[ir.Value], custom: Rules | None = None
) -> list[ir.Value | None]:
    """Append the nodes that compute the gradient of the sum of a value.

    By reverse accumulation: nodes are visited from last to first, and the gradients that reach a
    value by several ways are added. Nodes of operators without a rule are replaced by their
    function body.

    Args:
        model: Prepared by :func:`onnxsmith.passes.autodiff.prepare.prepare`; it is edited.
        of: A value of its outermost graph.
        wrt: Values to differentiate by, which nothing in the graph may compute from constants.
        custom: Rules for operators of other domains, besides those that registered ones bring.

    Returns:
        A gradient for each of ``wrt``, in its shape; None where ``of`` does not depend on it.

    Raises:
        SmithError: A node in between cannot be differentiated; it is named, with the reason.

    Source: Griewank and Walther, "Evaluating Derivatives" (2008), chapter 3.
    """
    custom = {**rules_of(known_operators(model)), **(custom or {})}
    path, of = _with_rules(model, of, wrt, custom)
    reached = dependents(model.graph, wrt)
    write = writer_for(model)
    sums = {of: [write.fill(write.shape_of(of), of, 1)]}
    for node in path:
        back_through(node, sums, reached, write, custom)
    results = [total(write, sums, value) for value in wrt]
    model.graph.extend(write.nodes)
    return results


def writer_for(model: ir.Model) -> Writer:
    """Return a writer whose names nothing in the model has."""
    names = {
        value.name or ""
        for node in ir.traversal.RecursiveGraphIterator(model.graph)
        for value in (*node.outputs, *(v for v in node.inputs if v is not None))
    }
    names.update(model.graph.initializers)
    prefix = "gradient"
    while any(name.startswith(prefix) for name in names):
        prefix += "_"
    version = next(model.opset_imports[d] for d in STANDARD if d in model.opset_imports)
    return Writer(model.graph, version, prefix)


def back_through(
    node: ir.Node,
    sums: dict[ir.Value, list[ir.Value]],
    reached: set[ir.Value],
    write: Writer,
    custom: Rules,
) -> None:
    """Hand the gradients of a node's outputs on to its inputs.

    Args:
        node: It has a rule.
        sums: The gradients that have reached each value; those of the inputs are added to.
        reached: What the gradient is asked by, or depends on it.
        write: Where nodes are written.
        custom: Rules for operators of other domains.
    """
    grads = tuple(total(write, sums, value) for value in node.outputs)
    if all(grad is None for grad in grads):
        return
    rule = _rule(node, custom)
    assert rule is not None  # _with_rules() refused what has none
    outer = captured(node)
    reads = (*node.inputs, *outer)
    needs = tuple(v is not None and v in reached for v in reads)
    try:
        gradients = rule(Backward(node, grads, needs, write, custom))
        for place, value in enumerate(reads[len(gradients) :], len(gradients)):
            if needs[place] and value is not None and value.dtype in FLOATS:
                raise NotDifferentiableError(f"its gradient by input {place} is not known")
    except NotDifferentiableError as error:
        raise _refusal(node, str(error)) from error
    except UnknownRankError as error:
        raise _refusal(node, f"the rank of {error} is not known") from error
    for value, gradient, needed in zip(reads, gradients, needs, strict=False):
        if value is not None and gradient is not None and needed:
            sums.setdefault(value, []).append(gradient)


def total(write: Writer, sums: dict[ir.Value, list[ir.Value]], value: ir.Value) -> ir.Value | None:
    """Return the sum of the gradients that reached a value, None where none did."""
    parts = sums.get(value)
    if not parts:
        return None
    whole = parts[0]
    for part in parts[1:]:
        whole = write.op("Add", whole, part)
    sums[value] = [whole]
    whole.shape = whole.shape or value.shape  # a gradient has the shape of what it is for
    return whole


def _with_rules(
    model: ir.Model, of: ir.Value, wrt: Sequence[ir.Value], custom: Rules
) -> tuple[list[ir.Node], ir.Value]:
    """Return the path, every node of it with a rule, and what ``of`` has become by that."""
    name = of.name
    while True:
        model.graph.sort()
        path = path_between(model.graph, dependents(model.graph, wrt), [of])
        missing = list(_without_rules(path, dependents(model.graph, wrt), custom))
        if not missing:
            return path, of
        for node in missing:
            if node.op_type in REFUSED:
                raise _refusal(node, REFUSED[node.op_type])
        left = expand(model, missing)
        if left:
            raise _refusal(left[0], f"there is no rule for {left[0].domain or 'ai.onnx'} operators")
        for step in PassPipeline.parse(_AFTER_BODIES).passes:
            step.apply(model, PassContext())
        of = next((v for node in model.graph for v in node.outputs if v.name == name), of)


def _without_rules(
    path: Iterable[ir.Node], reached: set[ir.Value], custom: Rules
) -> Iterator[ir.Node]:
    """Yield the nodes that lack a rule, those in the bodies of others included."""
    for node in path:
        if _rule(node, custom) is None:
            yield node
            continue
        for body in bodies_of(node):
            inside = dependents(body, reached | {v for v in body.inputs if may_flow(v)})
            yield from _without_rules(path_between(body, inside, body.outputs), inside, custom)


def _rule(node: ir.Node, custom: Rules) -> Rule | None:
    return custom.get((node.domain, node.op_type)) or find_rule(node)


def _refusal(node: ir.Node, reason: str) -> SmithError:
    name = node.name or next((v.name for v in node.outputs if v.name), "")
    return SmithError(
        f"the node {name!r} ({node.op_type}) cannot be differentiated: {reason}",
        "write it in other operators, or leave out what lies before it",
    )
