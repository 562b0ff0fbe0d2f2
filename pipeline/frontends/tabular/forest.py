"""Decision forests as ONNX: boosted trees of any library, in one operator and its link function.

onnxmltools 1.16 was measured first. It fails on XGBoost's DART, and gives wrong numbers for its
``multi:softmax`` and for LightGBM's random forests, ``multiclassova``, ``sigmoid`` and
``zero_as_missing``; it rounds thresholds of float64 to the nearest float32, which sends a feature
at the threshold to the other side, and leaves Identity, Cast and Mul nodes. skl2onnx has the last
two faults and no categorical splits for HistGradientBoosting.

Source: the ONNX operators ai.onnx.ml TreeEnsembleClassifier and TreeEnsembleRegressor, version 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Link = Literal["identity", "sigmoid", "softmax", "exp", "signed-square", "softplus", "step"]
Mode = Literal["<=", "<", "in"]

_MODES = {"<=": "BRANCH_LEQ", "<": "BRANCH_LT", "in": "BRANCH_EQ"}


@dataclass(frozen=True, slots=True)
class Split:
    """An inner node: which way a sample goes.

    Attributes:
        feature: The column.
        mode: What is asked of it: ``x <= value``, ``x < value``, or one of ``values``.
        value: The threshold, in the precision of the library.
        yes: Index of the node where the answer is true.
        no: Index of the node where it is false.
        missing: Whether NaN counts as a true answer.
        values: The categories of ``in``.
        void: A value that takes the way of NaN; None where there is none.
    """

    feature: int
    mode: Mode
    value: float
    yes: int
    no: int
    missing: bool
    values: tuple[float, ...] = ()
    void: float | None = None


@dataclass(frozen=True, slots=True)
class Leaf:
    """The end of a way: what it adds, one value for each target in ``targets``."""

    weights: tuple[float, ...]
    targets: tuple[int, ...] = (0,)


Tree = Sequence[Split | Leaf]
"""Nodes, the root first; :class:`Split` names others by their index."""


@dataclass(frozen=True)
class Forest:
    """Trees whose leaves are summed.

    Attributes:
        trees: The trees.
        base: What each target starts from, before the link.
        link: What is done to the sums.
        labels: The classes, integers or text, where the model is a classifier.
        double: Whether features are float64; otherwise float32.
    """

    trees: Sequence[Tree]
    base: tuple[float, ...]
    link: Link = "identity"
    labels: np.ndarray | None = None
    double: bool = False


@dataclass(frozen=True)
class Node:
    """One ONNX node, free of any library's way to write it."""

    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, object]
    domain: str = ""


def floor32(value: float) -> float:
    """Return the largest float32 that is at most ``value``.

    For any float32 ``x``, ``x <= value`` holds exactly where ``x <= floor32(value)`` does.
    """
    with np.errstate(over="ignore"):
        near = np.float32(value)
    if float(near) > value:
        near = np.nextafter(near, np.float32(-math.inf))
    return float(near)


class Columns:
    """The columns of ONNX's tree operators, filled node by node."""

    def __init__(self, *, double: bool) -> None:
        self.double = double
        self.nodes: dict[str, list[int | float | str]] = {
            key: []
            for key in (
                "treeids",
                "nodeids",
                "featureids",
                "modes",
                "values",
                "truenodeids",
                "falsenodeids",
                "missing_value_tracks_true",
            )
        }
        self.leaves: dict[str, list[int | float]] = {
            key: [] for key in ("treeids", "nodeids", "ids", "weights")
        }
        self.trees = 0

    def add(self, tree: Tree) -> None:
        """Append a tree."""
        extra = len(tree)
        for index, node in enumerate(tree):
            if isinstance(node, Leaf):
                self._node(index, 0, "LEAF", 0.0, 0, 0, missing=False)
                for target, weight in zip(node.targets, node.weights, strict=True):
                    leaf = (self.trees, index, target, weight)
                    for column, value in zip(self.leaves.values(), leaf, strict=True):
                        column.append(value)
                continue
            steps = self._steps(node)
            # The first question stands at the node's own index; the rest follow the tree.
            places = [index, *range(extra, extra + len(steps) - 1)]
            extra += len(steps) - 1
            for number, (mode, value, yes, missing) in enumerate(steps):
                no = places[number + 1] if number + 1 < len(steps) else node.no
                self._node(places[number], node.feature, mode, value, yes, no, missing=missing)
        self.trees += 1

    def _steps(self, node: Split) -> list[tuple[str, float, int, bool]]:
        """Return a split as questions, each asked where those before it are answered with no."""
        steps = []
        if node.void is not None:
            way = node.yes if node.missing else node.no
            # NaN equals nothing: it goes on to the next question, which knows its way.
            steps.append(("BRANCH_EQ", node.void, way, False))
        if node.mode == "in":
            # Of no categories, none is met: both ways are the same one.
            cases = [(value, node.yes) for value in node.values] or [(0.0, node.no)]
            steps += [("BRANCH_EQ", value, way, node.missing) for value, way in cases]
        else:
            value = node.value
            if node.mode == "<=" and not self.double:
                value = floor32(value)
            steps.append((_MODES[node.mode], value, node.yes, node.missing))
        return steps

    def _node(
        self, index: int, feature: int, mode: str, value: float, yes: int, no: int, *, missing: bool
    ) -> None:
        numbers = (yes, no, int(missing))
        row: list[int | float | str] = [self.trees, index, feature, mode, value, *numbers]
        for column, item in zip(self.nodes.values(), row, strict=True):
            column.append(item)

    def attributes(self, leaf_prefix: str) -> dict[str, object]:
        """Return the attributes of the operator whose leaf columns start with ``leaf_prefix``."""
        import onnx

        attributes: dict[str, object] = {f"nodes_{k}": list(v) for k, v in self.nodes.items()}
        attributes |= {f"{leaf_prefix}_{k}": list(v) for k, v in self.leaves.items()}
        if self.double:
            for key in ("nodes_values", f"{leaf_prefix}_weights"):
                array = np.asarray(attributes.pop(key), np.float64)
                attributes[f"{key}_as_tensor"] = onnx.numpy_helper.from_array(array, key)
        return attributes


def build(forest: Forest, source: str, outputs: Sequence[str], prefix: str) -> list[Node]:
    """Return the nodes that compute a forest.

    Args:
        forest: The forest.
        source: Name of the features, ``[batch, n_features]``.
        outputs: Names of the results: ``[label, probabilities]`` for a classifier, of which the
            label is ``[batch]`` and the probabilities ``[batch, n_classes]``; one name else, whose
            shape is ``[batch, n_targets]``.
        prefix: Starts the names of values in between, unique in the graph.
    """
    columns = Columns(double=forest.double)
    for tree in forest.trees:
        columns.add(tree)
    if forest.labels is None:
        return _regressor(forest, columns, source, outputs[0], prefix)
    whole = forest.link in ("sigmoid", "softmax") and not (
        forest.link == "sigmoid" and len(forest.base) > 1
    )
    if whole:
        return [_classifier(forest, columns, source, outputs)]
    return _stepwise_classifier(forest, columns, source, outputs, prefix)


def _base(forest: Forest) -> dict[str, object]:
    if not any(forest.base):
        return {}
    if forest.double:
        import onnx

        array = np.asarray(forest.base, np.float64)
        return {"base_values_as_tensor": onnx.numpy_helper.from_array(array, "base_values")}
    return {"base_values": [float(value) for value in forest.base]}


def _ensemble(forest: Forest, columns: Columns, source: str, output: str) -> Node:
    attributes = columns.attributes("target") | _base(forest)
    attributes["n_targets"] = len(forest.base)
    return Node("TreeEnsembleRegressor", (source,), (output,), attributes, "ai.onnx.ml")


def _regressor(
    forest: Forest, columns: Columns, source: str, output: str, prefix: str
) -> list[Node]:
    if forest.link == "identity":
        return [_ensemble(forest, columns, source, output)]
    raw = f"{prefix}_raw"
    return [_ensemble(forest, columns, source, raw), *_link(forest.link, raw, output, prefix)]


def _link(link: Link, source: str, output: str, prefix: str) -> list[Node]:
    if link == "signed-square":
        size = f"{prefix}_size"
        return [
            Node("Abs", (source,), (size,), {}),
            Node("Mul", (source, size), (output,), {}),
        ]
    if link == "step":
        zero, above = f"{prefix}_zero", f"{prefix}_above"
        return [
            Node("Constant", (), (zero,), {"value_float": 0.0}),
            Node("Greater", (source, zero), (above,), {}),
            Node("Cast", (above,), (output,), {"to": 1}),
        ]
    operators = {"sigmoid": "Sigmoid", "exp": "Exp", "softplus": "Softplus", "softmax": "Softmax"}
    attributes: dict[str, object] = {"axis": -1} if link == "softmax" else {}
    return [Node(operators[link], (source,), (output,), attributes)]


def _classifier(forest: Forest, columns: Columns, source: str, outputs: Sequence[str]) -> Node:
    """Return the one node that gives labels and probabilities."""
    assert forest.labels is not None
    base = list(forest.base)
    if len(base) == 1 and all(weight >= 0 for weight in columns.leaves["weights"]):
        # ONNX Runtime takes sums of weights that are all positive for probabilities, whatever
        # the post-transform; a tree that adds -1, and 1 to start from, changes nothing else.
        columns.add((Leaf((-1.0,)),))
        base[0] += 1.0
    started = Forest(forest.trees, tuple(base), forest.link, forest.labels, forest.double)
    attributes = columns.attributes("class") | _base(started)
    attributes["post_transform"] = "LOGISTIC" if forest.link == "sigmoid" else "SOFTMAX"
    attributes |= _labels("classlabels", forest.labels)
    return Node("TreeEnsembleClassifier", (source,), tuple(outputs), attributes, "ai.onnx.ml")


def _labels(name: str, labels: np.ndarray) -> dict[str, object]:
    if labels.dtype.kind in "OU":
        return {f"{name}_strings": [str(label) for label in labels]}
    return {f"{name}_int64s": [int(label) for label in labels]}


def _stepwise_classifier(
    forest: Forest, columns: Columns, source: str, outputs: Sequence[str], prefix: str
) -> list[Node]:
    """Return nodes for what no post-transform does: one sigmoid a class, or a step."""
    assert forest.labels is not None
    raw, one, other = f"{prefix}_raw", f"{prefix}_one", f"{prefix}_other"
    index, table = f"{prefix}_index", f"{prefix}_labels"
    nodes = [_ensemble(forest, columns, source, raw)]
    if len(forest.base) == 1:
        positive = f"{prefix}_positive"
        nodes += [
            *_link(forest.link, raw, positive, prefix),
            Node("Constant", (), (one,), {"value_float": 1.0}),
            Node("Sub", (one, positive), (other,), {}),
            Node("Concat", (other, positive), (outputs[1],), {"axis": 1}),
        ]
    else:
        nodes += _link(forest.link, raw, outputs[1], prefix)
    kind = "strings" if forest.labels.dtype.kind in "OU" else "ints"
    values = [str(v) if kind == "strings" else int(v) for v in forest.labels]
    return [
        *nodes,
        Node("ArgMax", (outputs[1],), (index,), {"axis": 1, "keepdims": 0}),
        Node("Constant", (), (table,), {f"value_{kind}": values}),
        Node("Gather", (table, index), (outputs[0],), {}),
    ]
