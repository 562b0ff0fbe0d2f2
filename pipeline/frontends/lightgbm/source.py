"""LightGBM's models, loaded: boosters and the scikit-learn classes around them."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.base import ConvertRequest
from onnxsmith.pipeline.frontends.lightgbm.trees import read_booster
from onnxsmith.pipeline.frontends.tabular.forest import Forest
from onnxsmith.pipeline.frontends.tabular.model import LABEL, PROBABILITIES, VARIABLE
from onnxsmith.pipeline.frontends.tabular.source import ForestSource
from onnxsmith.pipeline.frontends.tabular.table import features_input
from onnxsmith.pipeline.loading import describe


def load_file(path: Path) -> Any:
    """Return the booster of a model text file.

    Raises:
        SmithError: LightGBM cannot read it.
    """
    try:
        return lightgbm.Booster(model_file=str(path))
    except Exception as error:  # LightGBMError, ValueError, KeyError by what the file holds
        raise SmithError(
            f"LightGBM cannot read {path}: {describe(error)}", "give a file that save_model wrote"
        ) from error


def booster_source(value: Any, request: ConvertRequest) -> ForestSource:
    """Return the source of a ``Booster`` or of one of the scikit-learn classes.

    Raises:
        SmithError: It is not fitted, or cannot be converted.
    """
    booster = booster_of(value)
    name = f"LightGBM {type(value).__name__}"
    spec = features_input(request, booster.num_feature(), name, ("float32", "float64"))
    forest = read_model(value, double=spec.dtype == "float64")
    warnings: tuple[str, ...] = ()
    if booster.pandas_categorical:
        warnings = (
            "categorical columns of the training DataFrame are taken as their codes: "
            "0 for the first of its categories",
        )

    def predict(rows: np.ndarray) -> dict[str, np.ndarray]:
        found = booster.predict(rows.astype(np.float64))
        return _outputs(forest, found)

    versions = {"lightgbm": version("lightgbm")}
    return ForestSource(forest, spec, request, predict, versions, warnings)


def booster_of(value: Any) -> Any:
    """Return the booster of a model.

    Raises:
        SmithError: It is not fitted.
    """
    if isinstance(value, lightgbm.Booster):
        return value
    if not value.__sklearn_is_fitted__():
        raise SmithError(
            f"the {type(value).__name__} is not fitted", "call fit() before it is returned"
        )
    return value.booster_


def read_model(value: Any, *, double: bool) -> Forest:
    """Return the forest of a model.

    Raises:
        SmithError: It is not fitted, or cannot be converted.
    """
    labels = np.asarray(value.classes_) if isinstance(value, lightgbm.LGBMClassifier) else None
    return read_booster(booster_of(value), labels, double=double)


def _outputs(forest: Forest, found: np.ndarray) -> dict[str, np.ndarray]:
    if forest.labels is None:
        return {VARIABLE: found.reshape(len(found), -1)}
    probabilities = np.stack([1.0 - found, found], axis=1) if found.ndim == 1 else found
    label = forest.labels[probabilities.argmax(axis=1)]
    label = label.astype(np.int64) if label.dtype.kind == "b" else label
    return {LABEL: label, PROBABILITIES: probabilities}
