"""Rows on which an estimator and its ONNX model may be compared.

A pipeline computes in float64 and its ONNX model in float32, so a scaled feature may fall on the
other side of a threshold, a bin's edge or a tie between neighbors, if it lies within a rounding
error of it. Such rows say nothing about the conversion. They are found by a change of the
features in their last digits: where that changes the estimator's own result by more than
rounding does, the row is left out. Trees on the features themselves are exact in both, so their
rows stay, those on thresholds first of all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import FeatureUnion, Pipeline

Arrays = dict[str, np.ndarray]

_JUMP = 1e-3
_FEWEST = 8


def stable_rows(
    examples: Arrays,
    nudged: Callable[[Arrays, float], Arrays],
    run: Callable[[Mapping[str, np.ndarray]], Arrays],
    estimator: Any,
) -> Arrays:
    """Return the examples without the rows on which the estimator itself jumps.

    Args:
        examples: The rows.
        nudged: Changes them by rounding errors, in the direction of the sign given.
        run: Gives the estimator's results.
        estimator: The estimator.

    All are returned where the batch is fixed, or hardly any would be left.
    """
    expected = run(examples)
    if _is_exact(estimator):
        return examples
    count = len(next(iter(examples.values())))
    stable = np.ones(count, bool)
    for sign in (1.0, -1.0):
        for name, found in run(nudged(examples, sign)).items():
            if len(found) == count:
                stable &= ~_jumps(expected[name], found).reshape(count, -1).any(axis=1)
    if stable.all() or stable.sum() < _FEWEST:
        return examples
    # As many rows as before, for the sizes asked for stand for rows.
    chosen = np.resize(np.flatnonzero(stable), count)
    return {name: array[chosen] for name, array in examples.items()}


def _jumps(expected: np.ndarray, found: np.ndarray) -> np.ndarray:
    if expected.dtype.kind != "f":
        return np.asarray(expected != found)
    finite = np.isfinite(expected)
    scale = float(np.abs(expected[finite]).max()) if finite.any() else 1.0
    return np.asarray(np.abs(np.where(finite, found - expected, 0.0)) > _JUMP * scale)


def _is_exact(estimator: Any) -> bool:
    """Return whether features meet trees with nothing in between."""
    if isinstance(estimator, (Pipeline, FeatureUnion, ColumnTransformer)):
        return False
    return any(
        hasattr(estimator, name) for name in ("tree_", "_predictors", "_Booster", "booster_")
    )
