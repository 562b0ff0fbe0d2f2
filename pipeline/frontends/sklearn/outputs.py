"""Which method of an estimator each output of its ONNX model stands for."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import is_classifier, is_clusterer, is_outlier_detector
from sklearn.feature_selection import SelectorMixin
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import LabelBinarizer, LabelEncoder

from onnxsmith.pipeline.frontends.sklearn.structure import final_step


def run_estimator(estimator: Any, table: Any, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return the estimator's own results, by the name of the ONNX output that holds them.

    skl2onnx writes one output for regressors and transformers, and two for others: labels, then
    probabilities, scores or distances. Probabilities of several targets follow, one output each.
    """
    final = final_step(estimator)
    methods = _methods(estimator, final)
    found: list[np.ndarray] = []
    for method in methods[: len(names)]:
        result = getattr(estimator, method)(table)
        if method == "kneighbors":
            distances, indices = result
            found += [indices, distances]
        elif isinstance(result, list):
            found += [np.asarray(part) for part in result]
        else:
            found.append(_dense(result))
    return {name: _number(value) for name, value in zip(names, found, strict=False)}


def _methods(estimator: Any, final: Any) -> tuple[str, ...]:
    if isinstance(final, NearestNeighbors):
        return ("kneighbors",)
    if isinstance(final, (SelectorMixin, LabelBinarizer, LabelEncoder)):
        return ("transform",)
    if isinstance(final, (GaussianMixture, BayesianGaussianMixture)):
        return ("predict", "predict_proba")
    if is_outlier_detector(final):
        return ("predict", "decision_function")
    if is_clusterer(final):
        return ("predict", "transform")
    if is_classifier(final):
        second = "predict_proba" if hasattr(estimator, "predict_proba") else "decision_function"
        return ("predict", second)
    return ("predict",) if hasattr(estimator, "predict") else ("transform",)


def _dense(value: Any) -> np.ndarray:
    return np.asarray(value.toarray() if hasattr(value, "toarray") else value)


def _number(value: np.ndarray) -> np.ndarray:
    return value.astype(np.int64) if value.dtype.kind == "b" else value
