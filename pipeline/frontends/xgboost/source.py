"""XGBoost's models, loaded: boosters and the scikit-learn classes around them."""

from __future__ import annotations

import math
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import xgboost

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.base import ConvertRequest
from onnxsmith.pipeline.frontends.tabular.forest import Forest
from onnxsmith.pipeline.frontends.tabular.model import LABEL, PROBABILITIES, VARIABLE
from onnxsmith.pipeline.frontends.tabular.source import ForestSource
from onnxsmith.pipeline.frontends.tabular.table import features_input
from onnxsmith.pipeline.frontends.xgboost.trees import read_booster
from onnxsmith.pipeline.frontends.xgboost.ubjson import UbjsonError, check_ubjson
from onnxsmith.pipeline.loading import describe


def load_file(path: Path) -> Any:
    """Return the booster of a ``.json`` or ``.ubj`` file; XGBoost reads both without pickle.

    Raises:
        SmithError: XGBoost cannot read it.
    """
    booster = xgboost.Booster()
    data = bytearray(path.read_bytes())
    try:
        if not data.lstrip().startswith(b'{"') and data.startswith(b"{"):
            check_ubjson(memoryview(data))
        booster.load_model(data)
    except UbjsonError as error:
        raise SmithError(f"{path} is damaged: {error}", "get the file again") from error
    except Exception as error:  # XGBoostError, ValueError, TypeError by what the file holds
        text = describe(error).partition(" Stack trace")[0]
        raise SmithError(
            f"XGBoost cannot read {path}: {text}", "give a file that save_model wrote"
        ) from error
    return booster


def booster_source(value: Any, request: ConvertRequest) -> ForestSource:
    """Return the source of a ``Booster`` or of one of the scikit-learn classes.

    Raises:
        SmithError: It is not fitted, or cannot be converted.
    """
    forest, booster = read_model(value)
    spec = features_input(request, booster.num_features(), f"XGBoost {type(value).__name__}")
    rounds = None if isinstance(value, xgboost.Booster) else best_rounds(value)
    missing = _missing(value)

    def predict(rows: np.ndarray) -> dict[str, np.ndarray]:
        matrix = xgboost.DMatrix(
            rows,
            missing=missing,
            feature_names=booster.feature_names,
            feature_types=booster.feature_types,
            enable_categorical=True,
        )
        return _outputs(forest, booster, matrix, rounds)

    return ForestSource(
        forest, spec, request, predict, {"xgboost": version("xgboost")}, _warnings(value, booster)
    )


def read_model(value: Any) -> tuple[Forest, Any]:
    """Return the forest and the booster of a model.

    Raises:
        SmithError: It is not fitted, or cannot be converted.
    """
    if isinstance(value, xgboost.Booster):
        return read_booster(value, None, None, None), value
    try:
        booster = value.get_booster()
    except xgboost.core.XGBoostError as error:  # NotFittedError derives from others, by version
        raise _unfitted(value) from error
    except ValueError as error:
        raise _unfitted(value) from error
    missing = _missing(value)
    labels = np.asarray(value.classes_) if hasattr(value, "classes_") else None
    forest = read_booster(
        booster, labels, best_rounds(value), None if math.isnan(missing) else missing
    )
    if labels is not None and forest.link == "identity":
        raise SmithError(
            f"the {type(value).__name__} was trained with an objective that gives no probabilities",
            "train with binary:logistic or multi:softprob, or convert its get_booster()",
        )
    return forest, booster


def best_rounds(value: Any) -> int | None:
    """Return how many rounds ``predict`` of a scikit-learn class uses after early stopping."""
    best = value.get_booster().attr("best_iteration")
    return None if best is None else int(best) + 1


def _unfitted(value: Any) -> SmithError:
    return SmithError(
        f"the {type(value).__name__} is not fitted", "call fit() before it is returned"
    )


def _missing(value: Any) -> float:
    missing = getattr(value, "missing", math.nan)
    return math.nan if missing is None else float(missing)


def _warnings(value: Any, booster: Any) -> tuple[str, ...]:
    best = booster.attr("best_iteration")
    if isinstance(value, xgboost.Booster) and best is not None:
        rounds = booster.num_boosted_rounds()
        if int(best) + 1 < rounds:
            return (
                f"training stopped early at round {int(best) + 1} of {rounds}: a Booster predicts "
                "with all; slice it, booster[:N], to convert fewer",
            )
    return ()


def _outputs(
    forest: Forest, booster: Any, matrix: Any, rounds: int | None
) -> dict[str, np.ndarray]:
    used = (0, rounds or 0)
    if forest.labels is None:
        found = booster.predict(matrix, iteration_range=used)
        return {VARIABLE: found.reshape(len(found), -1)}
    if forest.link == "softmax":
        margin = booster.predict(matrix, output_margin=True, iteration_range=used)
        powers = np.exp(margin - margin.max(axis=1, keepdims=True))
        probabilities = powers / powers.sum(axis=1, keepdims=True)
    else:
        positive = booster.predict(matrix, iteration_range=used)
        probabilities = np.stack([1.0 - positive, positive], axis=1)
    label = forest.labels[probabilities.argmax(axis=1)]
    return {LABEL: label, PROBABILITIES: probabilities.astype(np.float32)}
