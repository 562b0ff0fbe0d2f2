"""Trained models of others, fine-tuned: they keep or raise their accuracy."""

import os
from pathlib import Path

from onnxsmith.artifact import Artifact
from onnxsmith.pipeline.frontends.convert import convert
from onnxsmith.pipeline.training.request import TrainRequest
from onnxsmith.pipeline.training.train import train

ROOT = Path(__file__).resolve().parents[2]
MATERIAL = Path(os.environ.get("ONNXSMITH_MATERIAL", ROOT.parent / "shared")) / "real"


def tuned(artifact: Artifact, query: str, rate: float) -> float:
    """Return the test accuracy after one epoch of MNIST."""
    data = f"mnist:{MATERIAL / 'datasets/mnist'}?{query}&split="
    request = TrainRequest(
        f"{data}train",
        f"{data}test",
        optimizer="momentum",
        rate=rate,
        epochs=1,
        batch_size=64,
        metrics=("accuracy",),
    )
    return train(artifact, request).epochs[-1].metrics["accuracy"]


def test_mnist_8_of_one_image_a_batch():
    artifact = Artifact.load(MATERIAL / "models/onnx/mnist-8/mnist.onnx")
    assert tuned(artifact, "scale=1", 5e-7) >= 0.9891


def test_lenet_of_caffe():
    folder = MATERIAL / "models/caffe/lenet_mnist"
    artifact = convert(
        folder / "lenet_deploy.prototxt", weights=folder / "lenet_iter_10000.caffemodel"
    ).artifact
    assert tuned(artifact, "scale=1/256", 5e-4) >= 0.9909
