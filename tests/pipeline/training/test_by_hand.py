"""A network of two layers against numpy code written by hand, step by step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from onnxsmith.pipeline.training import stepper as stepper_module
from onnxsmith.pipeline.training.graphs import gradient_graph
from onnxsmith.pipeline.training.losses.table import make_loss
from onnxsmith.pipeline.training.optimizers.table import make_optimizer
from onnxsmith.pipeline.training.request import TrainRequest
from onnxsmith.pipeline.training.stepper import StepOptions, Stepper
from onnxsmith.pipeline.training.train import train


@pytest.fixture(scope="module")
def known(benchmark_sources: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark_sources("two_layers")


def test_every_step_has_the_loss_of_the_code_by_hand(known: ModuleType) -> None:
    x, labels = known.samples()
    model = known.network()
    held = model.model.graph.initializers
    start = {name: held[name].const_value.numpy() for name in known.NAMES}
    graph = gradient_graph(model, known.NAMES, make_loss("cross-entropy"))
    with Stepper(graph, start, {}, StepOptions(make_optimizer("sgd"), threads=1)) as stepper:
        found = []
        for _ in range(known.STEPS):
            found.append(stepper.gradient({"x": x}, labels))
            stepper.update(known.RATE)
    expected = known.by_hand()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert expected[-1] < 0.2 * expected[0]


@pytest.mark.parametrize("optimizer", ["adamw:decay=0.1", "momentum"])
def test_parameters_updated_in_stretches_are_the_same(
    optimizer: str, known: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last stretch is shorter; what is frozen to zero and averaged is cut like the rest."""
    x, labels = known.samples()
    found = []
    for stretch in (2**18, 32):
        monkeypatch.setattr(stepper_module, "_STRETCH", stretch)
        model = known.network()
        held = model.model.graph.initializers
        start = {name: held[name].const_value.numpy().copy() for name in known.NAMES}
        start["one.weight"][:3] = 0
        graph = gradient_graph(model, known.NAMES, make_loss("cross-entropy"))
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


def test_the_loop_takes_the_same_steps(known: ModuleType, tmp_path: Path) -> None:
    x, labels = known.samples()
    np.savez(tmp_path / "data.npz", x=x, label=labels)
    request = TrainRequest(
        f"npz:{tmp_path / 'data.npz'}", optimizer="sgd", rate=known.RATE, epochs=20, batch_size=100,
        threads=1,
    )  # fmt: skip
    result = train(known.network(), request)
    np.testing.assert_allclose([e.loss for e in result.epochs], known.by_hand()[:20], atol=1e-5)
