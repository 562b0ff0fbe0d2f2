"""The frontend ``xgboost``: boosters, the scikit-learn classes around them, and model files."""

from __future__ import annotations

import re
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

# The first key of a model in JSON, and of one in UBJSON: a length of type L (int64) before it.
_JSON = re.compile(rb'\s*\{\s*"(learner|version)"\s*:')
_UBJSON = re.compile(rb"\{L\x00{7}.(learner|version)", re.DOTALL)


class XgboostFrontend:
    """XGBoost: ``module:callable``, live boosters, and ``.json`` or ``.ubj`` model files."""

    name: ClassVar[str] = "xgboost"
    extra: ClassVar[str] = "xgboost"
    packages: ClassVar[tuple[str, ...]] = ("xgboost",)
    accepts: ClassVar[str] = (
        "module:callable that returns a Booster, XGBClassifier, XGBRegressor or XGBRanker; "
        ".json and .ubj model files"
    )
    isolated: ClassVar[bool] = True
    environment: ClassVar[str] = ""

    def match(self, source: str) -> Match | None:
        """Take model files by their content, and callables of modules that import xgboost."""
        if is_callable_name(source):
            return match_callable(source, self.name)
        start = head(source)
        if _JSON.match(start) and b'"learner' in start:
            return Match(0.95, "it is a JSON object with XGBoost's learner")
        if _UBJSON.match(start):
            return Match(0.95, "it is a UBJSON object with XGBoost's learner")
        if source.lower().endswith(".ubj"):
            return Match(0.6, "the suffix is .ubj")
        return None

    def match_object(self, value: object) -> Match | None:
        """Take live boosters and scikit-learn classes of XGBoost."""
        return match_object(value, self.name)

    def open(self, request: ConvertRequest) -> Source:
        """Call the callable, or load the model file.

        Raises:
            SmithError: It fails, returns no fitted model, or XGBoost cannot read the file.
        """
        require_installed(self)
        if is_callable_name(request.source):
            return open_callable(request)
        from onnxsmith.pipeline.frontends.xgboost.source import load_file

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
