"""How a fitted estimator is built: its steps, in the order that a sample takes."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomTreesEmbedding, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection._classification_threshold import BaseThresholdClassifier
from sklearn.model_selection._search import BaseSearchCV
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import FeatureUnion, Pipeline

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.tabular.adopt import library_of

# Where estimators keep the fitted ones that they are made of.
_PARTS = (
    "steps",
    "transformer_list",
    "transformers_",
    "estimators_",
    "estimator_",
    "final_estimator_",
    "best_estimator_",
    "calibrated_classifiers_",
    "estimator",
)

# Settings that change nothing of what comes out of the ONNX model, and that skl2onnx refuses.
_HARMLESS: tuple[tuple[type, str, object], ...] = (
    (VotingClassifier, "flatten_transform", False),  # the shape of transform
    (NearestNeighbors, "radius", None),  # of radius_neighbors
    (RandomTreesEmbedding, "sparse_output", False),  # ONNX's tensors are dense
)


def threshold_of(estimator: Any) -> float | None:
    """Return the probability from which a classifier's second class is meant, if not half.

    Raises:
        SmithError: The threshold is one of decision values.
    """
    final = final_step(estimator)
    while isinstance(final, BaseSearchCV):
        final = final_step(final.best_estimator_)
    if not isinstance(final, BaseThresholdClassifier):
        return None
    if final._get_response_method() == "decision_function" or not hasattr(
        final.estimator_, "predict_proba"
    ):
        raise SmithError(
            f"the {type(final).__name__} compares decision values, which is not converted",
            "use an estimator with predict_proba, and response_method='predict_proba'",
        )
    found = getattr(final, "best_threshold_", getattr(final, "threshold", "auto"))
    return 0.5 if found == "auto" else float(found)


def simplify(estimator: Any) -> Any:
    """Return the estimator in the form that skl2onnx reads best; what it computes is unchanged.

    Searches become the best estimator that they found, steps that pass everything through are
    left out, and columns are counted, because skl2onnx looks a column's name up among the inputs
    and so takes no block of several columns. The estimator given stays as it is.
    """
    if isinstance(estimator, BaseSearchCV) and hasattr(estimator, "best_estimator_"):
        return simplify(estimator.best_estimator_)
    if isinstance(estimator, BaseThresholdClassifier):
        return simplify(estimator.estimator_)
    if isinstance(estimator, LinearDiscriminantAnalysis):
        return _as_logistic(estimator)
    if isinstance(estimator, Pipeline):
        steps = [
            (name, simplify(step))
            for name, step in estimator.steps
            if step is not None and not isinstance(step, str)
        ]
        return _with(estimator, "steps", steps) if steps else estimator
    if isinstance(estimator, FeatureUnion):
        parts = [
            (name, simplify(part))
            for name, part in estimator.transformer_list
            if not isinstance(part, str)
        ]
        return _with(estimator, "transformer_list", parts)
    if isinstance(estimator, ColumnTransformer):
        blocks = [
            (name, simplify(part), column_numbers(estimator, name, columns))
            for name, part, columns in estimator.transformers_
        ]
        return _with(estimator, "transformers_", [block for block in blocks if block[2]])
    for kind, attribute, value in _HARMLESS:
        if type(estimator) is kind:
            estimator = _with(estimator, attribute, value)
    found = getattr(estimator, "estimators_", None)
    if isinstance(found, list) and any(isinstance(part, Pipeline) for part in found):
        return _with(estimator, "estimators_", [simplify(part) for part in found])
    return estimator


def column_numbers(estimator: Any, name: str, columns: Any) -> list[int]:
    """Return the columns that a part of a ColumnTransformer takes, counted from 0."""
    known = getattr(estimator, "_transformer_to_input_indices", {})
    if name in known:
        return [int(index) for index in known[name]]
    if isinstance(columns, slice):
        return list(range(estimator.n_features_in_))[columns]
    array = np.atleast_1d(np.asarray(columns))
    if array.dtype == bool:
        return [int(index) for index in np.flatnonzero(array)]
    if array.dtype.kind in "iu":
        return [int(index) % estimator.n_features_in_ for index in array]
    names = list(estimator.feature_names_in_)
    return [names.index(str(column)) for column in array]


def final_step(estimator: Any) -> Any:
    """Return the step that decides what comes out."""
    while isinstance(estimator, Pipeline):
        estimator = estimator.steps[-1][1]
    return estimator


def walk(estimator: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each estimator inside another, the outer first, with its path, as ``join.text``."""
    yield path, estimator
    for name, part in _parts(estimator):
        yield from walk(part, f"{path}.{name}" if path else name)


def _parts(estimator: Any) -> Iterator[tuple[str, Any]]:
    for attribute in _PARTS:
        if attribute == "estimator" and hasattr(estimator, "estimator_"):
            continue
        found = vars(estimator).get(attribute)
        if _is_estimator(found):
            yield attribute.rstrip("_"), found
        elif isinstance(found, (list, np.ndarray)):
            for number, item in enumerate(
                np.ravel(found) if isinstance(found, np.ndarray) else found
            ):
                named = isinstance(item, tuple)
                part = item[1] if named else item
                if _is_estimator(part):
                    yield (str(item[0]) if named else f"{attribute.rstrip('_')}[{number}]"), part
                elif hasattr(part, "estimator") and attribute == "calibrated_classifiers_":
                    yield f"calibrated[{number}]", part.estimator


def _is_estimator(value: object) -> bool:
    # CatBoost's models derive from nothing of scikit-learn's.
    return isinstance(value, BaseEstimator) or library_of(value) is not None


def _as_logistic(estimator: Any) -> Any:
    """Return the logistic regression that predicts the same.

    skl2onnx takes the softmax of two classes' values where scikit-learn takes the sigmoid of one.
    """
    same = LogisticRegression()
    for name in ("classes_", "coef_", "intercept_", "n_features_in_"):
        setattr(same, name, getattr(estimator, name))
    return same


def _with(estimator: Any, attribute: str, value: Any) -> Any:
    other = copy.copy(estimator)
    vars(other)[attribute] = value
    return other
