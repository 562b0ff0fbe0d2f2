"""Faults of skl2onnx 1.20, mended while it converts and put back afterwards.

1. HistGradientBoosting writes booleans into a field of integers, which protobuf 7 refuses
   ("Expected an int, got a boolean"); it rounds thresholds to the nearest float32, knows no
   categorical splits and drops the exponent of log-linked losses. Ours takes its place.
2. Trees forget which way missing values go (``missing_go_to_left``).
3. XGBoost, LightGBM and CatBoost are unknown to it as steps of a pipeline.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

from skl2onnx import _parse, _supported_operators, update_registered_converter
from skl2onnx.common import _registration, tree_ensemble
from skl2onnx.common.data_types import (
    DoubleTensorType,
    FloatTensorType,
    Int64TensorType,
    StringTensorType,
)
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.feature_extraction.text import CountVectorizer

from onnxsmith.pipeline.frontends.sklearn.hist import hist_forest
from onnxsmith.pipeline.frontends.sklearn.structure import final_step, walk
from onnxsmith.pipeline.frontends.tabular.adopt import library_of
from onnxsmith.pipeline.frontends.tabular.forest import Forest, build

_HIST = (HistGradientBoostingClassifier, HistGradientBoostingRegressor)
_TREE_MODULES = (
    "skl2onnx.common.tree_ensemble",
    "skl2onnx.operator_converters.decision_tree",
    "skl2onnx.operator_converters.random_forest",
    "skl2onnx.operator_converters.gradient_boosting",
    "skl2onnx.operator_converters.isolation_forest",
)
_USUAL_WORDS = r"(?u)\b\w\w+\b"
_USUAL_WORDS_RE2 = r"[\p{L}\p{N}_]{2,}"
_ADD_TREE = "add_tree_to_attribute_pairs"


@contextlib.contextmanager
def mended(estimator: Any) -> Iterator[None]:
    """Let skl2onnx convert ``estimator`` with the faults mended; its tables are put back."""
    tables: list[dict[Any, Any]] = [
        _registration._converter_pool,
        _registration._shape_calculator_pool,
        _supported_operators.sklearn_operator_name_map,
        _parse.sklearn_parsers_map,
    ]
    kept = [dict(table) for table in tables]
    modules = [importlib.import_module(name) for name in _TREE_MODULES]
    original = tree_ensemble.add_tree_to_attribute_pairs
    try:
        for _, part in walk(estimator):
            if isinstance(part, _HIST) or library_of(part) in ("xgboost", "lightgbm", "catboost"):
                _register(type(part))
        for module in modules:
            setattr(module, _ADD_TREE, _add_tree)
        yield
    finally:
        for table, copy in zip(tables, kept, strict=True):
            table.clear()
            table.update(copy)
        for module in modules:
            setattr(module, _ADD_TREE, original)


def conversion_options(estimator: Any) -> dict[int, dict[str, Any]]:
    """Return skl2onnx's options for the parts of an estimator; asked for while it is mended.

    Probabilities become plain tensors: the default, a list of maps, runs on no accelerator. Words
    become those that scikit-learn sees: the default splits at letters beyond ASCII, and keeps
    words of one letter, which then stand in pairs of words.
    """
    options: dict[int, dict[str, Any]] = {}
    for _, part in walk(estimator):
        if isinstance(part, CountVectorizer) and _has_usual_words(part):
            options[id(part)] = {"tokenexp": _USUAL_WORDS_RE2}
    final = final_step(estimator)
    alias = _supported_operators.sklearn_operator_name_map.get(type(final), "")
    converter = _registration._converter_pool.get(alias)
    if converter is not None and "zipmap" in (converter.get_allowed_options() or {}):
        options[id(final)] = {"zipmap": False}
    return options


def _has_usual_words(part: Any) -> bool:
    usual = part.tokenizer is None and part.token_pattern == _USUAL_WORDS
    return usual and part.analyzer == "word"


def _add_tree(
    attr_pairs: dict[str, list[Any]],
    is_classifier: bool,
    tree: Any,
    tree_id: int,
    tree_weight: float,
    weight_id_bias: int,
    leaf_weights_are_counts: bool,
    adjust_threshold_for_sklearn: bool = False,
    dtype: Any = None,
) -> None:
    """Add a tree as skl2onnx does, and say which way its missing values go."""
    before = len(attr_pairs["nodes_treeids"])
    _ORIGINAL_ADD_TREE(
        attr_pairs,
        is_classifier,
        tree,
        tree_id,
        tree_weight,
        weight_id_bias,
        leaf_weights_are_counts,
        adjust_threshold_for_sklearn,
        dtype,
    )
    ways = getattr(tree, "missing_go_to_left", None)
    if ways is not None:
        attr_pairs["nodes_missing_value_tracks_true"][before:] = [int(way) for way in ways]


_ORIGINAL_ADD_TREE = tree_ensemble.add_tree_to_attribute_pairs


def _register(kind: type) -> None:
    alias = f"Forest{kind.__module__.partition('.')[0]}{kind.__name__}"
    classifier = hasattr(kind, "predict_proba")
    options = {"zipmap": [True, False, "columns"], "nocl": [True, False]} if classifier else None
    update_registered_converter(kind, alias, _shapes, _convert, options=options)


def booster_forest(estimator: Any, *, double: bool = False) -> Forest | None:
    """Return a booster of XGBoost, LightGBM or CatBoost as a forest; None for any other."""
    library = library_of(estimator)
    if library == "xgboost":
        from onnxsmith.pipeline.frontends.xgboost.source import read_model

        return read_model(estimator)[0]
    if library == "lightgbm":
        from onnxsmith.pipeline.frontends.lightgbm.source import read_model as read_lightgbm

        return read_lightgbm(estimator, double=double)
    if library == "catboost":
        from onnxsmith.pipeline.frontends.catboost.source import read_forest

        return read_forest(estimator)
    return None


def _forest(estimator: Any, *, double: bool) -> Forest:
    return booster_forest(estimator, double=double) or hist_forest(estimator, double=double)


def _shapes(operator: Any) -> None:
    """Set the types of the outputs of a forest, as skl2onnx asks for it."""
    batch = operator.inputs[0].type.shape[0]
    forest = _forest(operator.raw_operator, double=False)
    if forest.labels is None:
        operator.outputs[0].type = FloatTensorType([batch, len(forest.base)])
        return
    text = forest.labels.dtype.kind in "OU"
    operator.outputs[0].type = (StringTensorType if text else Int64TensorType)([batch])
    operator.outputs[1].type = FloatTensorType([batch, len(forest.labels)])


def _convert(scope: Any, operator: Any, container: Any) -> None:
    """Write a forest into the graph that skl2onnx builds."""
    estimator, source = operator.raw_operator, operator.inputs[0]
    name = source.full_name
    double = isinstance(source.type, DoubleTensorType)
    if not isinstance(source.type, (FloatTensorType, DoubleTensorType)) or (
        double and library_of(estimator) in ("xgboost", "catboost")
    ):
        name, double = scope.get_unique_variable_name("features"), False
        container.add_node("Cast", source.full_name, name, to=1)
    prefix = scope.get_unique_variable_name("trees")
    outputs = [value.full_name for value in operator.outputs]
    for node in build(_forest(estimator, double=double), name, outputs, prefix):
        container.add_node(
            node.op_type,
            list(node.inputs),
            list(node.outputs),
            op_domain=node.domain,
            op_version=3 if node.domain else None,
            name=scope.get_unique_operator_name(node.op_type),
            **node.attributes,
        )
