"""Refuse what skl2onnx does not know, by name and place, before it says something obscure."""

from __future__ import annotations

from typing import Any

from skl2onnx._supported_operators import sklearn_operator_name_map
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.multiclass import OneVsOneClassifier
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.sklearn.structure import walk
from onnxsmith.pipeline.frontends.tabular.adopt import library_of


def refuse_unsupported(estimator: Any) -> None:
    """Check that each estimator inside ``estimator`` can be converted.

    Raises:
        SmithError: Naming the one that cannot, and the step that holds it.
    """
    for path, part in walk(estimator):
        name = type(part).__name__
        where = f" (step {path!r})" if path else ""
        if isinstance(part, FunctionTransformer) and part.func is not None:
            raise SmithError(
                f"the FunctionTransformer{where} runs a Python function, which is not converted",
                "do the same with estimators, or before the model",
            )
        if isinstance(part, OneVsOneClassifier) and len(part.classes_) == 2:
            raise SmithError(
                f"skl2onnx does not convert a OneVsOneClassifier of two classes{where}",
                "convert the classifier inside it, which does the same",
            )
        if isinstance(part, GaussianProcessClassifier):
            raise SmithError(
                f"the GaussianProcessClassifier{where} solves linear equations, which ONNX has no "
                "operator for",
                "use another classifier: an SVC with predict_proba is close to it",
            )
        if library_of(part) in ("xgboost", "lightgbm", "catboost"):
            continue
        if isinstance(part, (Pipeline, FeatureUnion)) or type(part) in sklearn_operator_name_map:
            continue
        raise SmithError(
            f"skl2onnx does not convert {name}{where}",
            "replace it by an estimator that it covers: see docs/frontends/sklearn.md",
        )
