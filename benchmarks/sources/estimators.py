"""Fitted estimators of scikit-learn and of the boosting libraries."""

from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

_GENERATOR = np.random.default_rng(0)
X = _GENERATOR.normal(size=(400, 20)).astype(np.float32)
Y = (X[:, 0] + X[:, 1] ** 2 > 0.5).astype(int) + (X[:, 2] > 1)


def logistic() -> Any:
    """Return a scaled logistic regression of three classes."""
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y)


def forest() -> Any:
    """Return a random forest of fifty trees."""
    return RandomForestClassifier(50, max_depth=8, random_state=0).fit(X, Y)


def histogram() -> Any:
    """Return a regression by histogram boosting."""
    return HistGradientBoostingRegressor(max_iter=50, random_state=0).fit(X, X[:, 0] * X[:, 1])
