"""HistGradientBoosting as a forest: categorical splits, missing values and exact thresholds."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.tabular.forest import Forest, Leaf, Link, Split

_LINKS: dict[str, Link] = {"LogLink": "exp", "IdentityLink": "identity"}


def hist_forest(estimator: Any, *, double: bool = False) -> Forest:
    """Return a HistGradientBoostingClassifier or -Regressor as a forest.

    Args:
        estimator: The fitted estimator.
        double: Whether features are float64.

    Raises:
        SmithError: Its categories are text, which no tree operator compares.
    """
    columns, categories = _columns(estimator)
    trees = [
        _tree(predictor, target, columns, categories)
        for predictors in estimator._predictors
        for target, predictor in enumerate(predictors)
    ]
    base = tuple(float(value) for value in np.ravel(estimator._baseline_prediction))
    labels = getattr(estimator, "classes_", None)
    if labels is not None:
        link: Link = "sigmoid" if len(base) == 1 else "softmax"
    else:
        link = _LINKS[type(estimator._loss.link).__name__]
    return Forest(trees, base, link, labels, double)


def _columns(estimator: Any) -> tuple[list[int], dict[int, np.ndarray]]:
    """Return the column of each feature of the trees, and the categories of those that have some.

    The estimator moves categorical columns to the front and numbers their categories.
    """
    if estimator.is_categorical_ is None:
        return list(range(estimator.n_features_in_)), {}
    chosen = np.flatnonzero(estimator.is_categorical_)
    others = np.flatnonzero(~estimator.is_categorical_)
    encoder = estimator._preprocessor.named_transformers_["encoder"]
    for column, values in zip(chosen, encoder.categories_, strict=True):
        if np.asarray(values).dtype.kind not in "iufb":
            raise SmithError(
                f"the {type(estimator).__name__} has categories that are text, in column {column}",
                "number them in a step before: make_pipeline(OrdinalEncoder(), ...)",
            )
    known = {place: np.asarray(v, np.float64) for place, v in enumerate(encoder.categories_)}
    return [int(column) for column in (*chosen, *others)], known


def _tree(
    predictor: Any, target: int, columns: list[int], categories: dict[int, np.ndarray]
) -> list[Split | Leaf]:
    nodes: list[Split | Leaf] = []
    for node in predictor.nodes:
        if node["is_leaf"]:
            nodes.append(Leaf((float(node["value"]),), (target,)))
            continue
        place, left, right = int(node["feature_idx"]), int(node["left"]), int(node["right"])
        to_left = bool(node["missing_go_to_left"])
        if not node["is_categorical"]:
            threshold = float(node["num_threshold"])
            nodes.append(Split(columns[place], "<=", threshold, left, right, to_left))
            continue
        bits = predictor.raw_left_cat_bitsets[int(node["bitset_idx"])]
        known = categories[place][~np.isnan(categories[place])]
        goes_left = np.array([bool(bits[i // 32] >> (i % 32) & 1) for i in range(len(known))])
        # Categories that training did not see go the way of missing values, which is the last.
        listed = known[~goes_left] if to_left else known[goes_left]
        yes, no = (right, left) if to_left else (left, right)
        values = tuple(float(value) for value in listed)
        nodes.append(Split(columns[place], "in", 0.0, yes, no, False, values))
    return nodes
