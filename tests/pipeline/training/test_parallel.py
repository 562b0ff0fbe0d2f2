"""Several processes: the curve is that of one with a batch as large, and errors come through."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.frontends.layers.description import Network, build
from onnxsmith.pipeline.training.parallel import local
from onnxsmith.pipeline.training.parallel.replica import Answer, Part, Setup
from onnxsmith.pipeline.training.request import TrainRequest
from onnxsmith.pipeline.training.train import train

TRAIN = "digits?split=train&scale=1/16&layout=NCHW"
REQUEST = TrainRequest(TRAIN, batch_size=64, epochs=2, rate=2e-3, threads=1)


def network(*more: dict[str, Any]) -> Artifact:
    layers = [
        {"type": "conv", "filters": 4},
        *more,
        {"type": "activation", "function": "relu"},
        {"type": "flatten"},
        {"type": "dense", "units": 10},
    ]
    return build(Network.model_validate({"inputs": ["x:float32[batch,1,8,8]"], "layers": layers}))


def weights(artifact: Artifact) -> dict[str, np.ndarray]:
    held = artifact.model.graph.initializers
    return {name: value.const_value.numpy() for name, value in held.items()}


def test_the_curve_is_that_of_one_process_with_a_batch_as_large() -> None:
    count = 3  # 1352 samples are no multiple of 90: the last batch has two, and a process none
    alone = train(network(), dataclasses.replace(REQUEST, batch_size=30 * count))
    shared = train(network(), dataclasses.replace(REQUEST, batch_size=30, parallel=count))
    for one, other in zip(alone.epochs, shared.epochs, strict=True):
        assert other.loss == pytest.approx(one.loss, rel=1e-5)
        assert (other.updates, other.rate) == (one.updates, one.rate)
    for name, array in weights(alone.artifact).items():
        np.testing.assert_allclose(weights(shared.artifact)[name], array, atol=2e-4)


def test_statistics_are_the_mean_over_processes_and_resuming_is_exact(tmp_path: Path) -> None:
    model = network({"type": "norm", "name": "norm"}, {"type": "dropout", "rate": 0.3})
    request = dataclasses.replace(
        REQUEST, batch_size=32, parallel=2, checkpoint=tmp_path / "whole", clip=1.0
    )
    whole = train(model, request)
    assert np.abs(weights(whole.artifact)["norm.mean"]).max() > 1e-3
    broken = dataclasses.replace(request, checkpoint=tmp_path / "broken", resume=True)
    train(model, dataclasses.replace(broken, epochs=1))
    resumed = train(model, broken)
    for name, array in weights(whole.artifact).items():
        np.testing.assert_array_equal(weights(resumed.artifact)[name], array, err_msg=name)
    with pytest.raises(SmithError, match="parallel differs"):
        train(model, dataclasses.replace(broken, parallel=3))


def test_processes_drop_different_elements() -> None:
    """With equal masks in all, two equal halves would have equal gradients."""
    model = network({"type": "dropout", "rate": 0.5})
    found: list[Answer] = []

    class Watched(local.LocalWorkers):
        def receive(self, index: int) -> Answer:
            found.append(super().receive(index))
            return found[-1]

    request = dataclasses.replace(REQUEST, batch_size=16, parallel=2, epochs=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "LocalWorkers", Watched)
        train(model, request)
    assert len({answer.gradient.tobytes() for answer in found}) == len(found) == 43


def test_a_process_that_is_killed_is_one_clear_error() -> None:
    class Killed(local.LocalWorkers):
        def send(self, index: int, part: Part) -> None:
            os.kill(self._processes[index].pid, signal.SIGKILL)
            self._processes[index].wait()
            super().send(index, part)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "LocalWorkers", Killed)
        with pytest.raises(SmithError, match="a process of the training run ended"):
            train(network(), dataclasses.replace(REQUEST, parallel=2, epochs=1))


def test_an_error_in_a_process_is_the_runs_own() -> None:
    class Wrong(local.LocalWorkers):
        def send(self, index: int, part: Part) -> None:
            super().send(index, dataclasses.replace(part, inputs={"y": part.inputs["x"]}))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "LocalWorkers", Wrong)
        with pytest.raises(SmithError, match="'y'"):
            train(network(), dataclasses.replace(REQUEST, parallel=2, epochs=1))


def ray_stub() -> ModuleType:
    """A Ray of one process; tests/frameworks runs the real one."""
    ray = ModuleType("ray")
    calls: list[str] = []

    class Method:
        def __init__(self, function: Any) -> None:
            self.function = function

        def remote(self, *values: Any) -> Any:
            return self.function(*values)

    def remote(made: type) -> Any:
        class Actor:
            def __init__(self, setup: Setup) -> None:
                self.answer = Method(made(setup).answer)

        class Factory:
            def options(self, num_cpus: int) -> Factory:
                assert num_cpus == 1
                return self

            def remote(self, setup: Setup) -> Actor:
                return Actor(setup)

        return Factory()

    vars(ray).update(
        calls=calls,
        remote=remote,
        get=lambda found: found,
        is_initialized=lambda: False,
        init=lambda log_to_driver, include_dashboard, configure_logging: calls.append("init"),
        kill=lambda actor: calls.append("kill"),
        shutdown=lambda: calls.append("shutdown"),
        exceptions=ModuleType("exceptions"),
    )
    ray.exceptions.RayError = RuntimeError
    return ray


def test_ray_is_asked_for_actors_and_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = ray_stub()
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    request = dataclasses.replace(REQUEST, batch_size=32, parallel=3, epochs=1)
    found = train(network(), dataclasses.replace(request, engine="ray"))
    monkeypatch.undo()
    expected = train(network(), request)
    assert found.epochs[0].loss == expected.epochs[0].loss
    assert ray.calls == ["init", "kill", "kill", "shutdown"]


def test_without_ray_the_hint_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SmithError, match="needs the package ray") as caught:
        train(network(), dataclasses.replace(REQUEST, parallel=2, engine="ray"))
    assert "onnxsmith[ray]" in caught.value.hint


def test_wrong_requests() -> None:
    wrong: Sequence[tuple[dict[str, Any], str]] = (
        ({"parallel": 0}, "parallel is below 1"),
        ({"parallel": 2, "private": "noise=1"}, "runs in one process"),
    )
    for change, words in wrong:
        with pytest.raises(UsageError, match=words):
            train(network(), dataclasses.replace(REQUEST, **change))
