"""What cannot be taken is said in one line, and no code runs without trust."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.frontends.base import ConvertRequest
from onnxsmith.pipeline.frontends.huggingface.frontend import HuggingFaceFrontend

Fixture = Callable[..., Any]

CODE = """
from pathlib import Path
import torch
from transformers import BertConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

Path(__file__).with_name("ran").touch()

class OwnConfig(BertConfig):
    model_type = "own"

class OwnModel(PreTrainedModel):
    config_class = OwnConfig

    def __init__(self, config):
        super().__init__(config)
        self.table = torch.nn.Embedding(config.vocab_size, 4)
        self.post_init()

    def forward(self, input_ids, attention_mask=None):
        return BaseModelOutput(last_hidden_state=self.table(input_ids))
"""


@pytest.fixture
def folder(make: Fixture, tmp_path: Path) -> Path:
    make("Bert", "Model").save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


def opened(folder: Path, **options: Any) -> Any:
    return HuggingFaceFrontend().open(ConvertRequest(str(folder), **options))


def edit(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def test_a_model_opens_and_the_environment_stays(folder: Path) -> None:
    before = dict(os.environ)
    assert opened(folder).plan.outputs == ("last_hidden_state", "pooler_output")
    assert dict(os.environ) == before


def test_a_pickle_of_plain_tensors_opens(folder: Path) -> None:
    state = safetensors.torch.load_file(folder / "model.safetensors")
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert opened(folder).plan.outputs == ("last_hidden_state", "pooler_output")


def test_a_pickle_that_runs_code_does_not(folder: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "ran"),)

    (folder / "model.safetensors").unlink()
    torch.save({"x": Evil()}, folder / "pytorch_model.bin")
    with pytest.raises(SmithError, match="cannot load"):
        opened(folder, trust=True)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"x": Evil()}))
    with pytest.raises(SmithError, match="cannot load"):
        opened(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("keep", [0, 4, 8, 100, 5000])
def test_truncated_weights_are_refused(folder: Path, keep: int) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(SmithError, match=r"cannot load .* as BertModel"):
        opened(folder)


def test_a_header_that_lies_is_refused(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes((1 << 60).to_bytes(8, "little") + weights.read_bytes()[8:])
    with pytest.raises(SmithError, match="cannot load"):
        opened(folder)


def test_lost_weights_are_refused(folder: Path) -> None:
    state = safetensors.torch.load_file(folder / "model.safetensors")
    del state["encoder.layer.1.output.dense.weight"]
    safetensors.torch.save_file(state, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(SmithError, match=r"no weights that fit encoder\.layer\.1\.output\.dense"):
        opened(folder)


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    edit(folder, intermediate_size=128)
    with pytest.raises(SmithError, match=r"cannot load|no weights that fit"):
        opened(folder)


def test_an_output_without_weights_is_left_out(folder: Path) -> None:
    """Sentence encoders are often saved without the pooler that nothing trained."""
    state = safetensors.torch.load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in state.items() if "pooler" not in name}
    safetensors.torch.save_file(kept, folder / "model.safetensors", {"format": "pt"})
    source = opened(folder)
    assert source.plan.outputs == ("last_hidden_state",)
    assert "'pooler_output' is left out" in source._warnings()[0]


@pytest.mark.parametrize("name", ["NoSuchModel", "pipeline", "os.system", "AutoModel"])
def test_unknown_architectures_are_named(folder: Path, name: str) -> None:
    edit(folder, architectures=[name])
    with pytest.raises(SmithError, match=f"has no architecture '{name}'"):
        opened(folder)


@pytest.fixture
def own(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose architecture is code in it."""
    monkeypatch.setattr(
        "transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules")
    )
    edit(
        folder,
        model_type="own",
        architectures=["OwnModel"],
        auto_map={"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"},
    )
    (folder / "own.py").write_text(CODE)
    table = torch.zeros((99, 4))
    safetensors.torch.save_file(
        {"table.weight": table}, folder / "model.safetensors", {"format": "pt"}
    )
    return folder


def test_code_in_the_folder_needs_trust(own: Path, tmp_path: Path) -> None:
    with pytest.raises(SmithError, match=r"'OwnModel' is code in") as caught:
        opened(own)
    assert "--trust" in caught.value.hint
    assert not list(tmp_path.rglob("ran"))
    assert opened(own, trust=True).plan.outputs == ("last_hidden_state",)
    assert list(tmp_path.rglob("ran"))


def test_code_in_another_repository_is_refused(own: Path) -> None:
    edit(own, auto_map={"AutoModel": "someone/else--own.OwnModel"})
    with pytest.raises(SmithError, match="lies in another repository"):
        opened(own, trust=True)


def test_a_state_that_is_no_cache_is_refused(make: Fixture) -> None:
    with pytest.raises(SmithError, match="MambaForCausalLM is not covered: it generates with"):
        HuggingFaceFrontend().adopt(make("Mamba", "ForCausalLM"), ConvertRequest("x"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"part": "encoder"}, "BertModel has no part 'encoder': it is one model"),
        ({"dims": {"width": 3}}, "no input has a dimension 'width'"),
        ({"dims": {"batch": 1}}, "example size 1 of the dimension 'batch' is too small"),
        ({"weights": "x"}, "holds its own weights"),
    ],
)
def test_options_that_do_not_fit(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        opened(folder, **options)


def test_other_objects_are_refused() -> None:
    with pytest.raises(SmithError, match="is no PreTrainedModel"):
        HuggingFaceFrontend().adopt(torch.nn.Linear(2, 2), ConvertRequest("Linear"))
