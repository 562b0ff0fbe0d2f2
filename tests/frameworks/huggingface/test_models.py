"""Text, images and sound come in with Hugging Face's names and open dimensions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
import transformers

from onnxsmith.artifact import Artifact
from onnxsmith.errors import UsageError
from onnxsmith.pipeline.frontends.base import ConvertRequest
from onnxsmith.pipeline.frontends.convert import convert
from onnxsmith.pipeline.frontends.huggingface.frontend import HuggingFaceFrontend
from onnxsmith.runtime.session import Session

Fixture = Callable[..., Any]


def shapes(values: Any) -> dict[str, tuple[Any, ...]]:
    return {value.name: value.shape for value in values}


@pytest.fixture
def folder(make: Fixture, tmp_path: Path) -> Path:
    """A classifier of texts in several files, stored in half precision, with its tokenizer."""
    model = make("Bert", "ForSequenceClassification", id2label={0: "bad", 1: "good", 2: "so-so"})
    model.half().save_pretrained(tmp_path / "bert", max_shard_size="20KB")
    words = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({"[UNK]": 0, "a": 1, "fine": 2, "film": 3}, "[UNK]")
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="[UNK]", model_max_length=64
    ).save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


def test_a_folder_is_converted_on_the_command_line(
    folder: Path, tmp_path: Path, run_cli: Fixture
) -> None:
    assert (folder / "model.safetensors.index.json").is_file()
    out = tmp_path / "bert.onnx"
    ended = run_cli("convert", folder, "-o", out)
    assert ended.code == 0, ended.err
    artifact = Artifact.load(out)
    text = ("batch", "sequence")
    assert shapes(artifact.spec.inputs) == dict.fromkeys(
        ("input_ids", "attention_mask", "token_type_ids"), text
    )
    assert shapes(artifact.spec.outputs) == {"logits": ("batch", 3)}
    assert artifact.spec.output("logits").dtype == "float32"
    source, parity = artifact.history
    assert (source.name, source.result["route"]) == ("huggingface", "dynamo, eager attention")
    assert source.result["architecture"] == "BertForSequenceClassification"
    assert len(source.result["digests"]) >= 3
    assert parity.result["max_rel"] <= 1e-5
    assert len(parity.result["shapes"]) == 4
    metadata = artifact.model.metadata_props
    assert json.loads(metadata["onnxsmith.labels"]) == {"0": "bad", "1": "good", "2": "so-so"}
    tokenizer = json.loads(metadata["onnxsmith.tokenizer"])
    assert tokenizer["tokenizer.json"]["model"]["vocab"]["film"] == 3
    assert tokenizer["config"]["model_max_length"] == 64
    assert str(tmp_path) not in json.dumps([step.to_json() for step in artifact.history])


def test_padding_changes_nothing(make: Fixture, to_onnx: Fixture) -> None:
    """The default attention of transformers (not the one exported) gives the same numbers."""
    model = make("DistilBert", "ForTokenClassification")
    artifact = to_onnx(model)
    assert shapes(artifact.spec.outputs) == {"logits": ("batch", "sequence", 2)}
    tokens = torch.randint(0, 99, (2, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[1] * 9, [1] * 4 + [0] * 5])
    assert model.config._attn_implementation == "sdpa"
    with torch.no_grad():
        expected = model(input_ids=tokens, attention_mask=mask).logits.numpy()
        alone = model(input_ids=tokens[1:, :4]).logits.numpy()
    with Session(artifact, optimize=False) as session:
        feeds = {"input_ids": tokens.numpy(), "attention_mask": mask.numpy()}
        actual = session.run(feeds)["logits"]
    np.testing.assert_allclose(actual[0], expected[0], atol=1e-5)
    np.testing.assert_allclose(actual[1:, :4], alone, atol=1e-5)


def test_images_of_one_size_stay_so(make: Fixture, to_onnx: Fixture) -> None:
    spec = to_onnx(make("ViT", "ForImageClassification", num_labels=5)).spec
    assert shapes(spec.inputs) == {"pixel_values": ("batch", 3, 32, 32)}
    assert shapes(spec.outputs) == {"logits": ("batch", 5)}


def test_images_of_any_size_stay_open(make: Fixture, to_onnx: Fixture) -> None:
    """The configuration names 224 pixels, but the network runs on others."""
    model = make("ConvNext", "Model")
    artifact = to_onnx(model)
    assert artifact.spec.input("pixel_values").shape == ("batch", 3, "height", "width")
    pixels = torch.randn((1, 3, 50, 77))
    with torch.no_grad():
        expected = model(pixels).last_hidden_state.numpy()
    with Session(artifact, optimize=False) as session:
        actual = session.run({"pixel_values": pixels.numpy()})["last_hidden_state"]
    np.testing.assert_allclose(actual, expected, atol=1e-5 * np.abs(expected).max())


def test_images_take_the_size_asked_for(make: Fixture) -> None:
    wanted = "pixel_values:float32[batch,3,64,32]"
    result = convert(make("ConvNext", "Model"), inputs=(wanted,))
    assert result.artifact.spec.input("pixel_values").shape == ("batch", 3, 64, 32)


def test_sound_of_any_length(make: Fixture, to_onnx: Fixture) -> None:
    artifact = to_onnx(make("Wav2Vec2", "ForCTC"))
    assert shapes(artifact.spec.inputs) == {"input_values": ("batch", "samples")}
    logits = artifact.spec.output("logits").shape
    assert (logits[0], logits[2]) == ("batch", 40)
    assert isinstance(logits[1], str)


@pytest.fixture(scope="module")
def clip(make: Fixture) -> Any:
    return make("CLIP", "Model")


def test_two_towers_in_one(clip: Any, to_onnx: Fixture) -> None:
    spec = to_onnx(clip).spec
    assert shapes(spec.inputs) == {
        "input_ids": ("text_batch", "sequence"),
        "attention_mask": ("text_batch", "sequence"),
        "pixel_values": ("image_batch", 3, 32, 32),
    }
    assert shapes(spec.outputs) == {
        "logits_per_image": ("image_batch", "text_batch"),
        "logits_per_text": ("text_batch", "image_batch"),
        "text_embeds": ("text_batch", 16),
        "image_embeds": ("image_batch", 16),
    }


def test_one_tower_of_two(clip: Any, to_onnx: Fixture) -> None:
    spec = to_onnx(clip, "text").spec
    assert list(shapes(spec.inputs)) == ["input_ids", "attention_mask"]
    assert shapes(spec.outputs)["text_embeds"] == ("batch", 16)


def test_another_tower_is_a_usage_error(clip: Any) -> None:
    with pytest.raises(UsageError, match="CLIPModel has no part 'audio'") as caught:
        convert(clip, part="audio")
    assert caught.value.hint == (
        "give --part text or --part vision, or leave it away for the whole"
    )


def test_a_live_model_keeps_its_element_type(make: Fixture) -> None:
    model = make("ViT", "Model").half()
    source = HuggingFaceFrontend().adopt(model, ConvertRequest("ViTModel"))
    assert source.plan.feeds[0].spec.dtype == "float16"  # type: ignore[attr-defined]  # of our own class
