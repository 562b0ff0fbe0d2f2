"""ONNX models as sources: read, and run as they stand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.base import Export, Source
from onnxsmith.pipeline.loading import user_code
from onnxsmith.runtime.session import Session


def adopt(value: object) -> Source:
    """Take a live model.

    Raises:
        SmithError: It is none.
    """
    if isinstance(value, onnx.ModelProto):
        return ArtifactSource(Artifact.from_proto(value))
    if isinstance(value, Artifact):
        return ArtifactSource(value)
    raise SmithError(
        f"a {type(value).__name__} is no ONNX model", "give a ModelProto or an Artifact"
    )


class FileSource:
    """An ONNX file; it is read where it lies."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def export(self, folder: Path) -> Export:
        """Return the file itself."""
        return Export(self.path, untouched=True)

    def reference(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the file as it stands; see ``Source.reference``."""
        return _run(Artifact.load(self.path), feeds)


class ArtifactSource:
    """An ONNX model in memory."""

    def __init__(self, artifact: Artifact) -> None:
        self.artifact = artifact

    def export(self, folder: Path) -> Export:
        """Write the model; see ``Source.export``."""
        path = folder / "model.onnx"
        self.artifact.clone().save(path)
        return Export(path, untouched=True)

    def reference(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the model as it stands; see ``Source.reference``."""
        return _run(self.artifact, feeds)


def _run(artifact: Artifact, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run on ONNX Runtime, or on ONNX's slow reference where the model is too new for it."""
    try:
        session = Session(artifact, optimize=False)
    except SmithError:
        from onnx.reference import ReferenceEvaluator  # its import takes longer than the run

        evaluator = ReferenceEvaluator(artifact.to_proto())
        with user_code("running the model as it stands"):
            results = evaluator.run(None, dict(feeds))
        return dict(zip(evaluator.output_names, results, strict=True))
    with session:
        return session.run(feeds)
