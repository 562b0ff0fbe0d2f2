"""CatBoost's models come in with its own answers, at the borders too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import catboost as cb
import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.convert import convert
from onnxsmith.runtime.session import Session

RNG = np.random.default_rng(0)
X = (RNG.normal(size=(300, 5)) * 3).astype(np.float32)
X[RNG.random(X.shape) < 0.1] = np.nan
Z = np.nan_to_num(X)
BINARY = (Z[:, 0] + Z[:, 1] > 0).astype(int)
CLASSES = BINARY + (Z[:, 2] > 0)
TARGET = Z[:, 0] ** 2 + np.abs(Z[:, 3]) + 5
SMALL: dict[str, Any] = {
    "iterations": 8,
    "depth": 3,
    "verbose": False,
    "allow_writing_files": False,
    "thread_count": 1,
}


def outputs_of(model: Any, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Convert with the comparison on, and run the result."""
    result = convert(model)
    assert result.parity
    with Session(result.artifact, optimize=False) as session:
        return session.run({"input": rows})


def at_borders(model: Any) -> np.ndarray:
    """Return rows that hold each border, and the float32 values just below and above it."""
    rows = []
    for feature, borders in model.get_borders().items():
        for border in borders:
            if abs(border) > 1e38:  # the border between missing values and others
                continue
            mark = np.float32(border)
            for near in (np.nextafter(mark, np.float32(-np.inf)), mark, np.nextafter(mark, np.inf)):
                row = Z[len(rows) % len(Z)].copy()
                row[int(feature)] = near
                rows.append(row)
    return np.array(rows, np.float32)


@pytest.mark.parametrize(
    ("options", "target"),
    [
        ({}, BINARY),
        ({}, CLASSES),
        ({"loss_function": "MultiClassOneVsAll"}, CLASSES),
        ({}, np.array(["x", "y", "z"])[CLASSES]),
        ({}, np.array(["x", "y"])[BINARY]),
        ({"grow_policy": "Lossguide"}, BINARY),
        ({"nan_mode": "Max"}, BINARY),
    ],
)
def test_classifiers(options: dict[str, Any], target: np.ndarray) -> None:
    model = cb.CatBoostClassifier(**SMALL, **options).fit(X, target)
    rows = np.concatenate([X, at_borders(model)])
    found = outputs_of(model, rows)
    assert list(found["label"]) == list(np.ravel(model.predict(rows)))
    np.testing.assert_allclose(found["probabilities"], model.predict_proba(rows), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "target"),
    [
        ({}, TARGET),
        ({"loss_function": "MAE"}, TARGET),
        ({"loss_function": "Poisson"}, TARGET),
        ({"loss_function": "Tweedie:variance_power=1.5"}, TARGET),
        ({"loss_function": "MultiRMSE"}, np.stack([TARGET, -TARGET], 1)),
        ({"grow_policy": "Depthwise"}, TARGET),
    ],
)
def test_regressors(options: dict[str, Any], target: np.ndarray) -> None:
    model = cb.CatBoostRegressor(**SMALL, **options).fit(X, target)
    rows = np.concatenate([X, at_borders(model)])
    expected = np.asarray(model.predict(rows)).reshape(len(rows), -1)
    np.testing.assert_allclose(outputs_of(model, rows)["variable"], expected, rtol=1e-5, atol=1e-5)


def test_a_ranker() -> None:
    model = cb.CatBoostRanker(**SMALL).fit(X, CLASSES, group_id=np.repeat(np.arange(30), 10))
    found = outputs_of(model, X)["variable"][:, 0]
    np.testing.assert_allclose(found, model.predict(X), rtol=1e-5, atol=1e-5)


def test_early_stopping_keeps_the_best_rounds() -> None:
    noise = TARGET + RNG.normal(size=300) * 20
    model = cb.CatBoostRegressor(**{**SMALL, "iterations": 80}, learning_rate=0.9)
    model.fit(X[:150], noise[:150], eval_set=(X[150:], noise[150:]), early_stopping_rounds=5)
    assert model.tree_count_ < 80
    found = outputs_of(model, X)["variable"][:, 0]
    np.testing.assert_allclose(found, model.predict(X), rtol=1e-5, atol=1e-5)


def test_a_file(tmp_path: Path) -> None:
    model = cb.CatBoostClassifier(**SMALL).fit(X, CLASSES)
    path = tmp_path / "model.cbm"
    model.save_model(str(path))
    result = convert(str(path))
    assert result.frontend == "catboost"
    with Session(result.artifact, optimize=False) as session:
        found = session.run({"input": X})
    np.testing.assert_allclose(found["probabilities"], model.predict_proba(X), atol=1e-5)


def test_a_pipeline_that_ends_in_a_booster() -> None:
    model = make_pipeline(StandardScaler(), cb.CatBoostRegressor(**SMALL)).fit(Z, TARGET)
    result = convert(model)
    assert result.frontend == "sklearn"
    assert result.parity


def test_refusals() -> None:
    with pytest.raises(SmithError, match="CatBoostRegressor is not fitted"):
        convert(cb.CatBoostRegressor())
    table = Z.astype(object)
    table[:, 4] = np.where(Z[:, 4] > 0, "a", "b")
    model = cb.CatBoostClassifier(cat_features=[4], **SMALL).fit(table, table[:, 4] == "a")
    with pytest.raises(SmithError, match="categorical features"):
        convert(model)


def test_damaged_files_are_errors(tmp_path: Path) -> None:
    from onnxsmith.pipeline.frontends.catboost.source import load_file

    path = tmp_path / "model.cbm"
    cb.CatBoostRegressor(**{**SMALL, "iterations": 1}).fit(X, TARGET).save_model(str(path))
    data = path.read_bytes()
    for end in range(0, len(data) - 1, max(len(data) // 40, 1)):
        path.write_bytes(data[:end])
        with pytest.raises(SmithError, match="CatBoost cannot read"):
            load_file(path)
