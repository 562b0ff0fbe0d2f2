"""LightGBM's models come in with its own answers, at the thresholds too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.frontends.convert import convert
from onnxsmith.runtime.session import Session

pytestmark = pytest.mark.filterwarnings("ignore:X does not have valid feature names:UserWarning")

RNG = np.random.default_rng(0)
X = (RNG.normal(size=(300, 5)) * 3).astype(np.float32)
X[:, 4] = RNG.integers(0, 6, 300)
X[:, :4][RNG.random((300, 4)) < 0.1] = np.nan
X[:, 3][RNG.random(300) < 0.2] = 0.0
Z = np.nan_to_num(X)
BINARY = (Z[:, 0] + Z[:, 1] + 2 * (Z[:, 4] % 2) > 0).astype(int)
CLASSES = BINARY + (Z[:, 2] > 0)
TARGET = Z[:, 0] ** 2 + np.abs(Z[:, 3]) + 5
SMALL: dict[str, Any] = {"n_estimators": 8, "num_leaves": 8, "verbose": -1, "num_threads": 1}
BAGGED: dict[str, Any] = {"boosting_type": "rf", "bagging_freq": 1, "bagging_fraction": 0.7}


def outputs_of(model: Any, rows: np.ndarray, **options: Any) -> dict[str, np.ndarray]:
    """Convert with the comparison on, and run the result."""
    result = convert(model, **options)
    assert result.parity
    with Session(result.artifact, optimize=False) as session:
        return session.run({result.artifact.spec.inputs[0].name: rows})


def thresholds(booster: lgb.Booster) -> np.ndarray:
    """Return rows with the float32 values around each threshold, which is a float64."""
    rows = []
    table = booster.trees_to_dataframe()
    table = table[table["decision_type"] == "<="]
    for feature, value in zip(table["split_feature"], table["threshold"], strict=True):
        mark = np.float32(value)
        for side in (-np.inf, mark, np.inf):
            near = np.nextafter(mark, np.float32(side))
            row = Z[len(rows) % len(Z)].copy()
            # LightGBM takes what is below 1e-35 for 0, and has thresholds there.
            row[int(feature.rpartition("_")[2])] = near if abs(near) > 1e-30 else 0.0
            rows.append(row)
    return np.array(rows, np.float32)


@pytest.mark.parametrize(
    ("options", "target"),
    [
        ({}, BINARY),
        ({}, CLASSES),
        ({}, np.array(["x", "y", "z"])[CLASSES]),
        ({"objective": "multiclassova"}, CLASSES),
        ({"boosting_type": "dart"}, BINARY),
        (BAGGED, BINARY),
        (BAGGED, CLASSES),
        ({"zero_as_missing": True}, BINARY),
        ({"use_missing": False}, BINARY),
        ({"sigmoid": 2.0}, BINARY),
    ],
)
def test_classifiers(options: dict[str, Any], target: np.ndarray) -> None:
    model = lgb.LGBMClassifier(**SMALL, **options).fit(X, target)
    rows = np.concatenate([X, thresholds(model.booster_)])
    found = outputs_of(model, rows)
    assert list(found["label"]) == list(model.predict(rows))
    np.testing.assert_allclose(found["probabilities"], model.predict_proba(rows), atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"objective": name}
        for name in ("regression", "regression_l1", "huber", "poisson", "quantile", "gamma")
    ]
    + [{"objective": "tweedie"}, {"reg_sqrt": True}, BAGGED, {"boosting_type": "dart"}],
)
def test_regressors(options: dict[str, Any]) -> None:
    model = lgb.LGBMRegressor(**SMALL, **options).fit(X, TARGET)
    rows = np.concatenate([X, thresholds(model.booster_)])
    found = outputs_of(model, rows)["variable"][:, 0]
    np.testing.assert_allclose(found, model.predict(rows), rtol=1e-5, atol=1e-5)


def test_a_ranker() -> None:
    model = lgb.LGBMRanker(**SMALL).fit(X, CLASSES, group=[10] * 30)
    found = outputs_of(model, X)["variable"][:, 0]
    np.testing.assert_allclose(found, model.predict(X), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("target", [BINARY, CLASSES], ids=["two", "three"])
def test_categories_and_missing_ones(target: np.ndarray) -> None:
    model = lgb.LGBMClassifier(min_data_per_group=5, **SMALL)
    model.fit(X, target, categorical_feature=[4])
    rows = X.copy()
    rows[::5, 4] = np.nan
    rows[1::5, 4] = 77.0
    rows[2::5, 4] = -1.0
    found = outputs_of(model, rows)["probabilities"]
    np.testing.assert_allclose(found, model.predict_proba(rows), atol=1e-5)


def test_features_in_float64() -> None:
    model = lgb.LGBMRegressor(**SMALL).fit(X, TARGET)
    rows = thresholds(model.booster_).astype(np.float64)
    found = outputs_of(model, rows, inputs=("input:float64[batch,5]",))["variable"][:, 0]
    np.testing.assert_allclose(found, model.predict(rows), rtol=1e-5, atol=1e-5)


def test_early_stopping_keeps_the_best_rounds() -> None:
    noise = TARGET + RNG.normal(size=300) * 20
    model = lgb.LGBMRegressor(**{**SMALL, "n_estimators": 80}, learning_rate=0.5)
    model.fit(
        X[:150],
        noise[:150],
        eval_X=X[150:],
        eval_y=noise[150:],
        callbacks=[lgb.early_stopping(3, verbose=False)],
    )
    assert model.best_iteration_ < 80
    found = outputs_of(model, X)["variable"][:, 0]
    np.testing.assert_allclose(found, model.predict(X), rtol=1e-5, atol=1e-5)


def test_a_file(tmp_path: Path) -> None:
    model = lgb.LGBMClassifier(**SMALL).fit(X, CLASSES)
    path = tmp_path / "model.txt"
    model.booster_.save_model(path)
    result = convert(str(path))
    assert result.frontend == "lightgbm"
    with Session(result.artifact, optimize=False) as session:
        found = session.run({"input": X})
    np.testing.assert_allclose(found["probabilities"], model.predict_proba(X), atol=1e-5)


def test_a_pipeline_that_ends_in_a_booster() -> None:
    model = make_pipeline(StandardScaler(), lgb.LGBMClassifier(**SMALL)).fit(Z, CLASSES)
    result = convert(model)
    assert result.frontend == "sklearn"
    assert {line.output for line in result.parity} == {"label", "probabilities"}


def test_refusals() -> None:
    with pytest.raises(SmithError, match="LGBMRegressor is not fitted"):
        convert(lgb.LGBMRegressor())
    linear = lgb.LGBMRegressor(linear_tree=True, **SMALL).fit(Z, TARGET)
    with pytest.raises(SmithError, match="linear models") as caught:
        convert(linear)
    assert "linear_tree" in caught.value.hint
    model = lgb.LGBMRegressor(**SMALL).fit(X, TARGET)
    with pytest.raises(UsageError, match="takes 5 features, not 6"):
        convert(model, inputs=("x:float32[batch,6]",))


def test_a_file_of_something_else_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "model.txt"
    path.write_text("tree\nversion=v4\nnum_class=1\n", "utf-8")
    with pytest.raises(SmithError, match="LightGBM"):
        convert(str(path))
