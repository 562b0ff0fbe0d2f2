"""Append to a graph the sum of its examples' gradients, each cut to a length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from onnxsmith.errors import SmithError
from onnxsmith.passes.autodiff.backward import Backward, NotDifferentiableError
from onnxsmith.passes.autodiff.bodies import expand
from onnxsmith.passes.autodiff.differentiate import back_through, differentiate, total, writer_for
from onnxsmith.passes.autodiff.per_example.norms import NORMS
from onnxsmith.passes.autodiff.table import find_rule
from onnxsmith.passes.autodiff.writer import INT64, UnknownRankError, Writer, rank_of
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.cleanup.infer_shapes import InferShapes
from onnxsmith.passes.fusion.decompose import Decompose
from onnxsmith.passes.match import STANDARD, ints_of, same_dim

_NORMALIZATIONS = ("GroupNormalization", "LayerNormalization", "RMSNormalization")
_MOVES = ("Flatten", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
"""Operators that only move the elements of a parameter: its gradient keeps its length."""
_TINY = 1e-12


@dataclass(frozen=True)
class _Tap:
    """Where parameters meet the examples.

    Attributes:
        node: The node.
        inputs: Which of its inputs are made of parameters.
    """

    node: ir.Node
    inputs: tuple[int, ...]


def clipped_gradients(
    model: ir.Model, of: ir.Value, wrt: Sequence[ir.Value], examples: ir.Value, limit: float
) -> list[ir.Value | None]:
    """Append nodes that compute ``sum_i g_i min(1, limit / ||g_i||)``.

    ``g_i`` is the gradient of example ``i`` for all of ``wrt`` together. One pass back finds the
    gradients at the nodes that read parameters; their lengths follow from those, and once scaled
    they give the sum.

    Args:
        model: Prepared by :func:`onnxsmith.passes.autodiff.prepare.prepare`; it is edited.
        of: A scalar of its outermost graph: the mean, over examples, of a loss of each alone.
        wrt: Parameters, which are inputs of the graph.
        examples: A value whose first axis is that of the examples.
        limit: The greatest length.

    Returns:
        The sum for each of ``wrt``, in its shape; None where ``of`` does not depend on it.

    Raises:
        SmithError: A node mixes examples, or the length of its gradients is not known how to find;
            it is named, with the reason.
    """
    name = of.name
    Decompose(_NORMALIZATIONS).apply(model, PassContext())
    InferShapes().apply(model, PassContext())
    found = _taps(model, wrt)
    for tap in found:
        _check(tap.node, examples)
    of = next(v for node in model.graph for v in node.outputs if v.name == name)
    grads = differentiate(model, of, [tap.node.outputs[0] for tap in found])
    write = writer_for(model)
    reached = [(tap, grad) for tap, grad in zip(found, grads, strict=True) if grad is not None]
    if not reached:
        return [None] * len(wrt)
    factors = _factors(write, reached, examples, limit)
    sums: dict[ir.Value, list[ir.Value]] = {}
    for tap, grad in reached:
        _through(write, tap, _scaled(write, tap, grad, factors), sums)
    _back_to(write, wrt, sums)
    results = [total(write, sums, value) for value in wrt]
    model.graph.extend(write.nodes)
    return results


def _taps(model: ir.Model, wrt: Sequence[ir.Value]) -> list[_Tap]:
    """Return the nodes that read parameters, operators without a rule written as their bodies."""
    while True:
        by_node: dict[ir.Node, list[int]] = {}
        for value in wrt:
            for node, index in _use(value):
                by_node.setdefault(node, []).append(index)
        unknown = [node for node in by_node if not _is_known(node)]
        if not unknown:
            return [_Tap(node, tuple(sorted(places))) for node, places in by_node.items()]
        left = expand(model, unknown)
        if left:
            raise _refusal(left[0], "the gradients of single examples are not known")
        InferShapes().apply(model, PassContext())


def _is_known(node: ir.Node) -> bool:
    return node.domain in STANDARD and node.op_type in NORMS


def _use(value: ir.Value) -> list[tuple[ir.Node, int]]:
    """Return where a parameter meets examples: at one place, or the lengths do not add up."""
    while True:
        uses = list(value.uses())
        if not uses:
            return []
        node, index = uses[0]
        if len(uses) > 1:
            raise _refusal(node, f"the parameter {value.name!r} is used at {len(uses)} places")
        if not _only_moves(node, index):
            return [(node, index)]
        value = node.outputs[0]


def _only_moves(node: ir.Node, index: int) -> bool:
    if node.domain not in STANDARD or index != 0:
        return False
    if node.op_type != "Gather":
        return node.op_type in _MOVES
    picked = ints_of(node.inputs[1])
    return picked is not None and len(set(picked)) == len(picked)


def _check(node: ir.Node, examples: ir.Value) -> None:
    """Refuse a node whose first axis is not that of the examples."""
    shape = node.outputs[0].shape
    if shape is None or examples.shape is None:
        raise _refusal(node, "the rank of its result is not known")
    if not len(shape) or not same_dim(shape[0], examples.shape[0]):
        raise _refusal(node, "the first axis of its result is not that of the examples")


def _factors(
    w: Writer, reached: Sequence[tuple[_Tap, ir.Value]], examples: ir.Value, limit: float
) -> ir.Value:
    """Return ``n min(1, limit / ||g_i||)`` for each of ``n`` examples.

    The gradients are those of a mean: each is an example's, divided by ``n``.
    """
    squared: ir.Value | None = None
    for tap, grad in reached:
        backward = _backward(w, tap, grad)
        try:
            for index in tap.inputs:
                part = NORMS[tap.node.op_type](backward, index)
                squared = part if squared is None else w.op("Add", squared, part)
        except NotDifferentiableError as error:
            raise _refusal(tap.node, str(error)) from error
        except UnknownRankError as error:
            raise _refusal(tap.node, f"the rank of {error} is not known") from error
    assert squared is not None  # there is a tap, and each has an input
    bounds = {"start": 0, "end": 1}
    count = w.cast(w.op("Shape", examples, attributes=bounds, dtype=INT64), squared.dtype)
    length = w.op("Mul", w.op("Sqrt", squared), count)
    ratio = w.op("Div", w.number(limit, length), w.op("Max", length, w.number(_TINY, length)))
    return w.op("Mul", w.op("Min", ratio, w.number(1, ratio)), count)


def _scaled(w: Writer, tap: _Tap, grad: ir.Value, factors: ir.Value) -> ir.Value:
    rank = rank_of(tap.node.outputs[0])
    shaped = w.op("Reshape", factors, w.ints([-1] + [1] * (rank - 1)))
    return w.op("Mul", grad, shaped)


def _through(w: Writer, tap: _Tap, grad: ir.Value, sums: dict[ir.Value, list[ir.Value]]) -> None:
    """Hand a gradient on to the parameters of a node."""
    rule = find_rule(tap.node)
    assert rule is not None  # what has a norm has a gradient
    gradients = rule(_backward(w, tap, grad))
    for index in tap.inputs:
        value, gradient = tap.node.inputs[index], gradients[index]
        assert value is not None  # a parameter was found there
        assert gradient is not None  # it was asked for
        sums.setdefault(value, []).append(gradient)


def _backward(w: Writer, tap: _Tap, grad: ir.Value) -> Backward:
    grads = (grad, *[None] * (len(tap.node.outputs) - 1))
    needs = tuple(index in tap.inputs for index in range(len(tap.node.inputs)))
    return Backward(tap.node, grads, needs, w)


def _back_to(w: Writer, wrt: Sequence[ir.Value], sums: dict[ir.Value, list[ir.Value]]) -> None:
    """Hand the gradients of moved parameters on to the parameters."""
    for parameter in wrt:
        moves, value = [], parameter
        while (uses := list(value.uses())) and _only_moves(*uses[0]):
            moves.append(uses[0].node)
            value = uses[0].node.outputs[0]
        for node in reversed(moves):
            if node.outputs[0] in sums:
                back_through(node, sums, {v for v in node.inputs if v is not None}, w, {})


def _refusal(node: ir.Node, reason: str) -> SmithError:
    name = node.name or next((v.name for v in node.outputs if v.name), "")
    return SmithError(
        f"the node {name!r} ({node.op_type}) cannot be trained privately: {reason}",
        "freeze its parameters, or train without --private",
    )
