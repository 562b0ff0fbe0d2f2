"""Run a model on samples and reduce chosen tensors inside the graph."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.base import PassContext, Samples
from onnxsmith.passes.layout.convert_opset import ConvertOpset
from onnxsmith.passes.quantization.calibration.bodies import (
    Found,
    Merge,
    body_paths,
    lift,
    value_keys,
)
from onnxsmith.runtime.session import Session

Array = np.ndarray[Any, Any]

Reduction = Callable[[ir.Graph, ir.Value], Sequence[ir.Value]]
"""Appends nodes that reduce a value, and returns their results."""

COUNTING_OPSET = 18
"""ScatterElements adds from here on, in a form that has not changed since."""


def observe(
    model: ir.Model,
    reductions: Mapping[str, Reduction],
    samples: Samples,
    limit: int,
    *,
    opset: int = 0,
    merges: Sequence[Merge] = (),
) -> Iterator[tuple[int, dict[str, list[Array]]]]:
    """Yield, for each batch, its number of samples and the reductions of the named values.

    Only the reductions leave the runtime, so that memory does not grow with the data set.

    Args:
        model: The float model; not edited.
        reductions: What to compute from each value, which is given by its key: see
            :func:`~onnxsmith.passes.quantization.calibration.bodies.value_keys`.
        samples: Batches of inputs.
        limit: Most batches to read.
        opset: The least opset that the reductions need.
        merges: How the results of several runs of a body become one; without any, only values
            of the main graph can be observed.

    Raises:
        SmithError: The data are empty, or hold NaN or infinity.
    """
    watched = _instrument(model, reductions, opset, merges)
    batches = 0
    with Session(Artifact(watched), lean=True) as session:
        for feeds in islice(samples(), limit):
            _refuse_nonsense(feeds)
            results = session.run(feeds)
            yield len(next(iter(feeds.values()))), _grouped(reductions, results)
            batches += 1
    if not batches:
        raise SmithError("the calibration data is empty", "give data with at least one sample")


def _instrument(
    model: ir.Model, reductions: Mapping[str, Reduction], opset: int, merges: Sequence[Merge]
) -> ir.Model:
    watched = model.clone()
    if watched.opset_imports.get("", opset) < opset:
        watched = ConvertOpset(opset).apply(watched, PassContext()).model
    graph = watched.graph
    keys = value_keys(graph)
    wanted = {value: key for value, key in keys.items() if key in reductions}
    graph.outputs.clear()
    results: dict[ir.Graph, Found] = {}
    for part, _ in list(body_paths(graph)):  # inner ones first
        found: Found = {}
        for value in (*part.inputs, *(v for node in tuple(part) for v in node.outputs)):
            if key := wanted.get(value):
                found[key] = list(reductions[key](part, value))
        results[part] = found | lift(part, results, merges)
    _name_new(graph, keys)
    for key in reductions:
        for index, result in enumerate(results[graph][key]):
            result.name = _name(key, index)
            graph.outputs.append(result)
    return watched


def _name_new(graph: ir.Graph, old: Container[ir.Value]) -> None:
    """Name what was added: names that graphs give by themselves are those of values around them."""
    count = 0
    for part, _ in body_paths(graph):
        for value in (*part.inputs, *(v for node in part for v in node.outputs)):
            if value.name != "" and value not in old:  # an output of no name is left out
                value.name = f"onnxsmith/observed/{count}"
                count += 1


def _grouped(
    reductions: Mapping[str, Reduction], results: Mapping[str, Array]
) -> dict[str, list[Array]]:
    grouped: dict[str, list[Array]] = {}
    for name in reductions:
        found: list[Array] = []
        while (key := _name(name, len(found))) in results:
            found.append(results[key])
        grouped[name] = found
    return grouped


def _name(value: str, index: int) -> str:
    return f"onnxsmith/reduced/{index}/{value}"


def _refuse_nonsense(feeds: Mapping[str, Array]) -> None:
    for name, array in feeds.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise SmithError(
                f"the calibration data for {name!r} holds NaN or infinity", "clean the data"
            )


def append(graph: ir.Graph, op: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
    """Append a node to a graph and return its first output."""
    node = ir.node(op, list(inputs), attributes)
    graph.append(node)
    return node.outputs[0]


def constant(graph: ir.Graph, array: Array) -> ir.Value:
    """Append a constant to a graph and return it."""
    node = ir.node("Constant", [], {"value": ir.Tensor(array)})
    graph.append(node)
    return node.outputs[0]


def rows_of(graph: ir.Graph, value: ir.Value, channels: int) -> ir.Value:
    """Append what makes a matrix of a value whose last axis are the channels; return it."""
    return append(graph, "Reshape", value, constant(graph, np.array([-1, channels])))
