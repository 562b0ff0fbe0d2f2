"""XGBoost's boosters as forests.

Source: XGBoost's documented JSON model format (its schema ``model.schema``), which ``save_raw``
writes for every booster. A split asks ``x < value``; a split on categories sends the listed ones
to the right.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.tabular.forest import Forest, Leaf, Link, Split

_LINKS: dict[str, Link] = {
    "reg:squarederror": "identity",
    "reg:squaredlogerror": "identity",
    "reg:pseudohubererror": "identity",
    "reg:absoluteerror": "identity",
    "reg:quantileerror": "identity",
    "reg:expectileerror": "identity",
    "rank:ndcg": "identity",
    "rank:map": "identity",
    "rank:pairwise": "identity",
    "binary:logitraw": "identity",
    "reg:logistic": "sigmoid",
    "binary:logistic": "sigmoid",
    "binary:hinge": "step",
    "multi:softprob": "softmax",
    "multi:softmax": "softmax",
    "count:poisson": "exp",
    "reg:gamma": "exp",
    "reg:tweedie": "exp",
    "survival:cox": "exp",
    "survival:aft": "exp",
}
_CLASSIFIERS = ("binary:logistic", "binary:hinge", "multi:softprob", "multi:softmax")


def read_booster(
    booster: Any, labels: np.ndarray | None, rounds: int | None, void: float | None
) -> Forest:
    """Return a booster as a forest.

    Args:
        booster: An ``xgboost.Booster``.
        labels: The classes; None takes 0, 1, ... for objectives that classify.
        rounds: How many rounds count; None for all.
        void: A value that stands for a missing one beside NaN.

    Raises:
        SmithError: It is linear, or its objective is unknown.
    """
    learner = json.loads(booster.save_raw("json"))["learner"]
    objective = learner["objective"]["name"]
    if objective not in _LINKS:
        raise SmithError(
            f"the objective {objective!r} of XGBoost is not known here",
            f"train with one of: {', '.join(_LINKS)}",
        )
    gradient = learner["gradient_booster"]
    if gradient["name"] == "gblinear":
        raise SmithError(
            "XGBoost's linear booster (gblinear) is not converted",
            "train with booster='gbtree' or 'dart', or a linear model of scikit-learn",
        )
    drops = gradient.get("weight_drop")
    model = gradient["gbtree"]["model"] if gradient["name"] == "dart" else gradient["model"]
    count = len(model["trees"])
    if rounds is not None and rounds + 1 < len(model["iteration_indptr"]):
        count = model["iteration_indptr"][rounds]
    trees = [
        _tree(tree, model["tree_info"][i], 1.0 if drops is None else drops[i], void)
        for i, tree in enumerate(model["trees"][:count])
    ]
    if labels is not None and int(learner["learner_model_param"].get("num_target", 1)) > 1:
        raise SmithError(
            "XGBoost's classifiers of several targets are not converted",
            "train one classifier a target, with scikit-learn's MultiOutputClassifier",
        )
    if labels is None and objective in _CLASSIFIERS:
        classes = int(learner["learner_model_param"]["num_class"])
        labels = np.arange(max(classes, 2))
    link = _LINKS[objective]
    return Forest(trees, _base(learner["learner_model_param"], link), link, labels)


def _base(params: dict[str, Any], link: Link) -> tuple[float, ...]:
    """Return the margins that all samples start from."""
    text = params["base_score"]
    scores = json.loads(text) if text.startswith("[") else [float(text)]
    targets = max(int(params["num_class"]), int(params.get("num_target", 1)), 1)
    scores = scores * targets if len(scores) == 1 else scores
    if link == "sigmoid":
        return tuple(_logit(score) for score in scores)
    return tuple(math.log(score) for score in scores) if link == "exp" else tuple(scores)


def _logit(score: float) -> float:
    """Return the margin of a probability as XGBoost does, in float32 and off 0 and 1."""
    one, edge = np.float32(1.0), np.float32(1e-6)
    share = np.clip(np.float32(score), edge, one - edge)
    return float(-np.log(one / share - one))


def _tree(tree: dict[str, Any], target: int, weight: float, void: float | None) -> list[Any]:
    width = int(tree["tree_param"]["size_leaf_vector"] or 1)
    kinds = tree.get("split_type") or [0] * len(tree["left_children"])
    categories = _categories(tree)
    _refuse_circles(tree)
    nodes: list[Split | Leaf] = []
    for index, left in enumerate(tree["left_children"]):
        right, value = tree["right_children"][index], tree["split_conditions"][index]
        if left == -1:
            nodes.append(_leaf(tree, index, target, weight, width))
            continue
        feature, to_left = tree["split_indices"][index], bool(tree["default_left"][index])
        if kinds[index] == 1:
            found = categories[index]
            nodes.append(Split(feature, "in", 0.0, right, left, not to_left, found, void))
        else:
            value = float(np.float32(value))
            nodes.append(Split(feature, "<", value, left, right, to_left, (), void))
    return nodes


def _refuse_circles(tree: dict[str, Any]) -> None:
    """Check that the children of the nodes are nodes, and that none is met twice.

    Raises:
        SmithError: The file lies: running such a tree would not end.
    """
    lefts, rights = tree["left_children"], tree["right_children"]
    open_nodes, seen = [0], set[int]()
    while open_nodes:
        index = open_nodes.pop()
        if index in seen or not 0 <= index < len(lefts):
            raise SmithError(
                f"a tree of the XGBoost model names the node {index} twice, or has no such node",
                "the file is damaged: write it again with save_model",
            )
        seen.add(index)
        if lefts[index] != -1:
            open_nodes += [lefts[index], rights[index]]


def _leaf(tree: dict[str, Any], index: int, target: int, weight: float, width: int) -> Leaf:
    if width == 1:
        value = float(np.float32(tree["split_conditions"][index]))
        return Leaf((weight * value,), (target,))
    start = tree["right_children"][index] * width
    values = tree["leaf_weights"][start : start + width]
    return Leaf(tuple(weight * value for value in values), tuple(range(width)))


def _categories(tree: dict[str, Any]) -> dict[int, tuple[float, ...]]:
    """Return the categories that go right, by the node that asks for them."""
    return {
        node: tuple(float(c) for c in tree["categories"][start : start + size])
        for node, start, size in zip(
            tree.get("categories_nodes", ()),
            tree.get("categories_segments", ()),
            tree.get("categories_sizes", ()),
            strict=True,
        )
    }
