"""Inputs follow from configurations, and --input changes their shapes only."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.frontends.huggingface.feeds import (
    Feed,
    asked_for,
    examples,
    image_feed,
    image_sizes,
    sound_feed,
)
from onnxsmith.spec import ValueSpec

IDS = Feed(ValueSpec("input_ids", "int64", ("batch", "sequence")), 50)
MASK = Feed(ValueSpec("attention_mask", "int64", ("batch", "past + sequence")), 2)
PIXELS = Feed(ValueSpec("pixel_values", "float16", ("batch", 3, 8, 8)))


def test_examples_cover_the_vocabulary_and_hide_a_token() -> None:
    found = examples([IDS, MASK, PIXELS], {"batch": 2, "sequence": 5, "past": 3}, seed=0)
    assert found["input_ids"].shape == (2, 5)
    assert (found["input_ids"].min(), found["input_ids"].max()) == (0, 49)
    assert found["attention_mask"].shape == (2, 8)
    assert found["attention_mask"].sum() == 15
    assert found["attention_mask"][0, 0] == 0
    assert found["pixel_values"].dtype == np.float16


def test_an_input_may_be_given_another_shape() -> None:
    wanted = ValueSpec("pixel_values", "float16", (1, 3, 16, 16))
    assert asked_for([IDS, PIXELS], [wanted]) == (IDS, Feed(wanted))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image:float16[1,3,8,8]", "no input 'image'"),
        ("pixel_values:float32[1,3,8,8]", "is of type float16, not float32"),
    ],
)
def test_other_inputs_are_usage_errors(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        asked_for([PIXELS], [ValueSpec.parse(text)])


@pytest.mark.parametrize(
    ("config", "shape", "size"),
    [
        ({"num_channels": 1, "image_size": 28}, ("b", 1, "height", "width"), (28, 28)),
        ({"image_size": (32, 48)}, ("b", 3, "height", "width"), (32, 48)),
        ({"num_frames": 4}, ("b", 4, 3, "height", "width"), (64, 96)),
        ({"vision_config": SimpleNamespace(image_size=8)}, ("b", 3, "height", "width"), (8, 8)),
    ],
)
def test_images(
    config: dict[str, object], shape: tuple[object, ...], size: tuple[int, ...]
) -> None:
    known = SimpleNamespace(**config)
    assert image_feed(known, "float32", batch="b").spec.shape == shape
    assert tuple(image_sizes(known).values()) == size


@pytest.mark.parametrize(
    ("name", "config", "shape"),
    [
        ("input_values", {}, ("batch", "samples")),
        ("input_values", {"num_mel_bins": 64, "max_length": 128}, ("batch", 128, 64)),
        ("input_features", {"num_mel_bins": 80, "max_source_positions": 1500}, ("batch", 80, 3000)),
        ("input_features", {"feature_projection_input_dim": 160}, ("batch", "frames", 160)),
    ],
)
def test_sounds(name: str, config: dict[str, int], shape: tuple[object, ...]) -> None:
    assert sound_feed(name, SimpleNamespace(**config), "float32").spec.shape == shape


def test_an_unknown_spectrogram_is_refused() -> None:
    with pytest.raises(SmithError, match="shape of 'input_features' does not follow"):
        sound_feed("input_features", SimpleNamespace(), "float32")
