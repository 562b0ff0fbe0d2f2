"""What Silero's voice activity detector hears in recordings."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from onnxsmith.artifact import Artifact
from onnxsmith.runtime.session import Session

Array = np.ndarray[Any, Any]


def speech(material: Path, name: str) -> Array:
    """Return a recording as numbers from -1 to 1, 16,000 a second."""
    with wave.open(str(material / "real" / "datasets" / "speech_samples" / name)) as file:
        assert (file.getframerate(), file.getnchannels()) == (16000, 1)
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    return samples.astype(np.float32) / 32768


def chunks(audio: Array) -> Iterator[Array]:
    """Cut audio into windows of 512 samples, each with the 64 before it."""
    context = np.zeros(64, np.float32)
    for start in range(0, len(audio) - 511, 512):
        window = np.concatenate([context, audio[start : start + 512]])
        context = window[-64:]
        yield window[None]


def listen(artifact: Artifact, audio: Array) -> Iterator[tuple[dict[str, Array], float]]:
    """Yield what the model is fed with window after window, and the probability of speech."""
    dtype = np.float16 if artifact.spec.input("input").dtype == "float16" else np.float32
    state = np.zeros((2, 1, 128), dtype)
    with Session(artifact, threads=1) as session:
        for window in chunks(audio):
            feeds = {"input": window.astype(dtype), "state": state}
            if any(value.name == "sr" for value in session.spec.inputs):
                feeds["sr"] = np.array(16000, np.int64)
            outputs = list(session.run(feeds).values())
            state = outputs[1].astype(dtype)
            yield feeds, float(outputs[0].squeeze())


def probabilities(artifact: Artifact, audio: Array) -> Array:
    """Return the probability of speech in each window."""
    return np.array([probability for _, probability in listen(artifact, audio)])
