"""What a model looks like while it is trained, and what it is again afterwards."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from onnxsmith.artifact import Artifact
from onnxsmith.passes.autodiff.training_form import inference_form
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.layout.free_batch import FreeBatch
from onnxsmith.pipeline.data.feeding import fixed_batch
from onnxsmith.runtime.memory import Array


def training_copy(artifact: Artifact, size: int) -> Artifact:
    """Return a copy that takes batches of any size, if the model is made for one size alone.

    Initializers that old models list as inputs as well are constants here.
    """
    work = artifact.clone()
    graph = work.model.graph
    graph.inputs[:] = [v for v in graph.inputs if v.name not in graph.initializers]
    work.model.ir_version = max(work.model.ir_version, 4)  # before it, they had to be inputs
    fixed = fixed_batch(artifact.spec)
    if fixed is None or fixed == size:
        return work
    return Artifact(FreeBatch().apply(work.model, PassContext()).model)


def content(value: ir.Value) -> Array:
    """Return an initializer's content."""
    assert value.const_value is not None  # initializers have contents
    return value.const_value.numpy()


def with_weights(artifact: Artifact, weights: Mapping[str, Array]) -> Artifact:
    """Return the model in inference form with other weights."""
    made = artifact.clone()
    for name, array in weights.items():
        made.model.graph.initializers[name].const_value = ir.Tensor(array, name=name)
    inference_form(made.model)
    return made


def class_count(artifact: Artifact, output: str) -> int | None:
    """Return how many classes an output of scores has, None where that is not known."""
    shape = artifact.spec.output(output).shape
    if not shape or len(shape) < 2:
        return None
    size = shape[-1] if len(shape) <= 3 else shape[1]
    return size if isinstance(size, int) else None
