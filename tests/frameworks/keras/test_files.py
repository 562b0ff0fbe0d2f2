"""Keras' files: whole models, weights, files of Keras 2, and hostile ones."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from keras import layers

from onnxsmith.errors import SmithError

Any_ = Callable[..., Any]
BUILDER = """
import keras
from keras import layers

def build():
    return keras.Sequential([layers.Input((4,), name="x"), layers.Dense(3, activation="tanh")])
"""


@pytest.fixture
def model() -> Any:
    keras.utils.clear_session()
    keras.utils.set_random_seed(3)
    return keras.Sequential([layers.Input((4,), name="x"), layers.Dense(3, activation="tanh")])


def random(*sizes: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).standard_normal(sizes).astype(np.float32)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_whole_models(
    model: Any, tmp_path: Path, open_source: Any_, parity: Any_, suffix: str
) -> None:
    path = tmp_path / f"model{suffix}"
    model.save(path)
    source = open_source(path)
    x = random(6, 4)
    _, worst = parity(source, {"x": x})
    assert worst <= 1e-5
    (given,) = source.reference({"x": x}).values()
    np.testing.assert_allclose(given, model.predict(x, verbose=0), rtol=1e-6)


@pytest.mark.parametrize("name", ["w.weights.h5", "w.h5", "w.keras"])
def test_weights_go_into_a_callable(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: Any_, name: str
) -> None:
    path = tmp_path / name
    model.save_weights(path) if name.startswith("w.weights") else model.save(path)
    (tmp_path / "keras_builder.py").write_text(BUILDER)
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "model.onnx"
    done = run_cli("convert", "keras_builder:build", "-o", out, "--weights", path)
    assert done.code == 0, done.err
    from onnxsmith.artifact import Artifact
    from onnxsmith.runtime.session import Session

    x = random(5, 4)
    with Session(Artifact.load(out)) as session:
        (found,) = session.run({"x": x}).values()
    np.testing.assert_allclose(found, model.predict(x, verbose=0), rtol=1e-5, atol=1e-6)


def test_weights_alone_are_no_model(model: Any, tmp_path: Path, open_source: Any_) -> None:
    path = tmp_path / "only.weights.h5"
    model.save_weights(path)
    with pytest.raises(SmithError, match="holds weights only") as caught:
        open_source(path)
    assert "module:callable --weights" in caught.value.hint


def test_a_lambda_needs_trust(tmp_path: Path, open_source: Any_, parity: Any_) -> None:
    path = tmp_path / "lambda.keras"
    keras.Sequential([layers.Input((4,), name="x"), layers.Lambda(lambda x: x * 3)]).save(path)
    with pytest.raises(SmithError, match="holds the Lambda layer 'lambda") as caught:
        open_source(path)
    assert "--trust" in caught.value.hint
    _, worst = parity(open_source(path, trust=True), {"x": random(2, 4)})
    assert worst <= 1e-6


def test_a_class_of_the_users_own_is_named(tmp_path: Path, open_source: Any_) -> None:
    class Mine(layers.Layer):
        def call(self, x: Any) -> Any:
            return x + 1

    path = tmp_path / "mine.keras"
    keras.Sequential([layers.Input((4,)), Mine()]).save(path)
    with pytest.raises(SmithError, match="Mine") as caught:
        open_source(path)
    assert "module:callable" in caught.value.hint


def as_keras_2(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Make a file of Keras 3 say what Keras 2 said of the same model."""
    with h5py.File(path, "r+") as content:
        config = json.loads(content.attrs["model_config"])
        for layer in config["config"]["layers"]:
            layer.pop("module", None)
            layer.pop("registered_name", None)
            layer["config"].pop("dtype", None)
            layer["config"].pop("batch_shape", None)
            change(layer)
        content.attrs["model_config"] = json.dumps(config)
        content.attrs["keras_version"] = "2.11.0"


def test_keras_2_had_another_hard_sigmoid(tmp_path: Path, open_source: Any_, parity: Any_) -> None:
    keras.utils.clear_session()
    model = keras.Sequential(
        [layers.Input((4,), name="x"), layers.Dense(3, activation="hard_sigmoid")]
    )
    path = tmp_path / "old.h5"
    model.save(path)

    def change(layer: dict[str, Any]) -> None:
        if layer["class_name"] == "InputLayer":
            layer["config"]["batch_input_shape"] = [None, 4]
            layer["config"].pop("optional", None)
        else:
            layer["config"].pop("quantization_config", None)

    as_keras_2(path, change)
    source = open_source(path)
    x = 3 * random(6, 4)
    kernel, bias = model.get_weights()
    (found,) = source.reference({source.described.inputs[0].name: x}).values()
    np.testing.assert_allclose(found, np.clip(0.2 * (x @ kernel + bias) + 0.5, 0, 1), atol=1e-6)
    _, worst = parity(source, {source.described.inputs[0].name: x})
    assert worst <= 1e-6


def test_an_option_that_keras_3_cannot_follow_is_named(tmp_path: Path, open_source: Any_) -> None:
    path = tmp_path / "old.h5"
    keras.Sequential([
        layers.Input((8, 8, 2)), layers.DepthwiseConv2D(3, name="deep")
    ]).save(path)  # fmt: skip

    def change(layer: dict[str, Any]) -> None:
        if layer["class_name"] == "InputLayer":
            layer["config"]["batch_input_shape"] = [None, 8, 8, 2]
        else:
            layer["config"]["groups"] = 2

    as_keras_2(path, change)
    with pytest.raises(SmithError, match="the layer 'deep' has groups=2"):
        open_source(path)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_truncated_files_are_refused(
    model: Any, tmp_path: Path, open_source: Any_, suffix: str
) -> None:
    path = tmp_path / f"model{suffix}"
    model.save(path)
    whole = path.read_bytes()
    for length in [*range(0, 64, 7), *np.linspace(64, len(whole) - 1, 25).astype(int)]:
        path.write_bytes(whole[:length])
        with pytest.raises(SmithError):
            open_source(path)


def test_hostile_archives_are_refused(model: Any, tmp_path: Path, open_source: Any_) -> None:
    path = tmp_path / "model.keras"

    def add(name: str, data: bytes, method: int = zipfile.ZIP_STORED) -> None:
        model.save(path)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(name, data, method)

    for name in ("../escaped", "/etc/escaped", "a\\..\\b"):
        add(name, b"x")
        with pytest.raises(SmithError, match="leads out of it"):
            open_source(path)
    add("bomb", bytes(200 << 20), zipfile.ZIP_DEFLATED)
    with pytest.raises(SmithError, match="'bomb' of 209715200 bytes"):
        open_source(path)
    with pytest.warns(UserWarning, match="Duplicate name"):
        add("config.json", b"{}")
    with pytest.raises(SmithError, match="holds a member twice"):
        open_source(path)
    assert not (tmp_path.parent / "escaped").exists()


def test_hostile_hdf5_files_are_refused(model: Any, tmp_path: Path, open_source: Any_) -> None:
    path = tmp_path / "model.h5"

    def changed(change: Callable[[h5py.File], object]) -> Path:
        model.save(path)
        with h5py.File(path, "r+") as content:
            change(content)
        return path

    def link(content: h5py.File) -> None:
        content["model_weights/away"] = h5py.ExternalLink("/etc/passwd", "/")

    def lie(content: h5py.File) -> None:
        content.create_dataset("model_weights/huge", (1 << 40,), "f4", chunks=(1 << 20,))

    def external(content: h5py.File) -> None:
        content.create_dataset(
            "model_weights/outside", (16,), "u1", external=[("/etc/passwd", 0, 16)]
        )

    with pytest.raises(SmithError, match="holds the link 'away'"):
        open_source(changed(link))
    with pytest.raises(SmithError, match="claims 4398046511104 bytes for 'huge'"):
        open_source(changed(lie))
    with pytest.raises(SmithError, match="keeps the values of 'outside' in another file"):
        open_source(changed(external))
