"""Training with activations computed again gives the very same model."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.pipeline.training.test_train import REQUEST, normalized, perceptron, train, weights

from onnxsmith.errors import SmithError
from onnxsmith.passes.autodiff.recomputation.recompute import recompute
from onnxsmith.pipeline.training import graphs
from onnxsmith.pipeline.training.request import TrainRequest, TrainResult

SHORT = dataclasses.replace(REQUEST, epochs=2)
DROPOUT = "e = Relu(h) r = Dropout(e)"


@pytest.fixture(autouse=True)
def stretches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return how many stretches were computed again, graph for graph."""
    counts: list[int] = []

    def counted(*arguments: Any) -> int:
        counts.append(recompute(*arguments))
        return counts[-1]

    monkeypatch.setattr(graphs, "recompute", counted)
    return counts


def same(
    request: TrainRequest, kept: str, between: str | None = None, rtol: float = 0
) -> TrainResult:
    """Assert that a run with ``recompute`` is the run without it."""

    def run(recompute: tuple[str, ...]) -> TrainResult:
        model = normalized() if between is None else perceptron(between)
        return train(model, dataclasses.replace(request, recompute=recompute))

    plain, again = run(()), run((kept,))
    losses = ([row.loss for row in result.epochs] for result in (plain, again))
    np.testing.assert_allclose(*losses, rtol=rtol)
    for name, array in weights(plain.artifact).items():
        found = weights(again.artifact)[name]
        np.testing.assert_allclose(found, array, rtol=rtol, atol=rtol, err_msg=name)
    return again


@pytest.mark.parametrize("threads", [1, 4])
def test_statistics_are_remembered_once(threads: int, stretches: list[int]) -> None:
    same(dataclasses.replace(SHORT, threads=threads), "r")
    assert stretches == [1]


@pytest.mark.parametrize(
    "change",
    [
        {"accumulate": 2, "clip": 0.5},
        {"lora": "rank=4"},
        {"qat": True, "rate": 1e-3},
        {"private": "noise=1:clip=1:delta=0.001"},
        {"precision": "float16"},
        {"parallel": 2, "batch_size": 64},
    ],
    ids=lambda change: next(iter(change)),
)
def test_with_all_that_changes_the_graph(change: dict[str, object], stretches: list[int]) -> None:
    # In half precision, the runtime leaves out casts on a CPU, depending on what reads between.
    rtol = 0.01 if "precision" in change else 0
    same(dataclasses.replace(SHORT, epochs=1, **change), "y", DROPOUT, rtol)
    assert stretches == [1]


def test_an_interrupted_run_may_go_on_with_it(tmp_path: Path) -> None:
    whole = train(perceptron(DROPOUT), SHORT)
    first = dataclasses.replace(SHORT, epochs=1, checkpoint=tmp_path, resume=True)
    train(perceptron(DROPOUT), first)
    second = dataclasses.replace(first, epochs=2, recompute=("r",))
    resumed = train(perceptron(DROPOUT), second)
    for name, array in weights(whole.artifact).items():
        np.testing.assert_array_equal(array, weights(resumed.artifact)[name], err_msg=name)


def test_a_pattern_without_a_match() -> None:
    with pytest.raises(SmithError, match="no value that depends on the data is called 'blck"):
        train(perceptron(), dataclasses.replace(SHORT, recompute=("blck*",)))


def test_dropout_before_the_first_trained_parameter_drops() -> None:
    """Nobody reads its mask there, and the runtime leaves such a node out."""
    request = dataclasses.replace(SHORT, epochs=1, freeze=("a", "b"), optimizer="sgd", rate=0.0)
    plain, dropped = (train(perceptron(text), request) for text in ("r = Relu(h)", DROPOUT))
    assert dropped.epochs[0].loss > 1.02 * plain.epochs[0].loss
