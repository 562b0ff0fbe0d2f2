"""Choose by measurement which nodes keep float32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.match import is_op, tensor_of
from onnxsmith.passes.precision.half import FLOAT, Precision, converted
from onnxsmith.runtime.probe import probe_inputs
from onnxsmith.runtime.session import Session

Array = np.ndarray[Any, Any]

_ROUNDS = 12
_SAMPLES = 4
_ROUNDED = "_rounded"


def choose(
    model: ir.Model,
    nodes: Sequence[ir.Node],
    half: Precision,
    max_error: float,
    context: PassContext,
) -> tuple[list[ir.Node], float]:
    """Return the nodes that may leave float32, and the error of the outputs then.

    The model is run in float32 with the results of the nodes rounded to half precision, which is
    what a device stores. While an output's error (the norm of the difference over the norm) is
    above ``max_error``, the nodes that add most error are taken out: those that overflow first,
    then by how much larger the error of their result is than that of what they read.
    """
    feeds = list(_feeds(model, context))
    names = [out.name for node in nodes for out in node.outputs if out.dtype == FLOAT and out.name]
    outputs = [v.name for v in model.graph.outputs if v.name]
    exact = _run(model.clone(), feeds, [*names, *outputs])
    overflowing = {name for name in names if _largest(exact[name]) > half.largest}
    kept = [node for node in nodes if not any(out.name in overflowing for out in node.outputs)]
    error = float("inf")
    for _ in range(_ROUNDS):
        rounded = _run(_rounding(model, kept, half), feeds, [*names, *outputs])
        errors = {name: _error(exact[name], rounded[name]) for name in rounded}
        error = max((errors[name] for name in outputs), default=0.0)
        if error <= max_error or not kept:
            return kept, error
        grown = sorted(kept, key=lambda node: _growth(node, errors), reverse=True)
        worst = set(grown[: max(1, len(kept) // 8)])
        kept = [node for node in kept if node not in worst]
    return [], 0.0


def _largest(arrays: list[Array]) -> float:
    return max(float(np.abs(a[np.isfinite(a)]).max(initial=0)) for a in arrays)


def _growth(node: ir.Node, errors: dict[str, float]) -> float:
    before = max((errors.get(v.name or "", 0.0) for v in node.inputs if v is not None), default=0.0)
    return max(errors.get(v.name or "", 0.0) for v in node.outputs) - before


def _error(exact: list[Array], rounded: list[Array]) -> float:
    """Return the largest norm of the difference over the norm of a value, over all samples."""
    worst = 0.0
    for a, b in zip(exact, rounded, strict=True):
        if a.dtype.kind != "f":
            worst = max(worst, 0.0 if a.shape == b.shape and np.array_equal(a, b) else 1.0)
            continue
        with np.errstate(all="ignore"):  # what is not finite is an error of its own
            finite = np.isfinite(a)
            if a.shape != b.shape or not np.array_equal(finite, np.isfinite(b)):
                return float("inf")
            first, second = a[finite].astype(np.float64), b[finite].astype(np.float64)
            norm = float(np.linalg.norm(first))
            difference = float(np.linalg.norm(first - second))
        worst = max(worst, difference / norm if norm else difference)
    return worst


def _feeds(model: ir.Model, context: PassContext) -> Iterator[dict[str, Array]]:
    if context.samples is not None:
        yield from islice(context.samples(), _SAMPLES)
        return
    yield probe_inputs(model, Artifact(model).spec, {}, seed=context.seed)


def _run(
    model: ir.Model, feeds: Sequence[dict[str, Array]], names: Sequence[str]
) -> dict[str, list[Array]]:
    """Return named values, inner ones too, for each sample."""
    values = {v.name: v for node in model.graph for v in node.outputs}
    for name in dict.fromkeys(names):
        value = values.get(f"{name}{_ROUNDED}") or values.get(name)
        if value is not None and not value.is_graph_output():
            model.graph.outputs.append(value)
    found: dict[str, list[Array]] = {name: [] for name in names}
    with Session(Artifact(model), optimize=False) as session:
        for feed in feeds:
            results = session.run(feed)
            for name in found:
                found[name].append(results.get(f"{name}{_ROUNDED}", results.get(name)))  # type: ignore[arg-type]
    return found


def _rounding(model: ir.Model, nodes: Sequence[ir.Node], half: Precision) -> ir.Model:
    """Return a model in float32 that rounds the weights and results of ``nodes``."""
    places = {node: place for place, node in enumerate(model.graph)}
    chosen = {places[node] for node in nodes}
    copy = model.clone()
    graph = copy.graph
    for place, node in enumerate(list(graph)):
        if place not in chosen:
            continue
        for index, value in enumerate(node.inputs):
            tensor = tensor_of(value)
            if value is None or tensor is None or tensor.dtype != FLOAT or is_op(node, "Cast"):
                continue
            node.replace_input_with(index, _rounded_constant(graph, value, tensor, half))
        for result in node.outputs:
            if result.dtype == FLOAT and result.name and not result.is_graph_output():
                _round_after(graph, node, result, half)
    return copy


def _rounded_constant(
    graph: ir.Graph, value: ir.Value, tensor: ir.TensorProtocol, half: Precision
) -> ir.Value:
    name = f"{value.name}{_ROUNDED}"
    if name not in graph.initializers:
        array = converted(tensor, half, name).numpy().astype(np.float32)
        graph.register_initializer(
            ir.Value(
                name=name,
                shape=ir.Shape(array.shape),
                type=ir.TensorType(FLOAT),
                const_value=ir.Tensor(array, name=name),
            )
        )
    return graph.initializers[name]


def _round_after(graph: ir.Graph, node: ir.Node, result: ir.Value, half: Precision) -> None:
    uses = list(result.uses())
    down = ir.node("Cast", [result], {"to": int(half.dtype)})
    up = ir.node("Cast", down.outputs, {"to": int(FLOAT)})
    up.outputs[0].name = f"{result.name}{_ROUNDED}"
    up.outputs[0].type, up.outputs[0].shape = ir.TensorType(FLOAT), result.shape
    graph.insert_after(node, [down, up])
    for user, index in uses:
        user.replace_input_with(index, up.outputs[0])
