"""Encoder-decoder models come in two parts that hand over the cross-attention's cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from onnxsmith.errors import UsageError
from onnxsmith.pipeline.frontends.convert import convert
from onnxsmith.runtime.session import Session

STEPS = 9
Fixture = Callable[..., Any]


def check_generation(model: Any, parts: Any, inputs: Any, generate: Fixture) -> None:
    """Compare with transformers: one run of the encoder, then the decoder step by step."""
    encoder, decoder = parts
    with Session(encoder, optimize=False) as session:
        found = session.run({name: tensor.numpy() for name, tensor in inputs.items()})
    given = {
        name.replace("present", "past_key_values", 1): array
        for name, array in found.items()
        if name.startswith("present")
    }
    if "attention_mask" in inputs:
        given["encoder_attention_mask"] = inputs["attention_mask"].numpy()
    start = np.full((len(found["last_hidden_state"]), 1), model.config.decoder_start_token_id)
    actual = generate(decoder, start, STEPS, given)
    expected = model.generate(**inputs, max_new_tokens=STEPS, do_sample=False, num_beams=1)
    np.testing.assert_array_equal(actual[:, -STEPS:], expected.numpy()[:, -STEPS:])
    assert len(np.unique(actual[:, -STEPS:])) >= 4  # the tokens tell models apart


def text() -> dict[str, torch.Tensor]:
    tokens = torch.randint(3, 99, (2, 6), generator=torch.Generator().manual_seed(1))
    return {"input_ids": tokens, "attention_mask": torch.tensor([[1] * 6, [1, 1, 1, 1, 0, 0]])}


@pytest.fixture(scope="module")
def t5(make: Fixture, to_onnx: Fixture) -> Any:
    model = make("T5", "ForConditionalGeneration")
    return model, (to_onnx(model, "encoder"), to_onnx(model, "decoder"))


def test_the_encoder_hands_over_what_the_decoder_takes(t5: Any) -> None:
    encoder, decoder = (artifact.spec for artifact in t5[1])
    assert [value.name for value in encoder.inputs] == ["input_ids", "attention_mask"]
    assert encoder.output("present.1.encoder.value").shape == ("batch", 4, "sequence", 8)
    assert [value.name for value in decoder.inputs[:6]] == [
        "input_ids", "encoder_attention_mask", "past_key_values.0.decoder.key",
        "past_key_values.0.decoder.value", "past_key_values.0.encoder.key",
        "past_key_values.0.encoder.value",
    ]  # fmt: skip
    cross = decoder.input("past_key_values.0.encoder.key").shape
    assert cross == ("batch", 4, "encoder_sequence", 8)
    names = [value.name for value in decoder.outputs]
    assert names == [
        "logits",
        *(f"present.{i}.decoder.{k}" for i in (0, 1) for k in ("key", "value")),
    ]


def test_t5_generates_the_same_tokens(t5: Any, generate: Fixture) -> None:
    check_generation(*t5, text(), generate)


def test_bart_generates_the_same_tokens(make: Fixture, to_onnx: Fixture, generate: Fixture) -> None:
    model = make("Bart", "ForConditionalGeneration", forced_eos_token_id=None)
    check_generation(
        model, (to_onnx(model, "encoder"), to_onnx(model, "decoder")), text(), generate
    )


def test_whisper_generates_the_same_tokens(
    make: Fixture, to_onnx: Fixture, generate: Fixture
) -> None:
    model = make("Whisper", "ForConditionalGeneration")
    model.generation_config.suppress_tokens = None
    model.generation_config.begin_suppress_tokens = None
    parts = to_onnx(model, "encoder"), to_onnx(model, "decoder")
    assert parts[0].spec.input("input_features").shape == ("batch", 8, 40)
    sound = torch.randn((2, 8, 40), generator=torch.Generator().manual_seed(1))
    check_generation(model, parts, {"input_features": sound}, generate)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (None, "T5ForConditionalGeneration is exported in parts: encoder and decoder"),
        ("vision", "T5ForConditionalGeneration has no part 'vision'"),
    ],
)
def test_the_part_must_be_said(make: Fixture, part: str | None, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        convert(make("T5", "ForConditionalGeneration"), part=part)
    assert caught.value.hint == "give --part encoder or --part decoder"
