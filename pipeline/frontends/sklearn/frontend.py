"""The frontend ``sklearn``: fitted scikit-learn estimators and pipelines, through skl2onnx."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.base import ConvertRequest, Match, Source
from onnxsmith.pipeline.frontends.table import require_installed
from onnxsmith.pipeline.frontends.tabular.adopt import (
    adopt,
    match_callable,
    match_object,
    open_callable,
)
from onnxsmith.pipeline.loading import is_callable_name, user_code

_PICKLES = (".joblib", ".pkl", ".pickle")


class SklearnFrontend:
    """scikit-learn: ``module:callable`` that returns a fitted estimator, or a pickle (--trust)."""

    name: ClassVar[str] = "sklearn"
    extra: ClassVar[str] = "sklearn"
    packages: ClassVar[tuple[str, ...]] = ("sklearn", "skl2onnx")
    accepts: ClassVar[str] = (
        "module:callable that returns a fitted estimator; .joblib and .pkl files with --trust"
    )
    isolated: ClassVar[bool] = True
    environment: ClassVar[str] = "sklearn"

    def match(self, source: str) -> Match | None:
        """Take pickles by suffix, and callables of modules that import sklearn."""
        if source.lower().endswith(_PICKLES):
            return Match(0.6, "the suffix is one of Python's pickles")
        if not is_callable_name(source):
            return None
        found = match_callable(source, self.name)
        return found or Match(0.3, "a callable may return an estimator")

    def match_object(self, value: object) -> Match | None:
        """Take live estimators."""
        return match_object(value, self.name)

    def open(self, request: ConvertRequest) -> Source:
        """Call the callable, or unpickle the file.

        Raises:
            SmithError: It fails, returns no fitted estimator, or is a pickle without trust.
        """
        require_installed(self)
        if is_callable_name(request.source):
            return open_callable(request)
        return adopt(_unpickle(Path(request.source), request.trust), request)

    def adopt(self, value: object, request: ConvertRequest) -> Source:
        """Take a live estimator.

        Raises:
            SmithError: It is none, or it is not fitted.
        """
        require_installed(self)
        return adopt(value, request)


def _unpickle(path: Path, trust: bool) -> Any:
    if not path.is_file():
        raise SmithError(f"there is no file {path}", "check the path")
    if not trust:
        raise SmithError(
            f"{path} is a pickle, which runs code when it is loaded",
            "pass --trust if you know who made the file",
        )
    import joblib

    with user_code(f"loading {path}"):
        return joblib.load(path)
