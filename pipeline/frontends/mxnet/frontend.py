"""The frontend ``mxnet``: symbols and weights of MXNet, read without MXNet. Runs in process."""

from __future__ import annotations

from typing import ClassVar

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.base import ConvertRequest, Match, Source
from onnxsmith.pipeline.frontends.mxnet.files import match_file
from onnxsmith.pipeline.frontends.sources import top_classes


class MxnetFrontend:
    """MXNet: ``NAME-symbol.json`` with ``NAME-0000.params`` beside it, of all versions."""

    name: ClassVar[str] = "mxnet"
    extra: ClassVar[str] = ""
    packages: ClassVar[tuple[str, ...]] = ()
    accepts: ClassVar[str] = "-symbol.json files with .params beside them"
    isolated: ClassVar[bool] = False
    environment: ClassVar[str] = ""

    def match(self, source: str) -> Match | None:
        """Take graphs and weights of MXNet."""
        return match_file(source)

    def match_object(self, value: object) -> Match | None:
        """Recognize live symbols and blocks, so that the error can say what to do with them."""
        names = {"mxnet.Symbol", "mxnet.Block", "mxnet.BaseModule"}
        return Match(1.0, "it is a model of MXNet") if top_classes(value) & names else None

    def open(self, request: ConvertRequest) -> Source:
        """Read both files.

        Raises:
            SmithError: One is missing or damaged.
        """
        # onnx and onnx_ir are loaded only when a model is.
        from onnxsmith.pipeline.frontends.mxnet.source import MxnetSource

        return MxnetSource(request)

    def adopt(self, value: object, request: ConvertRequest) -> Source:
        """Refuse live objects.

        Raises:
            SmithError: Always.
        """
        raise SmithError(
            "live models of MXNet are not taken",
            "export it with net.export or save_checkpoint, and convert the -symbol.json file",
        )
