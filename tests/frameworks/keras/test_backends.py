"""Models whose code runs under the backends torch and jax."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

NETS = """
import keras
from keras import layers

def recurrent():
    steps = layers.Input((None, 6), name="steps")
    hidden = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(steps)
    mean = layers.GlobalAveragePooling1D()(hidden)
    return keras.Model(steps, layers.Dense(2, name="score")(mean))

class Own(layers.Layer):
    def call(self, x):
        return keras.ops.relu(x) * 2

def unsaved():
    x = layers.Input((6,), name="x")
    return keras.Model(x, layers.Dense(3, name="y")(Own()(x)))
"""


@pytest.mark.parametrize("backend", ["torch", "jax"])
@pytest.mark.parametrize("name", ["recurrent", "unsaved"])
def test_models_of_other_backends_are_compared_with_themselves(
    tmp_path: Path, backend: str, name: str
) -> None:
    (tmp_path / "other_nets.py").write_text(NETS)
    done = subprocess.run(
        [sys.executable, "-m", "onnxsmith", "convert", f"other_nets:{name}", "-o", "model.onnx"],
        cwd=tmp_path,
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "model.onnx").exists()
