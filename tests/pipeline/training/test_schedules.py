"""Learning rates over time, and that the loop obeys them."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from tests.pipeline.training.test_train import REQUEST, perceptron, weights

from onnxsmith.errors import UsageError
from onnxsmith.pipeline.training.schedules import make_schedule
from onnxsmith.pipeline.training.train import train


@pytest.mark.parametrize(
    ("text", "update", "epoch", "expected"),
    [
        ("constant", 50, 5, 1.0),
        ("constant:warm-up=9", 4, 0, 0.5),
        ("step:epochs=2:gamma=0.5", 0, 5, 0.25),
        ("cosine", 0, 0, 1.0),
        ("cosine", 25, 0, (1 + math.sqrt(0.5)) / 2),
        ("cosine:least=0.2", 100, 0, 0.2),
        ("cosine:warm-up=20", 60, 0, 0.5),
        ("one-cycle", 0, 0, 1 / 25),
        ("one-cycle", 30, 0, 1.0),
        ("one-cycle:end=100", 100, 0, 0.01),
        ("plateau", 70, 3, 1.0),
    ],
)
def test_factors(text: str, update: int, epoch: int, expected: float) -> None:
    assert make_schedule(text).at(update, 100, epoch) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["cosin", "step:epochs=0", "step:epochs=x", "cosine:low=1"])
def test_wrong_schedules(text: str) -> None:
    with pytest.raises(UsageError):
        make_schedule(text)


def test_the_loop_obeys_the_schedule() -> None:
    request = dataclasses.replace(REQUEST, schedule="step:epochs=1:gamma=0", epochs=2)
    once = train(perceptron(), dataclasses.replace(request, epochs=1))
    twice = train(perceptron(), dataclasses.replace(request, optimizer="sgd", rate=0.1))
    assert twice.epochs[1].rate == 0
    assert once.epochs[0].rate == REQUEST.rate
    still = train(perceptron(), dataclasses.replace(request, optimizer="sgd", rate=0.1, epochs=1))
    for name, array in weights(still.artifact).items():
        np.testing.assert_array_equal(weights(twice.artifact)[name], array)


def test_a_clipped_gradient_moves_by_its_greatest_length() -> None:
    request = dataclasses.replace(
        REQUEST, optimizer="sgd", rate=1.0, clip=1e-3, epochs=1, batch_size=10_000
    )
    before, after = weights(perceptron()), weights(train(perceptron(), request).artifact)
    moved = math.sqrt(sum(float(((after[n] - before[n]) ** 2).sum()) for n in before))
    assert moved == pytest.approx(1e-3, rel=1e-2)
