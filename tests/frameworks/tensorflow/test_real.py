"""Trained models of others: keyword spotting as SavedModel and as nine frozen graphs."""

from __future__ import annotations

import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from onnxsmith.artifact import Artifact
from onnxsmith.pipeline.frontends.convert import convert
from onnxsmith.runtime.session import Session

pytestmark = pytest.mark.real
GRAPHS = (
    "Basic_LSTM_S", "CNN_S", "CRNN_S", "DNN_S", "DS_CNN_L", "DS_CNN_M", "DS_CNN_S", "GRU_S",
    "LSTM_S",
)  # fmt: skip
RATE = 16000


def samples(path: Path) -> np.ndarray[Any, Any] | None:
    """Return a second of a 16-bit file as TensorFlow decodes it; None for other files."""
    try:
        with wave.open(str(path)) as file:
            if (file.getframerate(), file.getsampwidth()) != (RATE, 2):
                return None
            data = np.frombuffer(file.readframes(file.getnframes()), "<i2")
            first = data.reshape(-1, file.getnchannels())[:, :1]
    except wave.Error:
        return None
    found = np.zeros((RATE, 1), np.float32)
    found[: len(first)] = first[:RATE] / 32768.0
    return found


def test_keyword_spotting_keeps_its_accuracy(material: Path) -> None:
    result = convert(material / "real/models/tensorflow/mlperf_tiny_kws_savedmodel")
    assert max(d.max_rel for d in result.parity) < 1e-6
    assert len(list(result.artifact.model.graph)) <= 24
    data = np.load(material / "real/datasets/kws01_mlperf_tiny/kws01.npz")
    features = (data["x"].astype(np.float32) - 83) * 0.5847029089927673
    with Session(result.artifact) as session:
        (scores,) = session.run({"input_1": features}).values()
    # Its TFLite siblings, whose weights have 8 bits, reach 90.1 and 90.2 %.
    assert float((scores.argmax(1) == data["y"]).mean()) == 0.913


@pytest.mark.parametrize("name", GRAPHS)
def test_frozen_graphs_give_the_labels_that_tensorflow_gives(
    material: Path, name: str, open_source: Callable[..., Any], tmp_path: Path
) -> None:
    path = material / f"real/models/tensorflow/ml_kws_frozen/{name}.pb"
    source = open_source(path)
    export = source.export(tmp_path)
    graph_def = tf.compat.v1.GraphDef()
    graph_def.ParseFromString(path.read_bytes())
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
    labels = (path.parent / "labels.txt").read_text().split()
    right = heard = 0
    with (
        tf.compat.v1.Session(graph=graph) as original,
        Session(Artifact.load(export.path)) as session,
    ):
        for file in sorted((material / "real/datasets/speech_samples").glob("*.wav")):
            audio = samples(file)
            if audio is None:
                continue
            expected = original.run("labels_softmax:0", {"wav_data:0": file.read_bytes()})
            (found,) = session.run({"decoded_sample_data": audio}).values()
            np.testing.assert_allclose(found, expected, atol=1e-4)
            assert found.argmax() == expected.argmax()
            heard += 1
            right += labels[int(found.argmax())] == file.stem.split("_")[0]
    assert heard == 42
    assert right >= 7
