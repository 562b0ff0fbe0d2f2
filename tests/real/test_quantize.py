"""Trained models of others, quantized: the budget holds on real data."""

import os
from pathlib import Path

import pytest
from tests.real.hearing import listen, probabilities, speech

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.quantization.quantize_static import QuantizeStatic
from onnxsmith.pipeline.quantization.request import QuantizeRequest
from onnxsmith.pipeline.quantization.run import quantize

ROOT = Path(__file__).resolve().parents[2]
MATERIAL = Path(os.environ.get("ONNXSMITH_MATERIAL", ROOT.parent / "shared")) / "real"


@pytest.mark.parametrize("mode", ["dynamic", "static"])
def test_mnist_loses_at_most_half_a_point(mode):
    """The model is of opset 8: a scale for each channel needs a newer one."""
    artifact = Artifact.load(MATERIAL / "models/onnx/mnist-8/mnist.onnx")
    data = f"mnist:{MATERIAL / 'datasets/mnist'}"
    result = quantize(
        artifact,
        QuantizeRequest(
            mode=mode,
            data=f"{data}?split=train&limit=256",
            eval_data=f"{data}?split=test",
            max_drop=0.005,
        ),
    )
    assert result.before is not None
    assert result.after is not None
    assert result.before.metrics["accuracy"] == pytest.approx(0.9891, abs=2e-4)


WORDS = ("right", "left", "up", "down", "seven", "happy", "house", "tree", "go", "off")


def test_silero_hears_speech_in_int8(material: Path) -> None:
    """Its layers are in the branches of an If, one for each rate of samples."""
    path = material / "real/models/onnx/silero_vad/silero_vad.onnx"
    artifact = Artifact.load(path)
    recordings = [speech(material, f"{word}.wav") for word in WORDS]
    feeds = [feed for audio in recordings for feed, _ in listen(artifact, audio)]
    context = PassContext(samples=lambda: iter(feeds))
    found = QuantizeStatic().apply(artifact.clone().model, context)
    assert found.details["quantized"] >= 12
    reasons = [entry["reason"] for entry in found.details["left_float"]]
    assert any("never computed on the calibration data" in words for words in reasons)
    quantized = Artifact(found.model)
    assert probabilities(quantized, speech(material, "yes_1000ms.wav")).max() > 0.99
    assert probabilities(quantized, speech(material, "stop.wav")).max() > 0.99
    for quiet in ("noise_1000ms.wav", "silence_1000ms.wav"):
        assert probabilities(quantized, speech(material, quiet)).max() < 0.15
