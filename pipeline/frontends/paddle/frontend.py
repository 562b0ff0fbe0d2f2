"""The frontend ``paddle``: PaddlePaddle's saved programs and layers, through paddle2onnx."""

from __future__ import annotations

from typing import ClassVar

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.base import ConvertRequest, Match, Source
from onnxsmith.pipeline.frontends.paddle.files import find_program, is_program
from onnxsmith.pipeline.frontends.sources import imported_packages, top_classes
from onnxsmith.pipeline.frontends.table import missing_packages, require_installed
from onnxsmith.pipeline.loading import is_callable_name, load_callable, user_code


class PaddleFrontend:
    """PaddlePaddle: what ``paddle.jit.save`` writes, or a callable that returns a layer.

    paddle2onnx collides with our packages, so it usually runs in the environment that
    ``onnxsmith env create paddle`` makes.
    """

    name: ClassVar[str] = "paddle"
    extra: ClassVar[str] = ""
    packages: ClassVar[tuple[str, ...]] = ("paddle", "paddle2onnx")
    accepts: ClassVar[str] = (
        "what paddle.jit.save writes: .json or .pdmodel with .pdiparams beside it, their folder or "
        "common prefix; module:callable that returns a paddle.nn.Layer (--weights: its .pdparams)"
    )
    isolated: ClassVar[bool] = True
    environment: ClassVar[str] = "paddle"

    def match(self, source: str) -> Match | None:
        """Take saved programs, by content where other tools use the suffix, and callables."""
        if is_callable_name(source):
            if "paddle" in imported_packages(source):
                return Match(0.8, "its module imports paddle")
            return None
        return Match(1.0, "it is a program of PaddlePaddle") if is_program(source) else None

    def match_object(self, value: object) -> Match | None:
        """Take live layers."""
        if "paddle.Layer" in top_classes(value):
            return Match(1.0, "it is a paddle.nn.Layer")
        return None

    def open(self, request: ConvertRequest) -> Source:
        """Find the program's files, or build the layer.

        Raises:
            SmithError: A file is missing; the callable fails or returns something else.
        """
        require_installed(self)
        if not is_callable_name(request.source):
            from onnxsmith.pipeline.frontends.paddle.program import FileSource

            return FileSource(find_program(request.source, request.weights), request)
        import paddle

        paddle.seed(request.seed)
        build = load_callable(request.source)
        with user_code(f"calling {request.source!r}"):
            value = build()
        return self._layer_source(value, request)

    def adopt(self, value: object, request: ConvertRequest) -> Source:
        """Take a live layer.

        Raises:
            SmithError: It is none, or paddle2onnx is not beside the paddle that made it.
        """
        if missing_packages(self):
            raise SmithError(
                "a live layer needs paddle2onnx beside paddle, and it is not installed here",
                "paddle.jit.save the layer and convert the file it writes, or name the function "
                "that builds it: module:callable",
            )
        return self._layer_source(value, request)

    def _layer_source(self, value: object, request: ConvertRequest) -> Source:
        from onnxsmith.pipeline.frontends.paddle.layer import LayerSource

        return LayerSource(value, request)
