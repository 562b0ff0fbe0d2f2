"""The frontend ``lightgbm``: boosters, the scikit-learn classes around them, and model files."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.base import ConvertRequest, Match, Source
from onnxsmith.pipeline.frontends.table import require_installed
from onnxsmith.pipeline.frontends.tabular.adopt import (
    adopt,
    match_callable,
    match_object,
    open_callable,
)
from onnxsmith.pipeline.frontends.tabular.sniff import head
from onnxsmith.pipeline.loading import is_callable_name

_STARTS = (b"tree\nversion=", b"tree\r\nversion=")


class LightgbmFrontend:
    """LightGBM: ``module:callable``, live boosters, and model text files."""

    name: ClassVar[str] = "lightgbm"
    extra: ClassVar[str] = "lightgbm"
    packages: ClassVar[tuple[str, ...]] = ("lightgbm",)
    accepts: ClassVar[str] = (
        "module:callable that returns a Booster, LGBMClassifier, LGBMRegressor or LGBMRanker; "
        "model files (.txt)"
    )
    isolated: ClassVar[bool] = True
    environment: ClassVar[str] = ""

    def match(self, source: str) -> Match | None:
        """Take model files by their content, and callables of modules that import lightgbm."""
        if is_callable_name(source):
            return match_callable(source, self.name)
        if head(source).startswith(_STARTS):
            return Match(0.95, "it is a text of LightGBM's trees")
        return None

    def match_object(self, value: object) -> Match | None:
        """Take live boosters and scikit-learn classes of LightGBM."""
        return match_object(value, self.name)

    def open(self, request: ConvertRequest) -> Source:
        """Call the callable, or load the model file.

        Raises:
            SmithError: It fails, returns no fitted model, or LightGBM cannot read the file.
        """
        require_installed(self)
        if is_callable_name(request.source):
            return open_callable(request)
        from onnxsmith.pipeline.frontends.lightgbm.source import load_file

        path = Path(request.source)
        if not path.is_file():
            raise SmithError(f"there is no file {path}", "check the path")
        return adopt(load_file(path), request)

    def adopt(self, value: object, request: ConvertRequest) -> Source:
        """Take a live model.

        Raises:
            SmithError: It is of another kind, not fitted, or cannot be converted.
        """
        require_installed(self)
        return adopt(value, request)
