"""The frontend ``catboost``: models and their ``.cbm`` files."""

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


class CatboostFrontend:
    """CatBoost: ``module:callable``, live models, and ``.cbm`` files."""

    name: ClassVar[str] = "catboost"
    extra: ClassVar[str] = "catboost"
    packages: ClassVar[tuple[str, ...]] = ("catboost",)
    accepts: ClassVar[str] = (
        "module:callable that returns a CatBoostClassifier, CatBoostRegressor or CatBoostRanker; "
        ".cbm model files"
    )
    isolated: ClassVar[bool] = True
    environment: ClassVar[str] = ""

    def match(self, source: str) -> Match | None:
        """Take model files by their content, and callables of modules that import catboost."""
        if is_callable_name(source):
            return match_callable(source, self.name)
        if head(source).startswith(b"CBM1"):
            return Match(0.95, "it starts as CatBoost's binary models do")
        return None

    def match_object(self, value: object) -> Match | None:
        """Take live models of CatBoost."""
        return match_object(value, self.name)

    def open(self, request: ConvertRequest) -> Source:
        """Call the callable, or load the model file.

        Raises:
            SmithError: It fails, returns no fitted model, or CatBoost cannot read the file.
        """
        require_installed(self)
        if is_callable_name(request.source):
            return open_callable(request)
        from onnxsmith.pipeline.frontends.catboost.source import load_file

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
