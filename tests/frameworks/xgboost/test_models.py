"""XGBoost's models come in with its own answers, at the thresholds of float32 too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost as xgb
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.frontends.convert import convert
from onnxsmith.runtime.session import Session

RNG = np.random.default_rng(0)
X = (RNG.normal(size=(300, 5)) * 3).astype(np.float32)
X[:, 4] = RNG.integers(0, 6, 300)
X[:, :4][RNG.random((300, 4)) < 0.1] = np.nan
Z = np.nan_to_num(X)
BINARY = (Z[:, 0] + Z[:, 1] + 2 * (Z[:, 4] % 2) > 0).astype(int)
CLASSES = BINARY + (Z[:, 2] > 0)
TARGET = Z[:, 0] ** 2 + np.abs(Z[:, 3]) + 5
SMALL: dict[str, Any] = {"n_estimators": 8, "max_depth": 3}


def outputs_of(model: Any, rows: np.ndarray, **options: Any) -> dict[str, np.ndarray]:
    """Convert with the comparison on, and run the result."""
    result = convert(model, **options)
    assert result.parity
    with Session(result.artifact, optimize=False) as session:
        return session.run({result.artifact.spec.inputs[0].name: rows})


def thresholds(booster: xgb.Booster) -> np.ndarray:
    """Return rows that hold each threshold, and the float32 values just below and above it."""
    table = booster.trees_to_dataframe()
    table = table[table["Split"].notna()]
    rows = []
    for feature, value in zip(table["Feature"], table["Split"], strict=True):
        mark = np.float32(value)
        for near in (np.nextafter(mark, np.float32(-np.inf)), mark, np.nextafter(mark, np.inf)):
            row = Z[len(rows) % len(Z)].copy()
            row[int(feature[1:])] = near
            rows.append(row)
    return np.array(rows, np.float32)


@pytest.mark.parametrize(
    ("options", "target"),
    [
        ({}, BINARY),
        ({}, CLASSES),
        ({"base_score": 0.2}, BINARY),
        ({"booster": "dart", "rate_drop": 0.5}, BINARY),
        ({"booster": "dart", "rate_drop": 0.5}, CLASSES),
        ({"objective": "binary:hinge"}, BINARY),
        ({"objective": "multi:softmax"}, CLASSES),
    ],
)
def test_classifiers(options: dict[str, Any], target: np.ndarray) -> None:
    model = xgb.XGBClassifier(**SMALL, **options).fit(X, target)
    rows = np.concatenate([X, thresholds(model.get_booster())])
    found = outputs_of(model, rows)
    assert found["label"].tolist() == model.predict(rows).tolist()
    np.testing.assert_allclose(found["probabilities"], model.predict_proba(rows), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "target"),
    [
        ({}, TARGET),
        ({"base_score": 100.0}, TARGET),
        ({"objective": "reg:absoluteerror"}, TARGET),
        ({"objective": "reg:gamma"}, TARGET),
        ({"objective": "count:poisson", "base_score": 3.0}, TARGET),
        ({"objective": "reg:tweedie"}, TARGET),
        ({"objective": "reg:logistic"}, BINARY * 0.8 + 0.1),
        ({"objective": "reg:quantileerror", "quantile_alpha": [0.2, 0.8]}, TARGET),
        ({"booster": "dart", "rate_drop": 0.5}, TARGET),
        ({}, np.stack([TARGET, 2 * TARGET, -TARGET], 1)),
        ({"multi_strategy": "multi_output_tree"}, np.stack([TARGET, 2 * TARGET], 1)),
    ],
)
def test_regressors(options: dict[str, Any], target: np.ndarray) -> None:
    model = xgb.XGBRegressor(**SMALL, **options).fit(X, target)
    found = outputs_of(model, X)["variable"]
    np.testing.assert_allclose(found, model.predict(X).reshape(len(X), -1), rtol=1e-5, atol=1e-5)


def test_forests_and_rankers() -> None:
    forest = xgb.XGBRFRegressor(**SMALL).fit(X, TARGET)
    ranker = xgb.XGBRanker(**SMALL).fit(X, CLASSES, qid=np.repeat(np.arange(30), 10))
    for model in (forest, ranker):
        found = outputs_of(model, X)["variable"][:, 0]
        np.testing.assert_allclose(found, model.predict(X), rtol=1e-5, atol=1e-5)


def test_another_mark_of_missing_values() -> None:
    holed = np.where(np.isnan(X), np.float32(-999.0), X)
    model = xgb.XGBRegressor(missing=-999.0, **SMALL).fit(holed, TARGET)
    found = outputs_of(model, holed)["variable"][:, 0]
    np.testing.assert_allclose(found, model.predict(holed), rtol=1e-5)


@pytest.mark.parametrize("to_onehot", [1, 100], ids=["sets", "one"])
def test_categories(to_onehot: int) -> None:
    model = xgb.XGBRegressor(
        enable_categorical=True,
        feature_types=["q", "q", "q", "q", "c"],
        max_cat_to_onehot=to_onehot,
        **SMALL,
    ).fit(X, TARGET + 10 * (Z[:, 4] % 2))
    rows = X.copy()
    rows[::7, 4] = np.nan
    found = outputs_of(model, rows)["variable"][:, 0]
    np.testing.assert_allclose(found, model.predict(rows), rtol=1e-5, atol=1e-5)


def test_early_stopping_keeps_the_best_rounds() -> None:
    model = xgb.XGBRegressor(n_estimators=60, max_depth=6, early_stopping_rounds=3, eta=0.9)
    noise = TARGET + RNG.normal(size=300) * 20
    model.fit(X[:150], noise[:150], eval_set=[(X[150:], noise[150:])], verbose=False)
    rounds = model.get_booster().num_boosted_rounds()
    assert model.best_iteration + 1 < rounds
    result = convert(model)
    assert result.artifact.history[0].result["trees"] == model.best_iteration + 1
    np.testing.assert_allclose(
        outputs_of(model, X)["variable"][:, 0], model.predict(X), rtol=1e-5, atol=1e-5
    )
    told = convert(model.get_booster()).warnings
    assert any("training stopped early" in line for line in told)


@pytest.mark.parametrize("suffix", ["json", "ubj"])
def test_files(tmp_path: Path, suffix: str) -> None:
    model = xgb.XGBClassifier(**SMALL).fit(X, CLASSES)
    path = tmp_path / f"model.{suffix}"
    model.save_model(path)
    result = convert(str(path))
    assert result.frontend == "xgboost"
    with Session(result.artifact, optimize=False) as session:
        found = session.run({"input": X})
    np.testing.assert_allclose(found["probabilities"], model.predict_proba(X), atol=1e-5)


def test_a_pipeline_that_ends_in_a_booster() -> None:
    model = make_pipeline(StandardScaler(), xgb.XGBClassifier(**SMALL)).fit(Z, CLASSES)
    result = convert(model)
    assert result.frontend == "sklearn"
    assert {line.output for line in result.parity} == {"label", "probabilities"}
    domains = {node.domain for node in result.artifact.to_proto().graph.node}
    assert domains <= {"", "ai.onnx.ml"}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: xgb.XGBClassifier(), "XGBClassifier is not fitted"),
        (
            lambda: xgb.XGBRegressor(booster="gblinear", n_estimators=2).fit(Z, TARGET),
            "linear booster",
        ),
        (
            lambda: xgb.XGBClassifier(**SMALL).fit(Z, np.stack([BINARY, 1 - BINARY], 1)),
            "several targets",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:.*gblinear:UserWarning")
def test_refusals(model: Any, message: str) -> None:
    with pytest.raises(SmithError, match=message):
        convert(model())


def test_other_inputs_are_refused() -> None:
    model = xgb.XGBRegressor(**SMALL).fit(X, TARGET)
    with pytest.raises(UsageError, match="takes 5 features, not 6"):
        convert(model, inputs=("x:float32[batch,6]",))


@pytest.mark.parametrize(("suffix", "share"), [("json", 0.5), ("ubj", 0.5), ("ubj", 0.9)])
def test_damaged_files_are_errors(tmp_path: Path, suffix: str, share: float) -> None:
    """XGBoost ends its process on some of them: the worker's end is an error like others."""
    path = tmp_path / f"model.{suffix}"
    xgb.XGBRegressor(n_estimators=1, max_depth=1).fit(X, TARGET).save_model(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(SmithError):
        convert(str(path))


def test_trees_with_circles_end_in_an_error(tmp_path: Path) -> None:
    path = tmp_path / "circle.json"
    xgb.XGBRegressor(n_estimators=1, max_depth=1).fit(X, TARGET).save_model(path)
    document = json.loads(path.read_text("utf-8"))
    tree = document["learner"]["gradient_booster"]["model"]["trees"][0]
    tree["left_children"][0] = 0
    path.write_text(json.dumps(document), "utf-8")
    with pytest.raises(SmithError):
        convert(str(path))
