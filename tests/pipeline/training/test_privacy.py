"""Private training: what is cut, how much noise there is, what it guarantees, what it refuses."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.data import open_data
from onnxsmith.pipeline.frontends.layers.description import Network, build
from onnxsmith.pipeline.training.batches import Shuffled
from onnxsmith.pipeline.training.history import write_csv
from onnxsmith.pipeline.training.privacy import PrivacyOptions
from onnxsmith.pipeline.training.request import TrainRequest
from onnxsmith.pipeline.training.train import train

TRAIN = "digits?split=train&scale=1/16"
COUNT = 1352
REQUEST = TrainRequest(TRAIN, private="noise=1.0:clip=0.5", optimizer="sgd", rate=1.0, threads=1)


@pytest.fixture(scope="module")
def linear() -> Artifact:
    layers = [{"type": "dense", "units": 10, "name": "l", "initializer": "normal"}]
    return build(Network.model_validate({"inputs": ["x:float32[batch,64]"], "layers": layers}))


def weights(artifact: Artifact) -> dict[str, np.ndarray]:
    held = artifact.model.graph.initializers
    return {name: value.const_value.numpy() for name, value in held.items()}


def one_step(model: Artifact, private: str) -> dict[str, np.ndarray]:
    """What one update with all samples in its batch subtracts from the parameters."""
    request = dataclasses.replace(REQUEST, private=private, batch_size=COUNT, epochs=1)
    before, after = weights(model), weights(train(model, request).artifact)
    return {name: before[name].astype(np.float64) - after[name] for name in before}


def test_no_sample_weighs_more_than_the_limit(linear: Artifact) -> None:
    batch = next(open_data(TRAIN, linear.spec).batches(COUNT))
    x, labels = batch.inputs["x"].astype(np.float64), batch.labels
    held = weights(linear)
    scores = x @ held["l.weight"] + held["l.bias"]
    share = np.exp(scores - scores.max(1, keepdims=True))
    share /= share.sum(1, keepdims=True)
    slope = share - np.eye(10)[labels]
    length = np.linalg.norm(slope, axis=1) * np.sqrt((x**2).sum(1) + 1)
    assert (length > 3.9).any()
    assert (length < 3.9).any()
    slope *= np.minimum(1, 3.9 / length)[:, None]
    found = one_step(linear, "noise=1e-9:clip=3.9")
    np.testing.assert_allclose(found["l.weight"], x.T @ slope / COUNT, atol=2e-7)
    np.testing.assert_allclose(found["l.bias"], slope.mean(0), atol=2e-7)


def test_the_noise_is_a_multiple_of_the_limit_and_the_seeds(linear: Artifact) -> None:
    quiet, loud = (one_step(linear, f"noise={n}:clip=0.5") for n in ("1e-9", "3"))
    noise = (loud["l.weight"] - quiet["l.weight"]) * COUNT
    assert noise.std() == pytest.approx(3 * 0.5, rel=0.1)
    assert abs(noise.mean()) < 0.3
    again = one_step(linear, "noise=3:clip=0.5")
    np.testing.assert_array_equal(again["l.weight"], loud["l.weight"])
    drowned = "noise=1e5:clip=0.5"
    first = one_step(linear, drowned)["l.weight"]
    request = dataclasses.replace(REQUEST, batch_size=COUNT, epochs=2, private=drowned)
    second = weights(linear)["l.weight"] - weights(train(linear, request).artifact)["l.weight"]
    second = second - first
    assert second.std() == pytest.approx(first.std(), rel=0.2)
    assert abs(np.corrcoef(second.ravel(), first.ravel())[0, 1]) < 0.2


def epsilon(noise: float, share: float, updates: int, delta: float) -> float:
    """Renyi divergence of whole orders, and its conversion.

    Source: Mironov et al. (2019), section 3.3; Canonne et al., "The Discrete Gaussian for
    Differential Privacy" (2020), proposition 12.
    """
    best = math.inf
    for order in range(2, 129):
        terms = [
            math.log(math.comb(order, k))
            + (order - k) * math.log1p(-share)
            + k * math.log(share)
            + k * (k - 1) / (2 * noise**2)
            for k in range(order + 1)
        ]
        top = max(terms)
        divergence = (top + math.log(sum(math.exp(t - top) for t in terms))) / (order - 1)
        found = updates * divergence + math.log1p(-1 / order)
        found -= math.log(delta * order) / (order - 1)
        best = min(best, found)
    return best


@pytest.mark.parametrize(
    ("noise", "share", "updates"), [(1.1, 0.02, 500), (0.8, 0.05, 40), (4.0, 0.3, 100)]
)
def test_epsilon_is_that_of_the_sampled_gaussian(noise: float, share: float, updates: int) -> None:
    options = PrivacyOptions(noise=noise, delta=1e-5)
    expected = epsilon(noise, share, updates, 1e-5)
    assert options.epsilon(share, updates) == pytest.approx(expected, rel=1e-4)
    assert options.epsilon(1.0, updates) > options.epsilon(share, updates)


def test_epsilon_is_told_after_each_epoch_and_in_the_history(
    linear: Artifact, tmp_path: Path
) -> None:
    result = train(linear, dataclasses.replace(REQUEST, batch_size=64, epochs=2, rate=0.5))
    shares = 64 / COUNT
    for row in result.epochs:
        assert row.updates == 22 * row.number
        assert row.epsilon == pytest.approx(epsilon(1.0, shares, row.updates, 1e-5), rel=1e-4)
    step = result.artifact.history[-1]
    assert step.result == {"epochs": 2, "epsilon": result.epochs[-1].epsilon, "delta": 1e-5}
    assert step.options["private"] == "noise=1.0:clip=0.5"
    assert result.epochs[-1].loss < 2.2
    write_csv(tmp_path / "log.csv", result.epochs)
    head, first, _ = (tmp_path / "log.csv").read_text().splitlines()
    assert head == "epoch,updates,loss,rate,seconds,epsilon"
    assert float(first.split(",")[-1]) == result.epochs[0].epsilon


def test_batches_are_drawn_by_chance(linear: Artifact) -> None:
    source = open_data(TRAIN, linear.spec)
    batches = Shuffled(source, linear.spec, 64, 3, poisson=True)
    sizes = [len(batch) for batch in batches.epoch(0)]
    assert len(sizes) == 22
    assert len(set(sizes)) > 8
    assert 50 < np.mean(sizes) < 78
    assert [len(batch) for batch in batches.epoch(0)] == sizes
    assert [len(batch) for batch in batches.epoch(1)] != sizes
    whole = Shuffled(source, linear.spec, 5000, poisson=True)
    assert [len(batch) for batch in whole.epoch(0)] == [COUNT]
    small = Shuffled(source, linear.spec, 64, memory=1000, poisson=True)
    with pytest.raises(SmithError, match="does not fit in memory"):
        list(small.epoch(0))


def test_an_empty_batch_is_an_update_of_noise(linear: Artifact, tmp_path: Path) -> None:
    batch = next(open_data(TRAIN, linear.spec).batches(30))
    np.savez(tmp_path / "few.npz", x=batch.inputs["x"], label=batch.labels)
    request = dataclasses.replace(
        REQUEST, data=f"npz:{tmp_path / 'few.npz'}", batch_size=1, epochs=1
    )
    result = train(linear, request)
    assert result.epochs[0].updates == 30  # about a third of them without a sample
    assert np.isfinite(weights(result.artifact)["l.weight"]).all()


def test_resuming_is_bit_identical_to_an_unbroken_run(linear: Artifact, tmp_path: Path) -> None:
    request = dataclasses.replace(
        REQUEST, optimizer="adam", rate=0.01, batch_size=64, epochs=3, checkpoint=tmp_path / "whole"
    )
    whole = train(linear, request)
    broken = dataclasses.replace(request, checkpoint=tmp_path / "broken", resume=True)
    train(linear, dataclasses.replace(broken, epochs=1))
    resumed = train(linear, broken)
    for name, array in weights(whole.artifact).items():
        np.testing.assert_array_equal(weights(resumed.artifact)[name], array)
    assert [e.epsilon for e in resumed.epochs] == [e.epsilon for e in whole.epochs]
    with pytest.raises(SmithError, match="private differs"):
        train(linear, dataclasses.replace(broken, private="noise=0.5:clip=0.5"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mixup": 0.2}, "--mixup of several"),
        ({"clip": 1.0}, "--clip of several"),
        ({"accumulate": 2}, "may take a sample twice"),
        ({"private": "noise=0"}, "not positive"),
        ({"private": "clip=-1"}, "not positive"),
        ({"private": "delta=1"}, "is not in"),
        ({"private": "sigma=1"}, "no option 'sigma'"),
        ({"loss": "triplet"}, "mixes samples"),
        ({"loss": "cross-entropy:ignore=3"}, "mixes samples"),
        ({"loss": "cross-entropy:weights=1+1+1+1+1+1+1+1+1+2"}, "mixes samples"),
    ],
)
def test_what_would_break_the_guarantee_is_refused(
    linear: Artifact, change: dict[str, object], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        train(linear, dataclasses.replace(REQUEST, **change))


def test_layers_that_mix_samples_are_named() -> None:
    layers = [{"type": "norm", "name": "mixing"}, {"type": "dense", "units": 10}]
    mixing = build(Network.model_validate({"inputs": ["x:float32[batch,64]"], "layers": layers}))
    with pytest.raises(SmithError, match="BatchNormalization\\) cannot be trained privately"):
        train(mixing, REQUEST)
    frozen = dataclasses.replace(REQUEST, freeze=("mixing*",), epochs=1, batch_size=200)
    after = weights(train(mixing, frozen).artifact)
    np.testing.assert_array_equal(after["mixing.mean"], weights(mixing)["mixing.mean"])


def test_without_the_package_the_hint_names_it(
    linear: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SmithError, match="needs the package dp-accounting") as caught:
        PrivacyOptions.of(REQUEST)
    assert "onnxsmith[privacy]" in caught.value.hint
