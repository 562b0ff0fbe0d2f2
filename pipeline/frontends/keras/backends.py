"""A live Keras model of the backend torch or jax as a source.

It is saved and exported under the backend tensorflow in a process of its own: that route gives
LSTM and GRU operators, keeps the time open and writes a third of the nodes. The reference is the
live model, so the two backends are held against each other. Models that cannot be saved (layers
of the user's own) go through the exporter of their own backend.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.base import ConvertRequest, Export, Source
from onnxsmith.pipeline.frontends.keras.frontend import KerasFrontend, versions
from onnxsmith.pipeline.frontends.keras.signature import Described, leaves
from onnxsmith.pipeline.frontends.process import Limits, WorkerError, WorkerSource
from onnxsmith.pipeline.frontends.table import missing_packages
from onnxsmith.pipeline.loading import describe, user_code
from onnxsmith.spec import Dim, ValueSpec

_SPACE = {1: ("time",), 2: ("height", "width"), 3: ("depth", "height", "width")}


class OtherBackendSource:
    """A live model of the backend torch or jax.

    Args:
        described: The model.
        request: Shapes asked for, sizes of the example, the opset.

    Raises:
        SmithError: The model does not run.
    """

    def __init__(self, described: Described, request: ConvertRequest) -> None:
        self.described = described
        self.request = request
        self.backend = keras.backend.backend()
        asked = {spec.name: spec for spec in request.inputs}
        self.specs = tuple(asked.get(spec.name, named(spec)) for spec in described.inputs)
        zeros = [np.zeros(_small(spec), spec.dtype) for spec in described.inputs]
        self.outputs = described.output_names(self._run(zeros))

    def export(self, folder: Path) -> Export:
        """Export through the backend tensorflow, else through the model's own."""
        try:
            return self._through_tensorflow(folder)
        except WorkerError as error:
            reason = error.message
        except SmithError as error:
            reason = error.message
        try:
            export = self._directly().export(folder)
        except SmithError as error:
            raise SmithError(
                f"{error.message}; and under the backend tensorflow: {reason}", error.hint
            ) from error
        details = {**export.details, "route": f"keras, {self.backend}"}
        details["versions"] = {**versions(), **details["versions"]}
        return replace(export, details=details)

    def reference(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the live model itself; see ``Source.reference``."""
        found = leaves(self._run([feeds[spec.name] for spec in self.described.inputs]))
        arrays = [np.asarray(keras.ops.convert_to_numpy(tensor)) for tensor in found]
        return dict(zip(self.outputs, arrays, strict=True))

    def _run(self, arrays: Sequence[np.ndarray]) -> Any:
        shapes = ", ".join(str(list(array.shape)) for array in arrays)
        with user_code(f"running the model on inputs of shape {shapes}"):
            tensors = [
                keras.ops.convert_to_tensor(array, spec.dtype)
                for array, spec in zip(arrays, self.described.inputs, strict=True)
            ]
            return keras.tree.map_structure(keras.ops.stop_gradient, self.described.call(tensors))

    def _through_tensorflow(self, folder: Path) -> Export:
        missing = missing_packages(KerasFrontend())
        if missing:
            raise SmithError(f"{' and '.join(missing)} is not installed", "")
        place = folder / "tensorflow"
        (place / "model").mkdir(parents=True)
        path = place / "source.keras"
        try:
            self.described.model.save(path)
        except Exception as error:  # layers without a configuration raise any type
            raise SmithError(f"the model cannot be saved: {describe(error)}", "") from error
        # The file is of this very process: its code is what runs here already.
        request = replace(self.request, source=str(path), weights=None, trust=True)
        with WorkerSource("keras", place, Limits()) as worker:
            worker.open(request)
            export = worker.export(place)
        path.unlink()
        return export

    def _directly(self) -> Source:
        request = replace(self.request, inputs=self.specs, weights=None)
        if self.backend == "torch":
            from onnxsmith.pipeline.frontends.keras.module import module_source

            return module_source(self.described, self.outputs, request)
        from onnxsmith.pipeline.frontends.jax.functions import Function
        from onnxsmith.pipeline.frontends.jax.source import FunctionSource

        def call(*tensors: Any) -> dict[str, Any]:
            found = leaves(self.described.call(tensors))
            return dict(zip(self.outputs, found, strict=True))

        return FunctionSource(Function(call, (), None, "keras"), request)


def named(spec: ValueSpec) -> ValueSpec:
    """Return an input with a name for each open dimension: batch, time, height, width."""
    shape = spec.shape or ()
    space = [axis for axis, dim in enumerate(shape) if dim is None and axis > 0]
    words = _SPACE.get(len(space), ()) if len(space) == 1 or len(shape) == len(space) + 2 else ()
    known: dict[int, Dim] = dict(zip(space, words, strict=False))
    dims = tuple(
        dim if dim is not None else "batch" if axis == 0 else known.get(axis, f"dim{axis}")
        for axis, dim in enumerate(shape)
    )
    return replace(spec, shape=dims)


def _small(spec: ValueSpec) -> tuple[int, ...]:
    """Return a shape to find out what a model gives: networks of images need some space."""
    wide = len(spec.shape or ()) >= 4
    return tuple(
        dim if isinstance(dim, int) else 64 if wide and axis else 2
        for axis, dim in enumerate(spec.shape or ())
    )
