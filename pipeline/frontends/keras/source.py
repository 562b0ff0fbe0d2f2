"""A Keras model of the backend tensorflow as a source, by way of a ConcreteFunction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from onnxsmith.pipeline.frontends.base import ConvertRequest, Export
from onnxsmith.pipeline.frontends.keras.frontend import versions
from onnxsmith.pipeline.frontends.keras.mends import mended
from onnxsmith.pipeline.frontends.keras.signature import Described, leaves
from onnxsmith.pipeline.frontends.tensorflow.source import FunctionSource, Loaded
from onnxsmith.pipeline.loading import user_code
from onnxsmith.spec import ValueSpec


class ModelSource:
    """A model of the backend tensorflow.

    Args:
        described: The model.
        request: Shapes asked for, sizes of the example, the opset.

    Raises:
        SmithError: The model cannot be traced, or runs Python code.
        UsageError: What was asked for does not fit.
    """

    def __init__(self, described: Described, request: ConvertRequest) -> None:
        self.described = described
        asked = {spec.name: spec for spec in request.inputs}
        specs = [asked.get(spec.name, spec) for spec in described.inputs]
        found: list[Any] = []

        def call(*tensors: Any) -> list[Any]:
            found[:] = [described.call(tensors)]
            return leaves(found[0])

        signature = [_tensor_spec(spec) for spec in specs]
        with user_code("tracing the model"), mended():
            function = tf.function(call, input_signature=signature).get_concrete_function()
        self.outputs = described.output_names(found[0])
        names = tuple(spec.name for spec in specs)
        loaded = Loaded(function, described.model, "keras, tensorflow", names, self.outputs)
        self.inner = FunctionSource(loaded, request)

    def export(self, folder: Path) -> Export:
        """Export with tf2onnx; see ``Source.export``."""
        export = self.inner.export(folder)
        found = export.details["versions"]
        return replace(export, details={**export.details, "versions": {**versions(), **found}})

    def reference(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the model itself, not its trace; see ``Source.reference``."""
        shapes = ", ".join(str(list(array.shape)) for array in feeds.values())
        with user_code(f"running the model on inputs of shape {shapes}"), tf.device("/cpu:0"):
            tensors = [
                tf.constant(np.asarray(feeds[spec.name]), spec.dtype)
                for spec in self.described.inputs
            ]
            found = leaves(self.described.call(tensors))
        return {n: keras.ops.convert_to_numpy(t) for n, t in zip(self.outputs, found, strict=True)}


def _tensor_spec(spec: ValueSpec) -> Any:
    return tf.TensorSpec([d if isinstance(d, int) else None for d in spec.shape or ()], spec.dtype)
