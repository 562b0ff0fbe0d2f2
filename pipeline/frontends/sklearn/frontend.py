"""The frontend ``sklearn``: fitted scikit-learn estimators and pipelines, through skl2onnx."""

from __future__ import annotations

import pickle
import traceback
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
from onnxsmith.pipeline.loading import describe, is_callable_name, user_code

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

    try:
        with user_code(f"loading {path}"):
            return joblib.load(path)
    except SmithError as error:
        if error.__cause__ is None or not _is_damage(error.__cause__):
            raise
        raise SmithError(
            f"{path} is no pickle of a model, or it is damaged: {describe(error.__cause__)}",
            "write it again with joblib.dump, or copy it again",
        ) from None  # the trace shows the inside of pickle, and no code of the user's


def _is_damage(error: BaseException) -> bool:
    """Return whether reading itself failed, not what the pickle names."""
    if isinstance(error, (ImportError, AttributeError)):  # a class that is not there
        return False
    last = traceback.extract_tb(error.__traceback__)[-1].filename
    return last == pickle.__file__ or "joblib" in Path(last).parts
