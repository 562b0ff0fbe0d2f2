"""A forest of any library, ready to export and to run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onnxsmith.pipeline.frontends.base import ConvertRequest, Export
from onnxsmith.pipeline.frontends.tabular.forest import Forest
from onnxsmith.pipeline.frontends.tabular.model import forest_model
from onnxsmith.pipeline.frontends.tabular.table import forest_columns, make_rows, table_shape
from onnxsmith.pipeline.loading import user_code
from onnxsmith.spec import ValueSpec


@dataclass
class ForestSource:
    """A model that is a forest.

    Attributes:
        forest: What goes into the file.
        spec: Its input.
        request: What was asked for.
        predict: Features to the library's own outputs, by name.
        versions: The library's version, by its name.
        warnings: What the user should know.
    """

    forest: Forest
    spec: ValueSpec
    request: ConvertRequest
    predict: Callable[[np.ndarray], dict[str, np.ndarray]]
    versions: dict[str, str]
    warnings: tuple[str, ...] = ()

    def export(self, folder: Path) -> Export:
        """Write the forest; see ``Source.export``."""
        path = folder / "model.onnx"
        model = forest_model(self.forest, self.spec, self.request.opset)
        path.write_bytes(model.SerializeToString())
        shape = table_shape(self.spec, self.request.dims, (self.spec,))
        rows = make_rows(shape, forest_columns(self.forest), self.request.seed, missing=True)
        examples = {self.spec.name: rows.astype(self.spec.dtype)}
        details = {"versions": self.versions, "trees": len(self.forest.trees)}
        return Export(path, examples, details, self.warnings, rows=True)

    def reference(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the library; see ``Source.reference``."""
        array = feeds[self.spec.name]
        with user_code(f"running the model on shape {list(array.shape)}"):
            return self.predict(array)
