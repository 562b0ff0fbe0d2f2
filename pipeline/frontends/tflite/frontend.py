"""The frontend ``tflite``: TensorFlow Lite files, through tf2onnx."""

from __future__ import annotations

from typing import ClassVar

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.frontends.base import ConvertRequest, Match, Source
from onnxsmith.pipeline.frontends.table import require_installed


class TfliteFrontend:
    """TensorFlow Lite: ``.tflite`` files, float or quantized."""

    name: ClassVar[str] = "tflite"
    extra: ClassVar[str] = "tflite"
    packages: ClassVar[tuple[str, ...]] = ("tensorflow", "tf2onnx")
    accepts: ClassVar[str] = ".tflite files, float and quantized"
    isolated: ClassVar[bool] = True
    environment: ClassVar[str] = "tensorflow"

    def match(self, source: str) -> Match | None:
        """Take ``.tflite`` files, and ``.lite`` as they were called once."""
        if source.lower().endswith((".tflite", ".lite")):
            return Match(1.0, "the suffix is .tflite")
        return None

    def match_object(self, value: object) -> Match | None:
        """Take no live objects: an interpreter does not give its file back."""
        return None

    def open(self, request: ConvertRequest) -> Source:
        """Read and check the file.

        Raises:
            SmithError: It is damaged, or holds operators that cannot be converted.
            UsageError: An option does not fit.
        """
        if request.weights is not None:
            raise SmithError("a .tflite file holds its weights itself", "leave --weights away")
        if request.part is not None:
            raise UsageError("a .tflite file has no parts to choose", "leave --part away")
        require_installed(self)
        from onnxsmith.pipeline.frontends.tflite.source import TfliteSource

        return TfliteSource(request)

    def adopt(self, value: object, request: ConvertRequest) -> Source:
        """Refuse live objects.

        Raises:
            SmithError: Always.
        """
        raise SmithError(
            f"a {type(value).__name__} is no .tflite file", "give the path of the file"
        )
