"""scikit-learn estimators come in with plain tensors and a named batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.frontends.convert import convert
from onnxsmith.runtime.session import Session

RNG = np.random.default_rng(0)
X = RNG.normal(size=(150, 6)) * 3
Y = (X[:, 0] + X[:, 1] * X[:, 2] > 0).astype(int) + (X[:, 3] > 0)


@pytest.mark.parametrize(
    "estimator",
    [
        MLPClassifier((8,), max_iter=3000, random_state=0).fit(X, Y),
        LogisticRegression().fit(X, np.array(["no", "maybe", "yes"])[Y]),
        make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y),
        RandomForestClassifier(8, random_state=0).fit(X, Y),
    ],
    ids=["mlp", "text-labels", "pipeline", "forest"],
)
def test_classifiers_give_labels_and_a_tensor_of_probabilities(estimator: Any) -> None:
    result = convert(estimator)
    spec = result.artifact.spec
    assert spec.input("input").shape == ("batch", 6)
    assert spec.output("probabilities").shape == ("batch", 3)
    assert result.warnings == ()
    assert {d.output for d in result.parity} == {"label", "probabilities"}
    inputs = X.astype(np.float32)
    with Session(result.artifact, optimize=False) as session:
        outputs = session.run({"input": inputs})
    assert list(outputs["label"]) == list(estimator.predict(inputs))
    np.testing.assert_allclose(outputs["probabilities"], estimator.predict_proba(inputs), atol=1e-5)


@pytest.mark.parametrize(
    ("estimator", "output"),
    [
        (Ridge().fit(X, Y), "variable"),
        (StandardScaler().fit(X), "variable"),
        (KMeans(3, n_init=1, random_state=0).fit(X), "scores"),
    ],
    ids=["regressor", "transformer", "clusterer"],
)
def test_other_estimators_are_compared_too(estimator: Any, output: str) -> None:
    result = convert(estimator)
    assert output in {difference.output for difference in result.parity}
    assert result.warnings == ()


def test_opsets_are_asked_for_and_stand_once() -> None:
    result = convert(RandomForestClassifier(2).fit(X, Y), opset=15)
    assert dict(result.artifact.model.opset_imports) == {"": 15, "ai.onnx.ml": 1}
    assert result.artifact.model.ir_version == 10
    domains = [entry.domain for entry in result.artifact.to_proto().opset_import]
    assert len(domains) == len(set(domains))


def test_the_input_may_be_named() -> None:
    result = convert(Ridge().fit(X, Y), inputs=("features:float32[samples,6]",))
    assert result.artifact.spec.input("features").shape == ("samples", 6)
    assert result.artifact.spec.outputs[0].shape == ("samples", 1)


def test_an_estimator_that_was_not_fitted_is_named() -> None:
    with pytest.raises(SmithError, match="Ridge of 'Ridge' is not fitted"):
        convert(Ridge())


def test_two_inputs_are_refused() -> None:
    with pytest.raises(UsageError, match="one input"):
        convert(Ridge().fit(X, Y), inputs=("a:float32[n,3]", "b:float32[n,3]"))


def test_a_pickle_needs_trust(tmp_path: Path) -> None:
    joblib.dump(Ridge().fit(X, Y), tmp_path / "ridge.joblib")
    with pytest.raises(SmithError, match="runs code when it is loaded") as caught:
        convert(tmp_path / "ridge.joblib")
    assert "--trust" in caught.value.hint
    assert convert(tmp_path / "ridge.joblib", trust=True).parity[0].ok


def test_a_damaged_pickle_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad.pkl").write_bytes(b"\x80\x04no pickle")
    for text in (b"\x80\x04no pickle", b"", b"\x08not one"):
        (tmp_path / "bad.pkl").write_bytes(text)
        with pytest.raises(SmithError, match="is no pickle of a model, or it is damaged") as caught:
            convert(tmp_path / "bad.pkl", trust=True)
        assert not caught.value.output


def test_a_pickle_of_a_class_that_is_gone_names_it(tmp_path: Path) -> None:
    (tmp_path / "gone.pkl").write_bytes(b"cno_such_module\nModel\n.")
    with pytest.raises(SmithError, match=r"loading .* failed: .*no_such_module"):
        convert(tmp_path / "gone.pkl", trust=True)


def test_a_callable_is_exported_in_a_worker(project: Path) -> None:
    result = convert("estimators:mlp", dims={"batch": 4})
    assert result.frontend == "sklearn"
    assert result.artifact.history[0].options["source"] == "estimators:mlp"
    assert result.parity[0].ok


def test_the_same_source_gives_the_same_bytes(project: Path, tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        convert("estimators:mlp").artifact.save(tmp_path / name)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
