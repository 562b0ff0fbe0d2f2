"""Look at a folder that ``save_pretrained`` wrote, without any framework.

What a folder says about itself is not trusted: an index of shards may name files elsewhere, a
configuration may ask for code of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnxsmith.errors import SmithError

CONFIG = "config.json"
# In the order of preference; the second of each pair lists shards.
_SAFE = ("model.safetensors", "model.safetensors.index.json")
_PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_FOREIGN = ("tf_model.h5", "flax_model.msgpack", "model.gguf")
# Configurations take kilobytes, indexes of the largest models a few megabytes.
_MAX_JSON = 64 * 1024**2


@dataclass(frozen=True)
class ModelFolder:
    """A folder with a model.

    Attributes:
        path: The folder.
        config: What ``config.json`` says.
        weights: The files of weights, in order.
    """

    path: Path
    config: Mapping[str, Any]
    weights: tuple[Path, ...]

    @property
    def safe(self) -> bool:
        """Whether the weights are safetensors, not a pickle."""
        return self.weights[0].suffix == ".safetensors"

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of the configuration and of each file of weights."""
        files = (self.path / CONFIG, *self.weights)
        from onnxsmith.artifact import file_digest  # imports ONNX; matching a source must not

        return {file.name: file_digest(file) for file in files}

    @property
    def architecture(self) -> str:
        """The class that the weights belong to, as ``config.json`` names it."""
        return str(self.config["architectures"][0])

    @property
    def code(self) -> Mapping[str, str]:
        """Which of transformers' automatic classes are code in the folder."""
        found = self.config.get("auto_map")
        return found if isinstance(found, dict) else {}


def find_folder(source: str) -> Path | None:
    """Return the folder that a source means: itself, or the one its weights or config lie in."""
    path = Path(source)
    if path.name in (CONFIG, *_SAFE, *_PICKLED) and path.is_file():
        path = path.parent
    return path if (path / CONFIG).is_file() else None


def is_model_folder(path: Path) -> bool:
    """Return whether the folder's ``config.json`` is one of transformers."""
    try:
        config = read_json(path / CONFIG)
    except SmithError:
        return False
    return "model_type" in config or "architectures" in config


def open_folder(source: str) -> ModelFolder:
    """Check a folder and return what it holds.

    Raises:
        SmithError: There is no configuration or there are no weights, or they are of a kind that
            is not taken.
    """
    path = find_folder(source)
    if path is None:
        raise SmithError(
            f"there is no {CONFIG} in {source}", "give the folder that save_pretrained wrote"
        )
    config = read_json(path / CONFIG)
    _check_config(config, path)
    return ModelFolder(path, config, _find_weights(path))


def read_json(path: Path) -> dict[str, Any]:
    """Read a file with one JSON object.

    Raises:
        SmithError: It is missing, too large or damaged.
    """
    try:
        size = path.stat().st_size
        if size > _MAX_JSON:
            raise SmithError(
                f"{path} has {size} bytes, more than any such file needs", "give the right file"
            )
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        what = " ".join(str(error).split())[:200]
        raise SmithError(f"cannot read {path}: {what}", "write the folder again") from error
    if not isinstance(found, dict):
        raise SmithError(f"{path} holds no JSON object", "write the folder again")
    return found


def _check_config(config: Mapping[str, Any], path: Path) -> None:
    names = config.get("architectures")
    if not (isinstance(names, list) and names and all(isinstance(name, str) for name in names)):
        raise SmithError(
            f"{path / CONFIG} does not name the architecture of the weights",
            'add its class, e.g. "architectures": ["BertModel"]',
        )
    if config.get("quantization_config") is not None:
        raise SmithError(
            f"the weights in {path} are quantized by another tool",
            "convert the model that was quantized, then use 'onnxsmith quantize'",
        )


def _find_weights(path: Path) -> tuple[Path, ...]:
    if (path / "adapter_config.json").is_file():
        raise SmithError(
            f"{path} holds an adapter of another model", "merge the two and save the result"
        )
    for single, index in (_SAFE, _PICKLED):
        if (path / single).is_file():
            return (path / single,)
        if (path / index).is_file():
            return _shards(path / index, Path(single).suffix)
    foreign = next((name for name in _FOREIGN if (path / name).is_file()), None)
    if foreign is not None:
        raise SmithError(
            f"{path} holds only {foreign}", "load it in transformers and save_pretrained it"
        )
    raise SmithError(f"{path} holds no weights", f"it needs {_SAFE[0]}, or {_SAFE[1]} and shards")


def _shards(path: Path, suffix: str) -> tuple[Path, ...]:
    """Return the shards that an index names, each a file of the folder itself.

    Raises:
        SmithError: The index is damaged, names a file elsewhere, or one that is missing.
    """
    shards = read_json(path).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise SmithError(f"{path} names no shards", "write the folder again")
    names = sorted({str(name) for name in shards.values()})
    for shard in names:
        if Path(shard).name != shard or "\\" in shard or shard in (".", ".."):
            raise SmithError(
                f"{path} names a file outside its folder: {shard!r}",
                "do not use this folder, or correct the index",
            )
        if not shard.endswith(suffix) or not (path.parent / shard).is_file():
            raise SmithError(f"the shard {shard!r} of {path} is missing", "copy all shards")
    return tuple(path.parent / shard for shard in names)
