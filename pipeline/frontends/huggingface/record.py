"""What travels with the model: how to feed it and how to read what it gives.

The text goes into the ONNX file's metadata, so that the file alone says which tokenizer, which
scaling of images and which labels belong to it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnxsmith.pipeline.frontends.huggingface.folder import ModelFolder, read_json

_TOKENIZER_FILES = (
    "tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", "spiece.model", "tokenizer.model",
    "sentencepiece.bpe.model", "source.spm", "target.spm",
)  # fmt: skip
# Where its author had the tokenizer: paths do not belong into a model.
_PLACES = ("name_or_path", "tokenizer_file", "special_tokens_map_file", "vocab_file")
# Larger texts are left out and named: a vocabulary belongs beside the model, not into it.
MAX_TEXT = 64 * 1024


def describe_folder(folder: ModelFolder) -> dict[str, str]:
    """Return the metadata of a folder: tokenizer, preprocessor, labels, generation, pooling."""
    path = folder.path
    found: dict[str, Any] = {
        "tokenizer": _tokenizer(path),
        "preprocessor": _first(path, "preprocessor_config.json", "processor_config.json"),
        "labels": _labels(folder.config),
        "generation": _first(path, "generation_config.json"),
        "pooling": _first(path, "1_Pooling/config.json"),
    }
    return _texts(found)


def describe_model(config: Mapping[str, Any], generation: Mapping[str, Any]) -> dict[str, str]:
    """Return the metadata of a live model, which knows its labels and how it generates."""
    return _texts({"labels": _labels(config), "generation": dict(generation)})


def _texts(found: Mapping[str, Any]) -> dict[str, str]:
    return {f"onnxsmith.{name}": _text(value) for name, value in found.items() if value}


def _text(value: Mapping[str, Any]) -> str:
    """Return JSON text; entries that are too large for a header are left out and named."""
    kept = {name: item for name, item in value.items() if len(_json(item)) <= MAX_TEXT}
    left_out = sorted(value.keys() - kept.keys())
    if left_out:
        kept["left_out"] = left_out
    return _json(kept)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _tokenizer(path: Path) -> dict[str, Any]:
    """Return the tokenizer's settings, its own file where it is small, and all files' digests."""
    files = [path / name for name in _TOKENIZER_FILES if (path / name).is_file()]
    if not files:
        return {}
    found: dict[str, Any] = {
        "config": _first(path, "tokenizer_config.json"),
        "special_tokens": _first(path, "special_tokens_map.json"),
        "sha256": {file.name: _digest(file) for file in files},
    }
    whole = path / "tokenizer.json"
    if whole in files and whole.stat().st_size <= MAX_TEXT:
        found["tokenizer.json"] = read_json(whole)
    # Among the settings, tables of added tokens and chat templates may be large.
    found["config"] = {
        name: value
        for name, value in found["config"].items()
        if len(_json(value)) <= MAX_TEXT // 4 and name not in _PLACES
    }
    return {name: value for name, value in found.items() if value}


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _first(path: Path, *names: str) -> dict[str, Any]:
    file = next((path / name for name in names if (path / name).is_file()), None)
    return {} if file is None else read_json(file)


def _labels(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the classes by index, where they are more than transformers' LABEL_0, LABEL_1."""
    labels = config.get("id2label")
    if not isinstance(labels, dict):
        return {}
    named = {str(index): str(label) for index, label in labels.items()}
    made_up = all(label == f"LABEL_{index}" for index, label in named.items())
    return {} if made_up else named
