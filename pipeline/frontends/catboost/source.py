"""CatBoost's models, loaded."""

from __future__ import annotations

import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import catboost
import numpy as np

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.base import ConvertRequest
from onnxsmith.pipeline.frontends.catboost.trees import read_model
from onnxsmith.pipeline.frontends.tabular.forest import Forest
from onnxsmith.pipeline.frontends.tabular.model import LABEL, PROBABILITIES, VARIABLE
from onnxsmith.pipeline.frontends.tabular.source import ForestSource
from onnxsmith.pipeline.frontends.tabular.table import features_input
from onnxsmith.pipeline.loading import describe


def load_file(path: Path) -> Any:
    """Return the model of a ``.cbm`` file.

    Raises:
        SmithError: CatBoost cannot read it.
    """
    try:
        return catboost.CatBoost().load_model(str(path), format="cbm")
    except Exception as error:  # CatBoostError and others, by what the file holds
        raise SmithError(
            f"CatBoost cannot read {path}: {describe(error)}", "give a file that save_model wrote"
        ) from error


def model_source(value: Any, request: ConvertRequest) -> ForestSource:
    """Return the source of a CatBoost model.

    Raises:
        SmithError: It is not fitted, or cannot be converted.
    """
    forest = read_forest(value)
    width = len(value.feature_names_)
    spec = features_input(request, width, f"CatBoost {type(value).__name__}")

    def predict(rows: np.ndarray) -> dict[str, np.ndarray]:
        return _outputs(forest, value, rows)

    return ForestSource(forest, spec, request, predict, {"catboost": version("catboost")})


def read_forest(value: Any) -> Forest:
    """Return the forest of a model.

    Raises:
        SmithError: It is not fitted, or cannot be converted.
    """
    if not value.is_fitted():
        raise SmithError(
            f"the {type(value).__name__} is not fitted", "call fit() before it is returned"
        )
    with tempfile.TemporaryDirectory(prefix="onnxsmith-") as folder:
        path = Path(folder) / "model.json"
        try:
            value.save_model(str(path), format="json")
        except catboost.CatBoostError as error:
            raise SmithError(
                f"CatBoost cannot write the {type(value).__name__} as JSON: {describe(error)}",
                "train it on numeric features alone",
            ) from error
        document = json.loads(path.read_text("utf-8"))
    return read_model(document, np.asarray(value.classes_))


def _outputs(forest: Forest, model: Any, rows: np.ndarray) -> dict[str, np.ndarray]:
    if forest.labels is None:
        kind = "Exponent" if forest.link == "exp" else "RawFormulaVal"
        # The method of the base class: regressors take no other kinds than their own.
        found = catboost.CatBoost.predict(model, rows, prediction_type=kind)
        return {VARIABLE: np.asarray(found).reshape(len(rows), -1)}
    probabilities = catboost.CatBoost.predict(model, rows, prediction_type="Probability")
    label = np.asarray(catboost.CatBoost.predict(model, rows, prediction_type="Class")).ravel()
    if forest.labels.dtype.kind in "iub":
        label = label.astype(np.int64)
    return {LABEL: label, PROBABILITIES: np.asarray(probabilities)}
