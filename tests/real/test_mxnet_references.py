"""MXNet's symbols become models that compute what MXNet computed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from onnxsmith.pipeline.data import open_data
from onnxsmith.pipeline.evaluation import evaluate
from onnxsmith.pipeline.frontends.convert import convert
from onnxsmith.pipeline.frontends.mxnet.params import read_params
from onnxsmith.runtime.session import Session

# Each was run once in MXNet; the weights are random.
REFERENCES = (
    "densenet_thin",
    "legacy_ops",
    "lenet",
    "lstm",
    "lstm_states",
    "lstm_unrolled",
    "mobilenet0.25",
    "resnet18_thin",
)


@pytest.mark.parametrize("name", REFERENCES)
def test_references_are_met_to_1e_5(material: Path, name: str) -> None:
    path = material / "reference" / "mxnet" / name
    recorded = dict(np.load(f"{path}.npz"))
    feeds = {key[3:]: array for key, array in recorded.items() if key.startswith("in_")}
    expected = [array for key, array in recorded.items() if key.startswith("out_")]
    inputs = [
        f"{name}:{array.dtype}[{','.join(map(str, array.shape))}]" for name, array in feeds.items()
    ]
    with Session(convert(f"{path}-symbol.json", inputs=inputs).artifact, optimize=False) as session:
        outputs = list(session.run(feeds).values())  # the recordings number them
    assert expected
    for found, array in zip(outputs, expected, strict=True):
        error = np.abs(found.reshape(array.shape) - array).max() / np.abs(array).max()
        assert error <= 1e-5


def test_the_trained_digit_network_scores_99_03_percent(
    material: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    symbol = material / "real" / "models" / "mxnet" / "mnist_cnn" / "mnist-symbol.json"
    artifact = convert(symbol, inputs=["data:float32[batch,1,28,28]"]).artifact
    monkeypatch.chdir(material)
    folder = os.path.join("real", "datasets", "mnist")
    with Session(artifact) as session:
        data = open_data(f"mnist:{folder}?split=test&scale=1/255", session.spec)
        found = evaluate(session, data, ["accuracy"]).metrics["accuracy"]
    assert round(found, 4) == 0.9903


def test_sparse_arrays_are_filled_with_zeros(material: Path) -> None:
    folder = material / "reference" / "mxnet"
    expected = np.load(folder / "fmt_expect.npz")["sparse"]
    arrays = read_params(folder / "fmt_sparse.params").arrays
    assert arrays
    for array in arrays:
        assert array is not None
        np.testing.assert_array_equal(array.numpy(), expected)
