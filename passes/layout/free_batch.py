"""Let a model that was exported for one batch size take any."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.numerics import compare
from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.cleanup.infer_shapes import InferShapes
from onnxsmith.passes.match import add_constant, ints_of, is_op
from onnxsmith.runtime.probe import probe_inputs
from onnxsmith.runtime.session import Session
from onnxsmith.spec import ModelSpec, ValueSpec

_ITEMS = 3


@dataclass(frozen=True)
class FreeBatch(Pass):
    """Let a model that was exported for one batch size take any.

    The first dimension of all inputs, and of the outputs that have it, gets a name. Targets of
    Reshape that hold the size as their first element say -1 or 0 there instead. The result is run
    on a batch of three times the size, and has to give what the model gives for each third: then
    no item depends on another.

    Options:
        dim: The name of the dimension.

    Raises an error where the inputs have no common fixed first dimension, or where the result
    cannot take another batch or mixes its items.
    """

    name: ClassVar[str] = "free-batch"

    dim: str = "batch"

    def signature(self, spec: ModelSpec) -> ModelSpec:
        """Return the signature with the name in place of the batch size."""
        size = _batch(spec)
        return ModelSpec(
            tuple(self._free(value, size) for value in spec.inputs),
            tuple(self._free(value, size) for value in spec.outputs),
        )

    def _free(self, value: ValueSpec, size: int) -> ValueSpec:
        if not value.shape or value.shape[0] != size:
            return value
        return replace(value, shape=(self.dim, *value.shape[1:]))

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Free the batch, and check that its items are independent.

        Raises:
            SmithError: They are not, or a node fixes the batch.
        """
        size = _batch(Artifact(model).spec)
        InferShapes().apply(model, context)
        before = Artifact(model.clone())
        count = 0
        for graph in model.graphs():
            for node in list(graph):
                count += is_op(node, "Reshape") and _free_target(graph, node, size)
        for graph in model.graphs():
            for value in (v for node in graph for v in node.outputs):
                if not value.is_graph_output():
                    value.shape = None  # inferred anew, from the new signature
        for value in (*model.graph.inputs, *model.graph.outputs):
            if value.shape is not None and len(value.shape) and value.shape[0] == size:
                value.shape = ir.Shape([self.dim, *value.shape[1:]])
        InferShapes().apply(model, context)
        _check(before, Artifact(model), size, context.seed)
        return PassResult(model, True, {"batch": size, "targets": count})


def _batch(spec: ModelSpec) -> int:
    sizes = {value.shape[0] for value in spec.inputs if value.shape}
    if len(sizes) == 1:
        (size,) = sizes
        if isinstance(size, int):
            return size
    raise SmithError(
        f"the inputs have no common fixed batch size: {', '.join(map(str, spec.inputs))}",
        "free-batch is for models whose inputs all begin with the same fixed dimension",
    )


def _free_target(graph: ir.Graph, node: ir.Node, size: int) -> bool:
    data, target = node.inputs[0], ints_of(node.inputs[1]) if len(node.inputs) > 1 else None
    if data is None or not target or target[0] != size or data.shape is None:
        return False
    if -1 not in target:
        target[0] = -1
    elif len(data.shape) and data.shape[0] == size:
        target[0] = 0
    else:
        return False
    name = f"{node.outputs[0].name}/target"
    node.replace_input_with(1, add_constant(graph, np.array(target, np.int64), name))
    node.attributes.pop("allowzero", None)
    return True


def _check(before: Artifact, after: Artifact, size: int, seed: int) -> None:
    parts = [probe_inputs(before.model, before.spec, {}, seed + i) for i in range(_ITEMS)]
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    with Session(before, optimize=False) as session:
        expected = [session.run(part) for part in parts]
    try:
        with Session(after, optimize=False) as session:
            found = session.run(whole)
    except SmithError as error:
        raise SmithError(
            f"the model cannot take another batch: {error.message}",
            "the node named there holds the batch size; export the model with a free batch",
        ) from error
    for index, part in enumerate(expected):
        for name, array in part.items():
            piece = _piece(found[name], array, index, size)
            difference = compare({name: array}, {name: piece})[0]
            if not difference.ok:
                raise SmithError(
                    f"output {name!r} is another in a larger batch: {difference.reason}",
                    "its items depend on each other; export the model with a free batch",
                )


def _piece(found: Any, expected: Any, index: int, size: int) -> Any:
    if np.shape(found) == np.shape(expected):
        return found  # an output without a batch
    return found[index * size : (index + 1) * size]
