"""Language models keep their keys and values outside: generation equals transformers' own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

STEPS = 10
Fixture = Callable[..., Any]


@pytest.fixture(scope="module")
def llama(make: Fixture, to_onnx: Fixture) -> Any:
    model = make("Llama", "ForCausalLM")
    return model, to_onnx(model)


def test_the_cache_is_part_of_the_signature(llama: Any) -> None:
    spec = llama[1].spec
    assert [value.name for value in spec.inputs[:3]] == [
        "input_ids", "attention_mask", "past_key_values.0.key",
    ]  # fmt: skip
    assert len(spec.inputs) == 2 + 2 * 2
    assert spec.input("attention_mask").shape == ("batch", "past_sequence + sequence")
    assert spec.input("past_key_values.1.value").shape == ("batch", 2, "past_sequence", 8)
    total = "past_sequence + sequence"
    assert spec.output("present.1.value").shape == ("batch", 2, total, 8)
    assert spec.output("logits").shape == ("batch", "sequence", 99)


def test_nodes_of_the_graph_stay_few(llama: Any) -> None:
    """Twice two layers had 370 nodes by the plain way: 85 a layer and 30 around them."""
    assert len(list(llama[1].model.graph)) <= 200


def test_probes_were_of_several_pasts(llama: Any) -> None:
    shapes = llama[1].history[1].result["shapes"]
    pasts = {shape["past_key_values.0.key"][2] for shape in shapes}
    assert len(pasts) >= 3
    assert all(
        shape["attention_mask"][1]
        == shape["input_ids"][1] + shape["past_key_values.0.key"][2]
        for shape in shapes
    )  # fmt: skip


def check_generation(model: Any, artifact: Any, generate: Fixture, mask: Any) -> None:
    mask = torch.tensor(mask)
    tokens = torch.randint(3, 99, mask.shape, generator=torch.Generator().manual_seed(1))
    expected = model.generate(
        tokens, attention_mask=mask, max_new_tokens=STEPS, do_sample=False, pad_token_id=0
    )
    given = {"attention_mask": mask.numpy()}
    actual = generate(artifact, tokens.numpy(), STEPS, given)
    assert actual.shape == (len(mask), mask.shape[1] + STEPS)
    np.testing.assert_array_equal(actual, expected.numpy())
    assert len(np.unique(actual[:, -STEPS:])) >= 4  # the tokens tell models apart


@pytest.mark.parametrize(
    "mask", [[[1, 1, 1, 1, 1]], [[1]], [[0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [0, 1, 1, 1, 1]]]
)
def test_llama_generates_the_same_tokens(llama: Any, generate: Fixture, mask: Any) -> None:
    """Also with padding on the left, and from the first step, whose past is empty."""
    check_generation(*llama, generate, mask)


def test_a_sliding_window_forgets_what_transformers_forgets(
    make: Fixture, to_onnx: Fixture, generate: Fixture
) -> None:
    model = make("Mistral", "ForCausalLM")
    check_generation(model, to_onnx(model), generate, [[1] * 7, [0, 0, *[1] * 5]])


def test_gpt2_generates_the_same_tokens(make: Fixture, to_onnx: Fixture, generate: Fixture) -> None:
    model = make("GPT2", "LMHeadModel")
    artifact = to_onnx(model)
    check_generation(model, artifact, generate, [[0, 1, 1, 1], [1, 1, 1, 1]])
    assert model.config._attn_implementation == "sdpa"  # as it was before
