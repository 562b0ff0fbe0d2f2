"""A network of 10, 5 and 2 units, and its training written by hand in numpy."""

from __future__ import annotations

import numpy as np

from onnxsmith.artifact import Artifact
from onnxsmith.pipeline.frontends.layers.description import Network, build

RATE, STEPS = 0.5, 200
NAMES = ("one.weight", "one.bias", "two.weight", "two.bias")


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


def by_hand() -> list[float]:
    """Return the loss of each step of gradient descent on all samples, in float64."""
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
