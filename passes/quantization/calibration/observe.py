"""Run a model on samples and reduce chosen tensors inside the graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.base import PassContext, Samples
from onnxsmith.passes.layout.convert_opset import ConvertOpset
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
) -> Iterator[tuple[int, dict[str, list[Array]]]]:
    """Yield, for each batch, its number of samples and the reductions of the named values.

    Only the reductions leave the runtime, so that memory does not grow with the data set.

    Args:
        model: The float model; not edited.
        reductions: For each value of the main graph what to compute from it.
        samples: Batches of inputs.
        limit: Most batches to read.
        opset: The least opset that the reductions need.

    Raises:
        SmithError: The data are empty, or hold NaN or infinity.
    """
    watched = _instrument(model, reductions, opset)
    batches = 0
    with Session(Artifact(watched), lean=True) as session:
        for feeds in islice(samples(), limit):
            _refuse_nonsense(feeds)
            results = session.run(feeds)
            yield len(next(iter(feeds.values()))), _grouped(reductions, results)
            batches += 1
    if not batches:
        raise SmithError("the calibration data is empty", "give data with at least one sample")


def _instrument(model: ir.Model, reductions: Mapping[str, Reduction], opset: int) -> ir.Model:
    watched = model.clone()
    if watched.opset_imports.get("", opset) < opset:
        watched = ConvertOpset(opset).apply(watched, PassContext()).model
    graph = watched.graph
    values = {v.name: v for node in graph for v in node.outputs}
    values |= {v.name: v for v in graph.inputs}
    graph.outputs.clear()
    for name, reduce in reductions.items():
        for index, result in enumerate(reduce(graph, values[name])):
            result.name = _name(name, index)
            graph.outputs.append(result)
    return watched


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
