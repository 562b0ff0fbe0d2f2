"""CatBoost's models as forests.

CatBoost's own ONNX export was measured first: it leaves out the exponent of Poisson and Tweedie,
normalizes the probabilities of one-vs-all, writes invalid models for several targets, gives
probabilities as a list of maps, and refuses trees that are not symmetric.

Source: CatBoost's JSON model format (``save_model(format="json")``). A split asks ``x > border``;
the answers of a symmetric tree are the bits of the leaf's index.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.tabular.forest import Forest, Leaf, Link, Split

_LINKS: dict[str, Link] = {
    "Logloss": "sigmoid",
    "CrossEntropy": "sigmoid",
    "MultiClass": "softmax",
    "MultiClassOneVsAll": "sigmoid",
    "RMSE": "identity",
    "MAE": "identity",
    "MAPE": "identity",
    "Quantile": "identity",
    "MultiQuantile": "identity",
    "Expectile": "identity",
    "Huber": "identity",
    "LogLinQuantile": "exp",
    "LogCosh": "identity",
    "Lq": "identity",
    "MultiRMSE": "identity",
    "MultiRMSEWithMissingValues": "identity",
    "Poisson": "exp",
    "Tweedie": "exp",
    "YetiRank": "identity",
    "YetiRankPairwise": "identity",
    "LambdaMart": "identity",
    "StochasticRank": "identity",
    "QueryRMSE": "identity",
    "QuerySoftMax": "identity",
    "GroupQuantile": "identity",
    "PairLogit": "identity",
    "PairLogitPairwise": "identity",
}
_CLASSIFIERS = ("Logloss", "CrossEntropy", "MultiClass", "MultiClassOneVsAll")


def read_model(model: dict[str, Any], labels: np.ndarray) -> Forest:
    """Return a model as a forest.

    Args:
        model: The JSON document.
        labels: The classes; empty where there are none.

    Raises:
        SmithError: It uses categories, text or embeddings, or its loss is unknown.
    """
    info = model["features_info"]
    for kind in ("categorical", "text", "embedding"):
        if info.get(f"{kind}_features"):
            raise SmithError(
                f"the CatBoost model uses {kind} features, which are not converted",
                "encode them as numbers before training, e.g. with scikit-learn's OrdinalEncoder",
            )
    loss = model["model_info"]["params"]["loss_function"]["type"]
    if loss not in _LINKS:
        raise SmithError(
            f"the loss {loss!r} of CatBoost is not known here",
            f"train with one of: {', '.join(_LINKS)}",
        )
    # Borders name features by their place among the numeric ones.
    columns = [feature["flat_feature_index"] for feature in info["float_features"]]
    high = [feature["nan_value_treatment"] == "AsTrue" for feature in info["float_features"]]
    scale, bias = model["scale_and_bias"]
    bias = bias if isinstance(bias, list) else [bias]
    reader = _Reader(columns, high, scale, len(bias))
    if "oblivious_trees" in model:
        trees = [reader.symmetric(tree) for tree in model["oblivious_trees"]]
    else:
        trees = [reader.free(tree) for tree in model["trees"]]
    if loss not in _CLASSIFIERS:
        labels = np.empty(0)
    elif labels.dtype.kind == "f":
        labels = labels.astype(np.int64)
    return Forest(trees, tuple(bias), _LINKS[loss], labels if labels.size else None)


class _Reader:
    """Reads trees.

    Args:
        columns: The feature of each numeric one.
        high: Whether NaN counts as above all borders, for each.
        scale: Of all leaves.
        targets: Values a leaf has.
    """

    def __init__(self, columns: list[int], high: list[bool], scale: float, targets: int) -> None:
        self.columns = columns
        self.high = high
        self.scale = scale
        self.targets = targets

    def symmetric(self, tree: dict[str, Any]) -> list[Split | Leaf]:
        """Return an oblivious tree: level by level, the last split asked first."""
        splits = list(reversed(tree["splits"] or []))
        inner = (1 << len(splits)) - 1
        nodes: list[Split | Leaf] = []
        for depth, split in enumerate(splits):
            for _ in range(1 << depth):
                first = 2 * len(nodes) + 1
                nodes.append(self._split(split, low=first, above=first + 1))
        values = tree["leaf_values"]
        for leaf in range(inner + 1):
            nodes.append(self._leaf(values[leaf * self.targets : (leaf + 1) * self.targets]))
        return nodes

    def free(self, tree: dict[str, Any]) -> list[Split | Leaf]:
        """Return a tree of any shape."""
        waiting = [(tree, -1, 0)]
        children: dict[int, list[int]] = {}
        documents: list[dict[str, Any]] = []
        while waiting:
            document, parent, side = waiting.pop()
            index = len(documents)
            documents.append(document)
            if parent >= 0:
                children[parent][side] = index
            if "split" in document:
                children[index] = [-1, -1]
                waiting += [(document["right"], index, 1), (document["left"], index, 0)]
        found: list[Split | Leaf] = []
        for index, document in enumerate(documents):
            if "split" in document:
                low, above = children[index]
                found.append(self._split(document["split"], low=low, above=above))
            else:
                value = document["value"]
                found.append(self._leaf(value if isinstance(value, list) else [value]))
        return found

    def _split(self, split: dict[str, Any], *, low: int, above: int) -> Split:
        number = split["float_feature_index"]
        border = float(np.float32(split["border"]))
        return Split(self.columns[number], "<=", border, low, above, not self.high[number])

    def _leaf(self, values: list[float]) -> Leaf:
        return Leaf(tuple(self.scale * value for value in values), tuple(range(self.targets)))
