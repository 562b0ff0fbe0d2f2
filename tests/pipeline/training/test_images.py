"""Changes of images: what they are, that chance is the seed's, and that threads change nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.data import open_data
from onnxsmith.pipeline.data.base import Batch
from onnxsmith.pipeline.frontends.layers.description import Network, build
from onnxsmith.pipeline.training.batches import Shuffled
from onnxsmith.pipeline.training.images import ImageAugment
from onnxsmith.pipeline.training.request import TrainRequest
from onnxsmith.pipeline.training.train import train

RNG = np.random.default_rng(0)
IMAGES = RNG.random((40, 3, 6, 5), np.float32) + np.float32(0.5)
TRAIN = "digits?split=train&scale=1/16&layout=NCHW"


def changed(images: np.ndarray = IMAGES, seed: int = 1, **options: object) -> np.ndarray:
    augment = ImageAugment(**options)  # type: ignore[arg-type]
    batch = Batch({"x": images, "other": np.ones((len(images), 2))}, np.arange(len(images)))
    result = augment(batch, np.random.default_rng(seed))
    assert result.labels is batch.labels
    assert result.inputs["other"] is batch.inputs["other"]
    assert result.inputs["x"].dtype == np.float32
    return result.inputs["x"]


def test_flips_are_mirrors_of_about_half() -> None:
    found = changed(flip=0.5)
    mirrored = np.array([(a == b[..., ::-1]).all() for a, b in zip(found, IMAGES, strict=True)])
    same = np.array([(a == b).all() for a, b in zip(found, IMAGES, strict=True)])
    assert (mirrored ^ same).all()
    assert 10 < mirrored.sum() < 30
    np.testing.assert_array_equal(changed(flip=1.0), IMAGES[..., ::-1])


def test_crops_are_shifts_of_at_most_so_many_pixels_with_zeros_behind() -> None:
    found = changed(crop=2)
    seen = set()
    for image, source in zip(found, IMAGES, strict=True):
        padded = np.pad(source, ((0, 0), (2, 2), (2, 2)))
        places = [
            (i, j) for i in range(5) for j in range(5)
            if (padded[:, i : i + 6, j : j + 5] == image).all()
        ]  # fmt: skip
        assert len(places) == 1
        seen.add(places[0])
    assert len(seen) > 10


def test_turns_are_turns() -> None:
    square = RNG.random((1, 1, 9, 9), np.float32)

    class Quarter:
        """A generator whose uniform draws are the upper end: always the largest turn."""

        def random(self, size: int) -> np.ndarray:
            return np.ones(size)

        def integers(self, low: int, high: int, size: object) -> np.ndarray:
            return np.zeros(size, int)  # type: ignore[arg-type]

        def uniform(self, low: float, high: float, size: object) -> np.ndarray:
            return np.full(size, high)  # type: ignore[arg-type]

    augment = ImageAugment(rotate=90.0)
    turned = augment(Batch({"x": square}, None), Quarter()).inputs["x"]  # type: ignore[arg-type]
    np.testing.assert_allclose(turned[0, 0], np.rot90(square[0, 0], -1), atol=1e-5)
    found = changed(np.ones((50, 1, 21, 21), np.float32), rotate=20.0)
    assert (found[:, 0, 6:15, 6:15] > 0.999).all()  # the middle stays, corners come from outside
    assert (found[:, 0, 0, 0] < 1).mean() > 0.8


def test_colors_change_by_at_most_the_share_and_grey_stays_grey() -> None:
    grey = np.repeat(IMAGES[:, :1], 3, axis=1)
    found = changed(grey, color=0.3)
    np.testing.assert_allclose(found[:, 0], found[:, 2], rtol=1e-5)
    brightness = found.mean((1, 2, 3)) / grey.mean((1, 2, 3))
    assert 0.7 <= brightness.min() < 0.8 < 1.2 < brightness.max() <= 1.3
    contrast = found.std((1, 2, 3)) / grey.std((1, 2, 3)) / brightness
    assert 0.7 <= contrast.min() < 0.8 < 1.2 < contrast.max() <= 1.301
    vivid = changed(color=0.3)
    weights = np.array([0.299, 0.587, 0.114])
    before, after = (
        np.abs(x - np.einsum("nchw,c->nhw", x, weights)[:, None]).mean((1, 2, 3))
        for x in (IMAGES, vivid)
    )
    assert (after / before).std() > 0.1


def test_a_hole_is_a_square_of_zeros() -> None:
    found = changed(cutout=3)
    holes = (found == 0).all(1)
    assert (
        found[~np.repeat(holes[:, None], 3, 1)] == IMAGES[~np.repeat(holes[:, None], 3, 1)]
    ).all()
    sizes = {tuple(np.ptp(np.argwhere(hole), axis=0) + 1) for hole in holes}
    assert (3, 3) in sizes  # those at a border are smaller
    assert all(h <= 3 and w <= 3 and hole.any() for (h, w), hole in zip(sizes, holes, strict=False))


def test_channels_last_are_channels() -> None:
    options = {"flip": 0.5, "crop": 1, "color": 0.1, "cutout": 2}
    last = changed(IMAGES.transpose(0, 2, 3, 1), layout="NHWC", **options)
    np.testing.assert_array_equal(last.transpose(0, 3, 1, 2), changed(**options))


@pytest.mark.parametrize(
    "text", ["flip=2", "crop=-1", "color=1", "flop=1", "flip", "layout=HWC", "rotate=x"]
)
def test_wrong_options_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        ImageAugment.parse(text)


def network() -> Artifact:
    layers = [
        {"type": "conv", "filters": 4, "activation": "relu"},
        {"type": "flatten"},
        {"type": "dense", "units": 10},
    ]
    return build(Network.model_validate({"inputs": ["x:float32[batch,1,8,8]"], "layers": layers}))


def epoch(workers: int, number: int, seed: int = 0) -> list[np.ndarray]:
    artifact = network()
    source = open_data(TRAIN, artifact.spec)
    augment = (ImageAugment.parse("flip=0.5:crop=1:rotate=5:cutout=2"),)
    batches = Shuffled(source, artifact.spec, 100, seed, augment=augment, workers=workers)
    return [batch.inputs["x"] for batch in batches.epoch(number)]


def test_threads_change_nothing_and_epochs_and_seeds_all() -> None:
    first = epoch(1, 0)
    assert [len(x) for x in first] == [100] * 13 + [52]
    for other in (epoch(1, 0), epoch(3, 0)):
        assert all((a == b).all() for a, b in zip(first, other, strict=True))
    assert not any((a == b).all() for a, b in zip(first, epoch(1, 1), strict=True))
    assert not any((a == b).all() for a, b in zip(first, epoch(1, 0, seed=1), strict=True))


def test_an_error_in_a_thread_is_the_runs_own() -> None:
    flat = build(
        Network.model_validate(
            {"inputs": ["x:float32[batch,64]"], "layers": [{"type": "dense", "units": 10}]}
        )
    )
    request = TrainRequest("digits?split=train", augment="flip=0.5", workers=2, epochs=1)
    with pytest.raises(SmithError, match="no input is a batch of images"):
        train(flat, request)


def test_resuming_is_bit_identical_to_an_unbroken_run(tmp_path: Path) -> None:
    request = TrainRequest(
        TRAIN, augment="flip=0.5:crop=1:color=0.1", workers=2, mixup=0.2, epochs=3, threads=1,
        loss="cross-entropy:labels=soft", checkpoint=tmp_path / "whole",
    )  # fmt: skip
    whole = train(network(), request).artifact
    broken = dataclasses.replace(request, checkpoint=tmp_path / "broken", resume=True, workers=1)
    train(network(), dataclasses.replace(broken, epochs=1))
    resumed = train(network(), broken).artifact
    for name, value in whole.model.graph.initializers.items():
        other = resumed.model.graph.initializers[name]
        np.testing.assert_array_equal(value.const_value.numpy(), other.const_value.numpy())
    with pytest.raises(SmithError, match="augment differs"):
        train(network(), dataclasses.replace(broken, augment="flip=0.5"))
