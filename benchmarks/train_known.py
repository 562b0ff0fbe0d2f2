"""Training whose outcome is known: trained models fine-tuned, and steps worked out by hand.

The ONNX model zoo's mnist-8 and Caffe's LeNet go on for an epoch of MNIST, with momentum at a small
rate; their test accuracy before and after is printed. A network of 10, 5 and 2 units is trained on
100 samples by gradient descent, once on the runtime and once in numpy in float64; the largest
difference of a step's loss is printed.

    python benchmarks/train_known.py MATERIAL

MATERIAL has ``models/onnx/mnist-8``, ``models/caffe/lenet_mnist`` and ``datasets/mnist``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from sources.two_layers import NAMES, RATE, STEPS, by_hand, network, samples

from onnxsmith.artifact import Artifact
from onnxsmith.pipeline.data import open_data
from onnxsmith.pipeline.evaluation import evaluate
from onnxsmith.pipeline.frontends.convert import convert
from onnxsmith.pipeline.training.graphs import gradient_graph
from onnxsmith.pipeline.training.losses.table import make_loss
from onnxsmith.pipeline.training.optimizers.table import make_optimizer
from onnxsmith.pipeline.training.request import TrainRequest
from onnxsmith.pipeline.training.stepper import StepOptions, Stepper
from onnxsmith.pipeline.training.train import train
from onnxsmith.runtime.session import Session


def main() -> None:
    """Print a line for each network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("material", type=Path)
    folder = parser.parse_args().material
    apart = np.abs(np.subtract(on_the_runtime(), by_hand())).max()
    print(f"10-5-2, {STEPS} steps: the losses differ by at most {apart:.1e}", flush=True)
    caffe = folder / "models/caffe/lenet_mnist"
    cases = {
        "mnist-8": (Artifact.load(folder / "models/onnx/mnist-8/mnist.onnx"), "scale=1", 5e-7),
        "LeNet of Caffe": (
            convert(
                caffe / "lenet_deploy.prototxt", weights=caffe / "lenet_iter_10000.caffemodel"
            ).artifact,
            "scale=1/256",
            5e-4,
        ),
    }
    for name, (artifact, query, rate) in cases.items():
        data = f"mnist:{folder / 'datasets/mnist'}?{query}&split="
        before, after = accuracy(artifact, f"{data}test"), tuned(artifact, data, rate)
        print(f"{name}: {before:.2%}, after an epoch {after:.2%}", flush=True)


def accuracy(artifact: Artifact, data: str) -> float:
    """Return the share of images that a model names rightly."""
    with Session(artifact) as session:
        return evaluate(session, open_data(data), ("accuracy",)).metrics["accuracy"]


def tuned(artifact: Artifact, data: str, rate: float) -> float:
    """Return the test accuracy after an epoch of training images."""
    request = TrainRequest(
        f"{data}train", f"{data}test", optimizer="momentum", rate=rate, epochs=1, batch_size=64,
        metrics=("accuracy",),
    )  # fmt: skip
    return train(artifact, request).epochs[-1].metrics["accuracy"]


def on_the_runtime() -> list[float]:
    """Return the loss of each step."""
    x, labels = samples()
    model = network()
    held = model.model.graph.initializers
    start = {name: held[name].const_value.numpy() for name in NAMES}
    graph = gradient_graph(model, NAMES, make_loss("cross-entropy"))
    losses = []
    with Stepper(graph, start, {}, StepOptions(make_optimizer("sgd"), threads=1)) as stepper:
        for _ in range(STEPS):
            losses.append(stepper.gradient({"x": x}, labels))
            stepper.update(RATE)
    return losses


if __name__ == "__main__":
    main()
