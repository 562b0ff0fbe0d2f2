"""The frontend ``onnx``: ONNX files, validated and fitted to the target. Runs in process."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.base import ConvertRequest, Match, Source
from onnxsmith.pipeline.frontends.sources import top_classes


class OnnxFrontend:
    """ONNX: ``.onnx`` files, with external data beside them."""

    name: ClassVar[str] = "onnx"
    extra: ClassVar[str] = ""
    packages: ClassVar[tuple[str, ...]] = ()
    accepts: ClassVar[str] = ".onnx files"
    isolated: ClassVar[bool] = False
    environment: ClassVar[str] = ""

    def match(self, source: str) -> Match | None:
        """Take ``.onnx`` files."""
        return Match(1.0, "the suffix is .onnx") if source.lower().endswith(".onnx") else None

    def match_object(self, value: object) -> Match | None:
        """Take live protos and artifacts."""
        if top_classes(value) & {"onnx.ModelProto", "onnxsmith.Artifact"}:
            return Match(1.0, "it is an ONNX model")
        return None

    def open(self, request: ConvertRequest) -> Source:
        """Point at the file.

        Raises:
            SmithError: A second file of weights is given.
        """
        if request.weights is not None:
            raise SmithError("an ONNX file names its weights itself", "leave --weights away")
        from onnxsmith.pipeline.frontends.onnx.source import FileSource

        return FileSource(Path(request.source))

    def adopt(self, value: object, request: ConvertRequest) -> Source:
        """Take a live model.

        Raises:
            SmithError: It is none.
        """
        from onnxsmith.pipeline.frontends.onnx.source import adopt

        return adopt(value)
