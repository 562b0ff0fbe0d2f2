"""The ONNX file says what it must be fed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from onnxsmith.pipeline.frontends.huggingface.folder import ModelFolder
from onnxsmith.pipeline.frontends.huggingface.record import (
    MAX_TEXT,
    describe_folder,
    describe_model,
)


def record(folder: Path, config: dict[str, Any] | None = None) -> dict[str, Any]:
    texts = describe_folder(ModelFolder(folder, config or {}, ()))
    return {name.removeprefix("onnxsmith."): json.loads(text) for name, text in texts.items()}


def test_an_empty_folder_says_nothing(tmp_path: Path) -> None:
    assert record(tmp_path) == {}


def test_a_small_tokenizer_travels_whole(tmp_path: Path) -> None:
    text = json.dumps({"model": {"vocab": {"a": 0}}})
    (tmp_path / "tokenizer.json").write_text(text)
    (tmp_path / "tokenizer_config.json").write_text(
        '{"model_max_length": 512, "name_or_path": "/home/me"}'
    )
    (tmp_path / "special_tokens_map.json").write_text('{"pad_token": "[PAD]"}')
    tokenizer = record(tmp_path)["tokenizer"]
    assert tokenizer["tokenizer.json"] == json.loads(text)
    assert tokenizer["config"] == {"model_max_length": 512}
    assert tokenizer["special_tokens"] == {"pad_token": "[PAD]"}
    assert tokenizer["sha256"] == {"tokenizer.json": hashlib.sha256(text.encode()).hexdigest()}


def test_a_large_tokenizer_is_named_by_its_digest(tmp_path: Path) -> None:
    text = json.dumps({"vocab": "x" * MAX_TEXT})
    (tmp_path / "tokenizer.json").write_text(text)
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"padding_side": "left", "chat_template": "x" * MAX_TEXT})
    )
    tokenizer = record(tmp_path)["tokenizer"]
    assert "tokenizer.json" not in tokenizer
    assert tokenizer["config"] == {"padding_side": "left"}
    assert tokenizer["sha256"]["tokenizer.json"] == hashlib.sha256(text.encode()).hexdigest()


def test_images_are_explained(tmp_path: Path) -> None:
    settings = {"image_mean": [0.5, 0.5, 0.5], "size": {"height": 224, "width": 224}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    assert record(tmp_path)["preprocessor"] == settings


def test_what_is_too_large_is_named(tmp_path: Path) -> None:
    settings = {"size": 224, "filters": [0.25] * MAX_TEXT}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    assert record(tmp_path)["preprocessor"] == {"size": 224, "left_out": ["filters"]}


def test_labels_are_kept_unless_they_are_made_up(tmp_path: Path) -> None:
    named = {"id2label": {"0": "cat", "1": "dog"}}
    assert record(tmp_path, named)["labels"] == {"0": "cat", "1": "dog"}
    made_up = {"id2label": {0: "LABEL_0", 1: "LABEL_1"}}
    assert record(tmp_path, made_up) == {}
    assert record(tmp_path, {"id2label": ["cat"]}) == {}


def test_a_live_model_knows_its_labels_and_how_it_generates() -> None:
    texts = describe_model({"id2label": {0: "kæt"}}, {"eos_token_id": 2})
    assert texts == {
        "onnxsmith.labels": '{"0": "kæt"}',
        "onnxsmith.generation": '{"eos_token_id": 2}',
    }
