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

from onnxsmith.artifact import Artifact
from onnxsmith.pipeline.data import open_data
from onnxsmith.pipeline.evaluation import evaluate
from onnxsmith.pipeline.frontends.convert import convert
from onnxsmith.pipeline.frontends.layers.description import Network, build
from onnxsmith.pipeline.training.graphs import gradient_graph
from onnxsmith.pipeline.training.losses.table import make_loss
from onnxsmith.pipeline.training.optimizers.table import make_optimizer
from onnxsmith.pipeline.training.request import TrainRequest
from onnxsmith.pipeline.training.stepper import StepOptions, Stepper
from onnxsmith.pipeline.training.train import train
from onnxsmith.runtime.session import Session

RATE, STEPS = 0.5, 200
NAMES = ("one.weight", "one.bias", "two.weight", "two.bias")


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


def network() -> Artifact:
    """Return the network of two layers."""
    layers = [
        {"type": "dense", "units": 5, "activation": "tanh", "name": "one"},
        {"type": "dense", "units": 2, "name": "two"},
    ]
    return build(Network.model_validate({"inputs": ["x:float32[batch,10]"], "layers": layers}))


def samples() -> tuple[np.ndarray, np.ndarray]:
    """Return made-up samples and their labels."""
    x = np.random.default_rng(1).normal(size=(100, 10)).astype(np.float32)
    return x, (x[:, :3].sum(1) + x[:, 3] * x[:, 4] > 0).astype(np.int64)


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


def by_hand() -> list[float]:
    """Return the loss of each step of the same descent, in float64."""
    x, labels = samples()
    held = network().model.graph.initializers
    w1, b1, w2, b2 = (held[name].const_value.numpy().astype(np.float64) for name in NAMES)
    losses = []
    for _ in range(STEPS):
        h = np.tanh(x @ w1 + b1)
        scores = h @ w2 + b2
        share = np.exp(scores - scores.max(1, keepdims=True))
        share /= share.sum(1, keepdims=True)
        losses.append(float(-np.log(share[np.arange(100), labels]).mean()))
        d2 = (share - np.eye(2)[labels]) / 100
        d1 = d2 @ w2.T * (1 - h**2)
        w1, b1 = w1 - RATE * x.T @ d1, b1 - RATE * d1.sum(0)
        w2, b2 = w2 - RATE * h.T @ d2, b2 - RATE * d2.sum(0)
    return losses


if __name__ == "__main__":
    main()
