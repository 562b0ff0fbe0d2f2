"""What a fitted estimator tells about the columns that it takes: kinds, and values that matter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.pipeline import FeatureUnion, Pipeline

from onnxsmith.pipeline.frontends.sklearn.hist import hist_forest
from onnxsmith.pipeline.frontends.sklearn.structure import walk
from onnxsmith.pipeline.frontends.tabular.forest import Forest
from onnxsmith.pipeline.frontends.tabular.table import Column, forest_columns

# Fitted attributes with one value a feature, or one row of features a center.
_ROWS = (
    "cluster_centers_",
    "support_vectors_",
    "_fit_X",
    "X_train_",
    "means_",
    "theta_",
    "quantiles_",
    "data_min_",
    "data_max_",
    "statistics_",
    "centroids_",
)
_MOST_ROWS = 64
_WORDS = 12


@dataclass
class Known:
    """What is known of one column.

    Attributes:
        marks: Numbers that matter: thresholds, categories, centers.
        texts: The texts that it may hold; they make it a column of text.
        only: Whether no other numbers are meant.
        missing: Whether missing values have a meaning.
        words: Words that its texts are made of.
    """

    marks: list[float] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    only: bool = False
    missing: bool = False

    @property
    def is_text(self) -> bool:
        """Whether the column holds text."""
        return bool(self.texts or self.words)

    def column(self) -> Column:
        """Return the numbers, for rows to be drawn from."""
        return Column(np.asarray(self.marks, np.float64), self.only)


def know_columns(estimator: Any, count: int) -> list[Known]:
    """Return what is known of each of ``count`` columns, from the steps that take them first."""
    known = [Known() for _ in range(count)]
    for part, numbers in _first_steps(estimator, list(range(count))):
        _read(part, [known[number] for number in numbers])
    return known


def _first_steps(estimator: Any, numbers: list[int]) -> Iterator[tuple[Any, list[int]]]:
    """Yield the estimators that columns meet first, with the columns' numbers."""
    if isinstance(estimator, Pipeline):
        yield from _first_steps(estimator.steps[0][1], numbers)
    elif isinstance(estimator, FeatureUnion):
        for _, part in estimator.transformer_list:
            yield from _first_steps(part, numbers)
    elif isinstance(estimator, ColumnTransformer):
        for _, part, columns in estimator.transformers_:
            if not isinstance(part, str):
                yield from _first_steps(part, [numbers[column] for column in columns])
    else:
        yield estimator, numbers
        inner = [part for path, part in walk(estimator) if path]
        if inner and getattr(inner[0], "n_features_in_", None) == len(numbers):
            for part in [i for i in inner if getattr(i, "n_features_in_", None) == len(numbers)][
                :8
            ]:
                yield from _first_steps(part, numbers)


def _read(part: Any, columns: list[Known]) -> None:
    _read_categories(part, columns)
    _read_trees(part, columns)
    for attribute in _ROWS:
        _read_rows(getattr(part, attribute, None), columns)
    _read_scales(part, columns)
    _read_weights(part, columns)
    vocabulary = getattr(part, "vocabulary_", None)
    if isinstance(vocabulary, dict) and columns:
        columns[0].words = [str(word) for word in list(vocabulary)[:200]]
    if isinstance(part, (SimpleImputer, KNNImputer)):
        _read_missing(part.missing_values, columns)
    if part.__sklearn_tags__().input_tags.positive_only:
        for known in columns:
            known.marks = [abs(mark) for mark in known.marks] or [0.0, 1.0, 2.0, 5.0]
            known.only = True


def _read_trees(part: Any, columns: list[Known]) -> None:
    forest, tree = _forest(part), getattr(part, "tree_", None)
    if forest is not None:
        for number, column in forest_columns(forest).items():
            columns[number].marks += column.marks.tolist()
            columns[number].only |= column.only
    elif tree is not None:
        for number, threshold in zip(tree.feature, tree.threshold, strict=True):
            if number >= 0:
                columns[number].marks.append(float(threshold))
    if forest is not None or tree is not None:
        takes = forest is not None or part.__sklearn_tags__().input_tags.allow_nan
        for known in columns:
            known.missing = bool(takes)


def _read_missing(value: Any, columns: list[Known]) -> None:
    """Note what an imputer replaces."""
    if isinstance(value, float) and np.isnan(value):
        for known in columns:
            known.missing = True
    elif isinstance(value, str):
        for known in columns:
            known.texts.append(value)
    elif isinstance(value, (int, float)):
        for known in columns:
            known.marks.append(float(value))


def _forest(part: Any) -> Forest | None:
    if isinstance(part, (HistGradientBoostingClassifier, HistGradientBoostingRegressor)):
        return hist_forest(part)
    from onnxsmith.pipeline.frontends.sklearn.mends import booster_forest

    return booster_forest(part)


def _read_categories(part: Any, columns: list[Known]) -> None:
    categories = getattr(part, "categories_", None)
    if not isinstance(categories, list) or len(categories) != len(columns):
        counts = getattr(part, "n_categories_", None)
        if counts is not None and len(counts) == len(columns):  # CategoricalNB
            for known, count in zip(columns, counts, strict=True):
                known.marks, known.only = [float(i) for i in range(count)], True
        return
    for known, values in zip(columns, categories, strict=True):
        array = np.asarray(values)
        if array.dtype.kind in "OUS":
            known.texts = [str(v) for v in array if isinstance(v, str)] or [""]
        else:
            known.marks = [float(v) for v in array if not np.isnan(float(v))]
            known.only = True


def _read_rows(value: Any, columns: list[Known]) -> None:
    if value is None or not hasattr(value, "shape"):
        return
    array = np.asarray(value.toarray() if hasattr(value, "toarray") else value)
    if array.dtype.kind == "O" and array.shape == (len(columns),):
        for known, text in zip(columns, array, strict=True):  # SimpleImputer of text
            if isinstance(text, str):
                known.texts.append(text)
        return
    array = np.atleast_2d(array)
    if array.ndim != 2 or array.shape[1] != len(columns) or array.dtype.kind not in "fiu":
        return
    for known, marks in zip(columns, array[:_MOST_ROWS].T, strict=True):
        known.marks += [float(mark) for mark in marks if np.isfinite(mark)]


def _read_scales(part: Any, columns: list[Known]) -> None:
    centers = getattr(part, "mean_", getattr(part, "center_", None))
    scales = getattr(part, "scale_", None)
    if not isinstance(centers, np.ndarray) or centers.shape != (len(columns),):
        return
    if not isinstance(scales, np.ndarray) or scales.shape != centers.shape:
        scales = np.ones_like(centers)
    for known, center, scale in zip(columns, centers, scales, strict=True):
        known.marks += [float(center + step * scale) for step in (-2, -1, 0, 1, 2)]
    edges = getattr(part, "bin_edges_", None)
    for known, marks in zip(columns, edges if edges is not None else (), strict=False):
        known.marks += [float(mark) for mark in marks]


def _read_weights(part: Any, columns: list[Known]) -> None:
    """Note features near which a linear model decides: far away all probabilities are 0 or 1."""
    weights, offsets = getattr(part, "coef_", None), getattr(part, "intercept_", 0.0)
    if not isinstance(weights, np.ndarray) or weights.dtype.kind != "f":
        return
    weights = np.atleast_2d(weights)
    if weights.shape[1] != len(columns) or any(known.marks for known in columns):
        return
    row = weights[np.argmax(np.abs(weights).sum(axis=1))]
    length = float(row @ row)
    if not length:
        return
    offset = float(np.ravel(offsets)[0]) if np.size(offsets) else 0.0
    sizes = np.abs(weights).max(axis=0)
    for known, center, size in zip(columns, -offset * row / length, sizes, strict=True):
        reach = 2.0 / max(float(size) * len(columns) ** 0.5, float(sizes.max()) * 1e-3)
        known.marks += [float(center + step * reach) for step in (-1.0, -0.5, 0.0, 0.5, 1.0)]


def sentence(known: Known, generator: np.random.Generator) -> str:
    """Return a text of the column: one that it knows, or some of its words."""
    if known.texts:
        return str(generator.choice(known.texts))
    words = generator.choice(known.words, int(generator.integers(1, _WORDS)))
    return " ".join([*words, "unheard"] if generator.random() < 0.3 else words)
