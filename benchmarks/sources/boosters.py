"""Fitted models of the boosting libraries, each imported where it is used."""

from typing import Any

from sources.estimators import X, Y


def xgboost() -> Any:
    """Return a classifier of XGBoost with fifty rounds."""
    from xgboost import XGBClassifier

    return XGBClassifier(n_estimators=50, max_depth=4).fit(X, Y)


def lightgbm() -> Any:
    """Return a classifier of LightGBM with fifty rounds."""
    from lightgbm import LGBMClassifier

    return LGBMClassifier(n_estimators=50, max_depth=4, verbose=-1).fit(X, Y)


def catboost() -> Any:
    """Return a classifier of CatBoost with fifty rounds."""
    from catboost import CatBoostClassifier

    return CatBoostClassifier(50, depth=4, verbose=False, allow_writing_files=False).fit(X, Y)
