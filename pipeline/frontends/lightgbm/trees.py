"""LightGBM's boosters as forests.

Source: LightGBM's model text (``Booster.model_to_string``, ``src/io/tree.cpp``). The bits of a
decision type: 1 a split on categories, 2 missing values go left, 4 and 8 what counts as missing
(0 nothing, so that NaN is 0; 1 zero and NaN; 2 NaN). Children below zero are leaves, ``~index``.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.tabular.forest import Forest, Leaf, Link, Split

_CATEGORICAL, _DEFAULT_LEFT = 1, 2
_MISSING_NONE, _MISSING_ZERO = 0, 1

_LINKS: dict[str, Link] = {
    "regression": "identity",
    "regression_l1": "identity",
    "huber": "identity",
    "fair": "identity",
    "quantile": "identity",
    "mape": "identity",
    "lambdarank": "identity",
    "rank_xendcg": "identity",
    "poisson": "exp",
    "gamma": "exp",
    "tweedie": "exp",
    "cross_entropy": "sigmoid",
    "cross_entropy_lambda": "softplus",
    "binary": "sigmoid",
    "multiclass": "softmax",
    "multiclassova": "sigmoid",
    "custom": "identity",
}
_CLASSIFIERS = ("binary", "multiclass", "multiclassova")


def read_booster(booster: Any, labels: np.ndarray | None, *, double: bool) -> Forest:
    """Return a booster as a forest, up to its best iteration.

    Args:
        booster: A ``lightgbm.Booster``.
        labels: The classes; None takes 0, 1, ... for objectives that classify.
        double: Whether features are float64.

    Raises:
        SmithError: Its leaves are linear models, or its objective is unknown.
    """
    head, *sections = booster.model_to_string().split("\nTree=")
    header = _pairs(head)
    objective, *options = header.get("objective", "custom").split() or ["custom"]
    if objective not in _LINKS:
        raise SmithError(
            f"the objective {objective!r} of LightGBM is not known here",
            f"train with one of: {', '.join(_LINKS)}",
        )
    targets = int(header["num_tree_per_iteration"])
    # A random forest gives the mean of its trees.
    scale = targets / len(sections) if "\naverage_output" in head and sections else 1.0
    for option in options:
        if option.startswith("sigmoid:"):  # 1 / (1 + exp(-sigmoid * x))
            scale *= float(option.partition(":")[2])
    trees = [
        _tree(_pairs(text.partition("\n\n")[0]), index % targets, scale)
        for index, text in enumerate(sections)
    ]
    link: Link = "signed-square" if "sqrt" in options else _LINKS[objective]
    if objective not in _CLASSIFIERS:
        labels = None
    elif labels is None:
        labels = np.arange(max(targets, 2))
    return Forest(trees, (0.0,) * targets, link, labels, double)


def _pairs(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def _tree(tree: dict[str, str], target: int, scale: float) -> list[Split | Leaf]:
    if tree.get("is_linear", "0") == "1":
        raise SmithError(
            "the leaves of LightGBM's trees are linear models, which is not converted",
            "train without linear_tree",
        )
    leaves = [Leaf((scale * float(value),), (target,)) for value in tree["leaf_value"].split()]
    if len(leaves) == 1:
        return list(leaves)
    features, kinds = _integers(tree, "split_feature"), _integers(tree, "decision_type")
    thresholds = [float(value) for value in tree["threshold"].split()]
    lefts, rights = _integers(tree, "left_child"), _integers(tree, "right_child")
    splits = len(features)
    sets = _category_sets(tree)
    nodes: list[Split | Leaf] = []
    for index, kind in enumerate(kinds):
        # Leaves stand behind the splits.
        left, right = (
            child if child >= 0 else splits + ~child for child in (lefts[index], rights[index])
        )
        threshold = thresholds[index]
        if kind & _CATEGORICAL:
            found = sets[int(threshold)]
            # Missing and negative categories go right.
            nodes.append(Split(features[index], "in", 0.0, left, right, False, found))
            continue
        missing = kind >> 2 & 3
        to_left = threshold >= 0.0 if missing == _MISSING_NONE else bool(kind & _DEFAULT_LEFT)
        void = 0.0 if missing == _MISSING_ZERO and to_left != (threshold >= 0.0) else None
        nodes.append(Split(features[index], "<=", threshold, left, right, to_left, (), void))
    return [*nodes, *leaves]


def _integers(tree: dict[str, str], key: str) -> list[int]:
    return [int(value) for value in tree[key].split()]


def _category_sets(tree: dict[str, str]) -> list[tuple[float, ...]]:
    """Return the categories that go left, by the number that a split holds for a threshold."""
    if tree.get("num_cat", "0") == "0":
        return []
    bounds, words = _integers(tree, "cat_boundaries"), _integers(tree, "cat_threshold")
    return [
        tuple(
            float(32 * place + bit)
            for place, word in enumerate(words[start:end])
            for bit in range(32)
            if word >> bit & 1
        )
        for start, end in itertools.pairwise(bounds)
    ]
