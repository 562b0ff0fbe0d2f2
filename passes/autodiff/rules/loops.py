"""Gradients of Scan and Loop.

The forward node also collects the states that each step begins with; the way back runs the steps
from the last to the first, computes each again and differentiates it. So memory grows with the
states, not with all that a step computes.

Source: Scan and Loop of ONNX; Griewank and Walther, "Evaluating Derivatives" (2008), chapter 12,
for computing again what was not kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.autodiff.backward import Backward, Gradients, NotDifferentiableError
from onnxsmith.passes.autodiff.path import captured, inputs_of, may_flow
from onnxsmith.passes.autodiff.subgraphs import (
    Copy,
    body_graph,
    copy_of,
    differentiate_copy,
    own,
)
from onnxsmith.passes.autodiff.writer import INT64, Writer


def scan(b: Backward) -> Gradients:
    """A Scan in the other direction: gradients of elements are collected, others summed up."""
    count = len(b.node.inputs) - b.int("num_scan_inputs", 0)
    body = b.node.attributes["body"].as_graph()
    inner, copy = b.write.inner(), copy_of(b, body, b.write)
    _take_types(copy.inputs, b.node.inputs)
    states, elements = copy.inputs[:count], copy.inputs[count:]
    items = [v for v, need in zip(elements, b.needs[count:], strict=False) if need and may_flow(v)]
    given = {
        place: _like(b.write, grad, output.shape)
        for place, (grad, output) in enumerate(zip(b.grads, copy.outputs, strict=True))
        if grad is not None and place >= count
    }
    back = _step_back(b, inner, copy, states, copy.outputs[:count], given, items)
    inputs = [*back.carries, *back.sums, *states, *elements, *given.values()]
    graph = body_graph(inner, inputs, [*back.after, *back.collected], copy)
    read = _read(graph)
    used = [place for place, state in enumerate(states) if state in read]
    taken = [place for place, element in enumerate(elements) if element in read]
    if not used and not taken and not given:  # a Scan needs something to go along
        taken, read = [0], {elements[0]}
    unread = {*states, *elements} - read
    graph.inputs[:] = [v for v in inputs if v not in unread]
    stacks = _collect(b, body, [body.inputs[place] for place in used])
    places = [elements.index(item) for item in items]
    attributes = _directions(b, graph, count, len(used), taken, places, list(given))
    found = b.write.ops(
        "Scan",
        *back.begin(b),
        *stacks,
        *(b.x(count + place) for place in taken),
        *(b.grads[place] for place in given),
        outputs=len(graph.outputs),
        attributes=attributes,
    )
    return _by_input(b, back, found, {count + place: place for place in places}, count)


def loop(b: Backward) -> Gradients:
    """A Loop over the steps that were made, from the last to the first."""
    w, body = b.write, b.node.attributes["body"].as_graph()
    count = len(b.node.inputs) - 2
    inner, copy = w.inner(), copy_of(b, body, w)
    _take_types(copy.inputs[2:], b.node.inputs[2:])
    _check_states(copy, count)
    numbers = _collect(b, body, [body.inputs[0]])[0]
    steps = w.op("Size", numbers, dtype=INT64)
    turn = ir.Value(name=w.name("turn"), type=ir.TensorType(INT64), shape=ir.Shape([]))
    going = ir.Value(name=w.name("going"), type=ir.TensorType(ir.DataType.BOOL), shape=ir.Shape([]))
    index = inner.op("Sub", inner.op("Sub", steps, turn), inner.integer(1))
    copy.put_in(copy.inputs[0], index)
    copy.put_in(copy.inputs[1], w.constant(np.array(True)))
    # What the states were is collected only where something reads it.
    stacks = [_like(w, state, None) for state in copy.inputs[2:]]
    states = []
    for stack, state in zip(stacks, copy.inputs[2:], strict=True):
        was = inner.op("Gather", stack, index)
        was.shape = state.shape
        copy.put_in(state, was)
        states.append(was)
    given = {
        place + 1: inner.op("Gather", grad, index)
        for place, grad in enumerate(b.grads)
        if grad is not None and place >= count
    }
    back = _step_back(b, inner, copy, states, copy.outputs[1 : count + 1], given, [])
    graph = body_graph(
        inner, [turn, going, *back.carries, *back.sums], [own(inner, going), *back.after], copy
    )
    used = [place for place, stack in enumerate(stacks) if stack.uses()]
    kept = _collect(b, body, [body.inputs[2 + place] for place in used])
    for place, stack in zip(used, kept, strict=True):
        stacks[place].replace_all_uses_with(stack)
    begin = back.begin(b)
    found = w.ops("Loop", steps, None, *begin, outputs=len(begin), attributes={"body": graph})
    return _by_input(b, back, found, {}, count, lead=2)


@dataclass(frozen=True)
class _StepBack:
    """One step on the way back.

    Attributes:
        floats: Which states have gradients.
        carries: The gradients of the states behind the step.
        wanted: Values of graphs around it, whose gradients are summed over the steps.
        sums: The sums so far.
        after: The gradients of the states before the step, then the sums with its share.
        collected: The gradients of its elements.
    """

    floats: list[int]
    carries: list[ir.Value]
    wanted: list[ir.Value]
    sums: list[ir.Value]
    after: list[ir.Value]
    collected: list[ir.Value]

    def begin(self, b: Backward) -> list[ir.Value]:
        """Return what the way back begins with."""
        w = b.write
        first = []
        for place in self.floats:
            grad = b.grads[place]
            first.append(w.zeros_like(b.node.outputs[place]) if grad is None else grad)
        return [*first, *(w.zeros_like(value) for value in self.wanted)]


def _step_back(
    b: Backward,
    inner: Writer,
    copy: Copy,
    states: Sequence[ir.Value],
    results: Sequence[ir.Value],
    given: dict[int, ir.Value],
    items: Sequence[ir.Value],
) -> _StepBack:
    """Write one step back.

    Args:
        b: The loop.
        inner: Writes the body.
        copy: The forward step.
        states: The states it begins with.
        results: Those it ends with.
        given: The gradients of what it collects, by the place among its outputs.
        items: Its elements that have gradients.
    """
    outside = captured(b.node)
    needs = b.needs[len(b.node.inputs) :]
    wanted = [value for value, need in zip(outside, needs, strict=True) if need]
    floats = [place for place, state in enumerate(states) if may_flow(state)]
    carries = [_like(inner, states[place], states[place].shape) for place in floats]
    sums = [_like(inner, value, value.shape) for value in wanted]
    first = len(copy.outputs) - len(b.grads)  # a Loop's body returns its condition first
    grads: list[ir.Value | None] = [given.get(place) for place in range(len(copy.outputs))]
    for place, carry in zip(floats, carries, strict=True):
        grads[first + place] = carry
    wrt = [*(states[place] for place in floats), *items, *wanted]
    slopes = differentiate_copy(b, copy, grads, wrt, inner)
    before = [
        inner.zeros_like(value) if slope is None else slope
        for value, slope in zip(wrt, slopes, strict=True)
    ]
    many = len(floats)
    after = before[:many]
    for value, slope in zip(sums, slopes[many + len(items) :], strict=True):
        after.append(value if slope is None else inner.op("Add", value, slope))
    return _StepBack(floats, carries, wanted, sums, after, before[many : many + len(items)])


def _by_input(
    b: Backward,
    back: _StepBack,
    found: Sequence[ir.Value],
    items: dict[int, int],
    count: int,
    lead: int = 0,
) -> Gradients:
    """Return the gradients in the order of the inputs, then of what is read from outside.

    Args:
        b: The loop.
        back: A step back.
        found: The outputs of all steps back.
        items: The inputs whose elements have gradients.
        count: How many states there are.
        lead: How many inputs stand before them.
    """
    many = len(back.floats) + len(back.wanted)
    result: list[ir.Value | None] = [None] * len(b.node.inputs)
    for place, gradient in zip(back.floats, found, strict=False):
        _describe(gradient, b.node.inputs[lead + place])
        result[lead + place] = gradient
    for place, gradient in zip(items, found[many:], strict=True):
        _describe(gradient, b.node.inputs[place])
        result[place] = gradient
    sums = dict(zip(back.wanted, found[len(back.floats) : many], strict=True))
    for value, gradient in sums.items():
        _describe(gradient, value)
    return [*result, *(sums.get(value) for value in captured(b.node))]


def _directions(
    b: Backward,
    graph: ir.Graph,
    count: int,
    states: int,
    taken: list[int],
    items: list[int],
    given: list[int],
) -> dict[str, object]:
    """Return the attributes of the Scan back: what went forward goes backward."""
    many, collected = b.int("num_scan_inputs", 0), len(b.grads) - count
    axes, ways = b.ints("scan_input_axes") or [0] * many, b.ints("scan_input_directions")
    ways = ways or [0] * many
    out_axes = b.ints("scan_output_axes") or [0] * collected
    out_ways = b.ints("scan_output_directions") or [0] * collected
    read_axes = [axes[place] for place in taken] + [out_axes[place - count] for place in given]
    read_ways = [ways[place] for place in taken] + [out_ways[place - count] for place in given]
    return {
        "body": graph,
        "num_scan_inputs": states + len(read_axes),
        "scan_input_axes": [0] * states + read_axes,
        "scan_input_directions": [1] * states + [1 - way for way in read_ways],
        "scan_output_axes": [axes[place] for place in items],
        "scan_output_directions": [1 - ways[place] for place in items],
    }


def _collect(b: Backward, body: ir.Graph, values: Sequence[ir.Value]) -> list[ir.Value]:
    """Let the forward node return what some values of its body were in each step."""
    node, start = b.node, len(b.node.outputs)
    if not values:
        return []
    node.resize_outputs(start + len(values))
    for value, output in zip(values, node.outputs[start:], strict=True):
        copy = ir.node("Identity", [value])
        result = copy.outputs[0]
        result.name, result.type, result.shape = b.write.name("was"), value.type, value.shape
        body.append(copy)
        body.outputs.append(result)
        output.name, output.type = b.write.name("were"), value.type
        if value.shape is not None:
            output.shape = ir.Shape([None, *value.shape])
    for name in ("scan_output_axes", "scan_output_directions"):
        given = b.ints(name)
        if given is not None:
            node.attributes.add(ir.AttrInt64s(name, [*given, *[0] * len(values)]))
    return list(node.outputs[start:])


def _check_states(copy: Copy, count: int) -> None:
    """Refuse states that cannot be collected."""
    for before, after in zip(copy.inputs[2:], copy.outputs[1 : count + 1], strict=True):
        if before.type is not None and not isinstance(before.type, ir.TensorType):
            raise NotDifferentiableError("it carries a sequence from step to step")
        if before.shape is None or after.shape is None:
            continue
        pairs = zip(before.shape, after.shape, strict=False)
        changed = any(isinstance(a, int) and isinstance(c, int) and a != c for a, c in pairs)
        if changed or len(before.shape) != len(after.shape):
            raise NotDifferentiableError("the shape of what it carries changes from step to step")


def _take_types(inside: Iterable[ir.Value], outside: Iterable[ir.Value | None]) -> None:
    for inner, outer in zip(inside, outside, strict=True):
        if inner.type is None and outer is not None:
            inner.type = outer.type


def _read(graph: ir.Graph) -> set[ir.Value]:
    return {value for node in graph for value in inputs_of(node)}


def _like(w: Writer, value: ir.Value, shape: ir.Shape | None) -> ir.Value:
    return ir.Value(name=w.name("given"), type=value.type, shape=shape)


def _describe(gradient: ir.Value, value: ir.Value | None) -> None:
    if value is not None:
        gradient.type, gradient.shape = value.type, value.shape
