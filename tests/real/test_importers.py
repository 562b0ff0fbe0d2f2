"""Caffe's and MXNet's files become models that compute what those frameworks computed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.pipeline.data import open_data
from onnxsmith.pipeline.evaluation import evaluate
from onnxsmith.pipeline.frontends.convert import convert
from onnxsmith.runtime.session import Session

# Each was run once in OpenCV or MXNet; the weights are random.
CAFFE = ("cifar10_full", "legacy_v1", "lenet", "mobilenet_v1_025", "resnet18_thin", "ssd_mini_head")
MXNET = (
    "densenet_thin",
    "legacy_ops",
    "lenet",
    "lstm",
    "lstm_states",
    "lstm_unrolled",
    "mobilenet0.25",
    "resnet18_thin",
)


def assert_recorded_outputs(artifact: Artifact, recorded: dict[str, np.ndarray[Any, Any]]) -> None:
    feeds = {name[3:]: array for name, array in recorded.items() if name.startswith("in_")}
    with Session(artifact, optimize=False) as session:
        outputs = session.run(feeds)
    expected = {name[4:]: array for name, array in recorded.items() if name.startswith("out_")}
    assert expected
    for number, (name, array) in enumerate(expected.items()):
        # MXNet's recordings number the outputs, Caffe's name them.
        found = outputs[name] if name in outputs else list(outputs.values())[number]
        error = np.abs(found.reshape(array.shape) - array).max() / np.abs(array).max()
        assert error <= 1e-5, name


@pytest.mark.parametrize("name", CAFFE)
def test_caffe_networks_give_the_recorded_outputs(material: Path, name: str) -> None:
    path = material / "reference" / "caffe" / name
    recorded = dict(np.load(f"{path}.npz"))
    assert_recorded_outputs(convert(f"{path}.prototxt").artifact, recorded)


@pytest.mark.parametrize("name", MXNET)
def test_mxnet_symbols_give_the_recorded_outputs(material: Path, name: str) -> None:
    path = material / "reference" / "mxnet" / name
    recorded = dict(np.load(f"{path}.npz"))
    inputs = [
        f"{key[3:]}:{array.dtype}[{','.join(map(str, array.shape))}]"
        for key, array in recorded.items()
        if key.startswith("in_")
    ]
    assert_recorded_outputs(convert(f"{path}-symbol.json", inputs=inputs).artifact, recorded)


def test_trained_digit_networks_keep_their_accuracy(
    material: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = material / "real" / "models"
    lenet = models / "caffe" / "lenet_mnist"
    caffe = convert(lenet / "lenet_deploy.prototxt", weights=lenet / "lenet_iter_10000.caffemodel")
    mxnet = convert(
        models / "mxnet" / "mnist_cnn" / "mnist-symbol.json",
        inputs=["data:float32[batch,1,28,28]"],
    )
    monkeypatch.chdir(material)
    folder = os.path.join("real", "datasets", "mnist")
    for artifact, scale, accuracy in ((caffe, "1/256", 0.9909), (mxnet, "1/255", 0.9903)):
        with Session(artifact.artifact) as session:
            data = open_data(f"mnist:{folder}?split=test&scale={scale}", session.spec)
            found = evaluate(session, data, ["accuracy"]).metrics["accuracy"]
        assert round(found, 4) == accuracy


@pytest.mark.parametrize(("caffe", "onnx"), [("RFB-320", "RFB-320"), ("slim-320", "slim-320")])
def test_ultraface_from_caffe_equals_its_onnx_sibling(
    material: Path, caffe: str, onnx: str
) -> None:
    models = material / "real" / "models"
    ours = convert(models / "caffe" / "ultraface" / f"{caffe}.prototxt").artifact
    sibling = Artifact.load(
        models / "onnx" / "ultraface" / f"version-{onnx}_without_postprocessing.onnx"
    )
    image = np.random.default_rng(0).uniform(-1, 1, (1, 3, 240, 320)).astype(np.float32)
    with Session(ours, optimize=False) as session:
        found = session.run({session.spec.inputs[0].name: image})
    with Session(sibling, optimize=False) as session:
        expected = session.run({session.spec.inputs[0].name: image})
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, atol=1e-4 * np.abs(array).max(), rtol=0)
