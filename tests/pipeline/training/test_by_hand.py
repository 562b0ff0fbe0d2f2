"""A network of two layers against numpy code written by hand, step by step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.pipeline.frontends.layers.description import Network, build
from onnxsmith.pipeline.training import stepper as stepper_module
from onnxsmith.pipeline.training.graphs import gradient_graph
from onnxsmith.pipeline.training.losses.table import make_loss
from onnxsmith.pipeline.training.optimizers.table import make_optimizer
from onnxsmith.pipeline.training.request import TrainRequest
from onnxsmith.pipeline.training.stepper import StepOptions, Stepper
from onnxsmith.pipeline.training.train import train

RATE, STEPS = 0.5, 200
NAMES = ["one.weight", "one.bias", "two.weight", "two.bias"]


def network() -> Artifact:
    layers = [
        {"type": "dense", "units": 5, "activation": "tanh", "name": "one"},
        {"type": "dense", "units": 2, "name": "two"},
    ]
    return build(Network.model_validate({"inputs": ["x:float32[batch,10]"], "layers": layers}))


def samples() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(100, 10)).astype(np.float32)
    return x, (x[:, :3].sum(1) + x[:, 3] * x[:, 4] > 0).astype(np.int64)


def by_hand(x: np.ndarray, labels: np.ndarray) -> list[float]:
    """The losses of gradient descent on all samples, in float64."""
    held = network().model.graph.initializers
    w1, b1, w2, b2 = (held[name].const_value.numpy().astype(np.float64) for name in NAMES)
    losses = []
    for _ in range(STEPS):
        h = np.tanh(x @ w1 + b1)
        scores = h @ w2 + b2
        share = np.exp(scores - scores.max(1, keepdims=True))
        share /= share.sum(1, keepdims=True)
        losses.append(-np.log(share[np.arange(100), labels]).mean())
        d2 = (share - np.eye(2)[labels]) / 100
        d1 = d2 @ w2.T * (1 - h**2)
        w1, b1 = w1 - RATE * x.T @ d1, b1 - RATE * d1.sum(0)
        w2, b2 = w2 - RATE * h.T @ d2, b2 - RATE * d2.sum(0)
    return losses


def test_every_step_has_the_loss_of_the_code_by_hand() -> None:
    x, labels = samples()
    model = network()
    held = model.model.graph.initializers
    start = {name: held[name].const_value.numpy() for name in NAMES}
    graph = gradient_graph(model, NAMES, make_loss("cross-entropy"))
    with Stepper(graph, start, {}, StepOptions(make_optimizer("sgd"), threads=1)) as stepper:
        found = []
        for _ in range(STEPS):
            found.append(stepper.gradient({"x": x}, labels))
            stepper.update(RATE)
    expected = by_hand(x, labels)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert expected[-1] < 0.2 * expected[0]


@pytest.mark.parametrize("optimizer", ["adamw:decay=0.1", "momentum"])
def test_parameters_updated_in_stretches_are_the_same(
    optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last stretch is shorter; what is frozen to zero and averaged is cut like the rest."""
    x, labels = samples()
    found = []
    for stretch in (2**18, 32):
        monkeypatch.setattr(stepper_module, "_STRETCH", stretch)
        model = network()
        held = model.model.graph.initializers
        start = {name: held[name].const_value.numpy().copy() for name in NAMES}
        start["one.weight"][:3] = 0
        graph = gradient_graph(model, NAMES, make_loss("cross-entropy"))
        options = StepOptions(
            make_optimizer(optimizer), threads=1, average=0.9, keep_zeros=True,
            no_decay=frozenset(["one.bias"]),
        )  # fmt: skip
        with Stepper(graph, start, {}, options) as stepper:
            assert (len(stepper._updates) > 2) == (stretch == 32)
            for _ in range(5):
                stepper.gradient({"x": x}, labels)
                stepper.update(0.1)
            found.append(stepper.state())
    assert found[0].keys() == found[1].keys()
    for name, array in found[0].items():
        np.testing.assert_array_equal(found[1][name], array, err_msg=name)


def test_the_loop_takes_the_same_steps(tmp_path: Path) -> None:
    x, labels = samples()
    np.savez(tmp_path / "data.npz", x=x, label=labels)
    request = TrainRequest(
        f"npz:{tmp_path / 'data.npz'}", optimizer="sgd", rate=RATE, epochs=20, batch_size=100,
        threads=1,
    )  # fmt: skip
    result = train(network(), request)
    np.testing.assert_allclose([e.loss for e in result.epochs], by_hand(x, labels)[:20], atol=1e-5)
