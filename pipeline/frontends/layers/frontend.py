"""The frontend ``layers``: networks described in YAML. Runs in process and needs no framework."""

from __future__ import annotations

from typing import ClassVar

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.base import ConvertRequest, Match, Source


class LayersFrontend:
    """Networks described layer by layer: ``.yaml`` files."""

    name: ClassVar[str] = "layers"
    extra: ClassVar[str] = ""
    packages: ClassVar[tuple[str, ...]] = ()
    accepts: ClassVar[str] = ".yaml files that describe a network, to be trained"
    isolated: ClassVar[bool] = False
    environment: ClassVar[str] = ""

    def match(self, source: str) -> Match | None:
        """Take YAML files."""
        if source.lower().endswith((".yaml", ".yml")):
            return Match(1.0, "the suffix is .yaml")
        return None

    def match_object(self, value: object) -> Match | None:
        """Take no live objects."""
        return None

    def open(self, request: ConvertRequest) -> Source:
        """Build the network.

        Raises:
            SmithError: Weights or inputs are given as well, or a layer does not fit.
        """
        if request.weights is not None or request.inputs:
            what = "--weights" if request.weights is not None else "--input"
            raise SmithError(
                "a network in YAML has its own inputs and initial weights", f"leave {what} away"
            )
        from onnxsmith.pipeline.frontends.layers.source import LayersSource

        return LayersSource(request)

    def adopt(self, value: object, request: ConvertRequest) -> Source:
        """Take no live objects.

        Raises:
            SmithError: Always.
        """
        raise SmithError(f"a {type(value).__name__} describes no network", "give a YAML file")
