"""The frontend ``caffe``: reads Caffe's files by itself. Runs in process."""

from __future__ import annotations

from typing import ClassVar

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.base import ConvertRequest, Match, Source

_SUFFIXES = (".prototxt", ".caffemodel")


class CaffeFrontend:
    """Caffe: a ``.prototxt`` with the ``.caffemodel`` that belongs to it."""

    name: ClassVar[str] = "caffe"
    extra: ClassVar[str] = ""
    packages: ClassVar[tuple[str, ...]] = ()
    accepts: ClassVar[str] = ".prototxt and .caffemodel files (--weights FILE names the second)"
    isolated: ClassVar[bool] = False
    environment: ClassVar[str] = ""

    def match(self, source: str) -> Match | None:
        """Take ``.prototxt`` and ``.caffemodel`` files."""
        for suffix in _SUFFIXES:
            if source.lower().endswith(suffix):
                return Match(1.0, f"the suffix is {suffix}")
        return None

    def match_object(self, value: object) -> Match | None:
        """Take no live object: there is no Caffe to run it."""
        return None

    def open(self, request: ConvertRequest) -> Source:
        """Read the network, and where the weights lie.

        Raises:
            SmithError: A file is missing, of another kind, or damaged.
        """
        from onnxsmith.pipeline.frontends.caffe.source import CaffeSource

        return CaffeSource(request)

    def adopt(self, value: object, request: ConvertRequest) -> Source:
        """Refuse live objects.

        Raises:
            SmithError: Always.
        """
        raise SmithError(
            f"a {type(value).__name__} is no Caffe file", "give the path of a .prototxt"
        )
