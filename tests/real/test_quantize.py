"""Trained models of others, quantized: the budget holds on real data."""

import os
from pathlib import Path

import pytest

from onnxsmith.artifact import Artifact
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
