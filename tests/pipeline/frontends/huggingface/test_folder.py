"""Folders are looked at without transformers, and what they say is not trusted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.frontends.base import ConvertRequest
from onnxsmith.pipeline.frontends.huggingface.folder import open_folder
from onnxsmith.pipeline.frontends.huggingface.frontend import HuggingFaceFrontend
from onnxsmith.pipeline.frontends.table import FRONTENDS, choose_frontend

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write a folder: ``make(config, {name: text})``."""

    def write(config: Any = None, files: dict[str, str] | None = None) -> Path:
        known = {"model_type": "bert", "architectures": ["BertModel"]}
        text = config if isinstance(config, str) else json.dumps({**known, **(config or {})})
        for name, content in {"config.json": text, **(files or {})}.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(content)
        return tmp_path

    return write


def test_the_folder_and_the_files_in_it_are_recognised(make: Make) -> None:
    folder = make(None, {"model.safetensors": "", "other.safetensors": ""})
    for source in (folder, folder / "config.json", folder / "model.safetensors"):
        assert choose_frontend(str(source)).name == "huggingface"
    assert HuggingFaceFrontend().match(str(folder / "other.safetensors")) is None
    assert HuggingFaceFrontend().match("bert-base-uncased") is None


@pytest.mark.parametrize("config", ["{", "[]", '{"layers": 3}', "\xff", "[" * 100_000])
def test_other_configurations_are_not_taken(make: Make, config: str) -> None:
    assert HuggingFaceFrontend().match(str(make(config))) is None


def test_other_objects_are_not_taken() -> None:
    assert HuggingFaceFrontend().match_object(object()) is None


def test_the_row_in_the_table_is_this_frontend() -> None:
    assert FRONTENDS["huggingface"]().name == HuggingFaceFrontend.name


@pytest.mark.parametrize(
    ("config", "files", "message"),
    [
        ({"architectures": None}, {}, "does not name the architecture"),
        ({"architectures": []}, {}, "does not name the architecture"),
        ({"architectures": [3]}, {}, "does not name the architecture"),
        ({"quantization_config": {"bits": 4}}, {}, "are quantized by another tool"),
        ({}, {}, "holds no weights"),
        ({}, {"tf_model.h5": ""}, "holds only tf_model.h5"),
        ({}, {"model.safetensors": "", "adapter_config.json": "{}"}, "holds an adapter"),
        ("{", {}, "cannot read .*config.json"),
        ("3", {}, "holds no JSON object"),
    ],
)
def test_folders_that_cannot_be_taken(
    make: Make, config: Any, files: dict[str, str], message: str
) -> None:
    with pytest.raises(SmithError, match=message) as caught:
        open_folder(str(make(config, files)))
    assert caught.value.hint


def test_a_folder_without_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SmithError, match=r"there is no config\.json"):
        open_folder(str(tmp_path))


def test_a_huge_configuration_is_not_read(make: Make) -> None:
    folder = make()
    with (folder / "config.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(SmithError, match="more than any such file needs"):
        open_folder(str(folder))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../model.safetensors", "outside its folder"),
        ("/etc/model.safetensors", "outside its folder"),
        ("sub/model.safetensors", "outside its folder"),
        ("..\\model.safetensors", "outside its folder"),
        ("..", "outside its folder"),
        ("part-2.safetensors", "'part-2.safetensors' of .* is missing"),
        ("config.json", r"'config.json' of .* is missing"),
    ],
)
@pytest.mark.parametrize("index", ["model.safetensors", "pytorch_model.bin"])
def test_an_index_names_shards_of_its_own_folder_only(
    make: Make, index: str, name: str, message: str
) -> None:
    first = f"part-1{Path(index).suffix}"
    shards = json.dumps({"weight_map": {"a": first, "b": name}})
    folder = make(None, {f"{index}.index.json": shards, first: ""})
    with pytest.raises(SmithError, match=message):
        open_folder(str(folder))


@pytest.mark.parametrize("text", ["{}", '{"weight_map": {}}', '{"weight_map": ["a"]}'])
def test_an_index_without_shards_is_refused(make: Make, text: str) -> None:
    with pytest.raises(SmithError, match="names no shards"):
        open_folder(str(make(None, {"model.safetensors.index.json": text})))


def test_safetensors_are_preferred_to_pickles(make: Make) -> None:
    pickled = make(None, {"pytorch_model.bin": ""})
    assert not open_folder(str(pickled)).safe
    both = make(None, {"model.safetensors": ""})
    assert open_folder(str(both)).safe


def test_shards_are_found_and_named_by_their_digests(make: Make) -> None:
    shards = json.dumps({"weight_map": {"a": "2.safetensors", "b": "1.safetensors"}})
    files = {"model.safetensors.index.json": shards, "1.safetensors": "x", "2.safetensors": ""}
    folder = open_folder(str(make(None, files)))
    assert [file.name for file in folder.weights] == ["1.safetensors", "2.safetensors"]
    digests = folder.digests()
    assert list(digests) == ["config.json", "1.safetensors", "2.safetensors"]
    assert digests["1.safetensors"] == hashlib.sha256(b"x").hexdigest()


def test_separate_weights_are_a_usage_error(make: Make) -> None:
    request = ConvertRequest(str(make()), weights="other.safetensors")
    with pytest.raises(UsageError, match="holds its own weights"):
        HuggingFaceFrontend().open(request)
