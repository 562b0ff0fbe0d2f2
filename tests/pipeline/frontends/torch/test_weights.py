"""Weights come from a file, mapped, under whatever prefix and key training left them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.torch.weights import load_weights, read_safetensors, read_state


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 3)
        self.norm = nn.BatchNorm1d(3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.table.weight


def pack(state: dict[str, torch.Tensor]) -> bytes:
    names = {torch.float32: "F32", torch.float16: "F16", torch.int64: "I64"}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, tensor in state.items():
        raw = tensor.contiguous().numpy().tobytes()
        header[name] = {
            "dtype": names[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.fixture
def other() -> Net:
    torch.manual_seed(1)
    net = Net()
    net.norm.running_mean = torch.randn(3)
    return net


def equal(net: nn.Module, other: nn.Module) -> bool:
    pairs = zip(net.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    ("nest", "prefix", "notes"),
    [
        ([], "", []),
        (["state_dict"], "", ["the weights stand under 'state_dict' in w.pt"]),
        ([], "module.", ["the prefix 'module.' was taken from the names of the weights"]),
        (
            ["model_state_dict"],
            "module._orig_mod.",
            [
                "the weights stand under 'model_state_dict' in w.pt",
                "the prefix 'module._orig_mod.' was taken from the names of the weights",
            ],
        ),
    ],
)
@pytest.mark.parametrize("modern", [True, False])
def test_checkpoints_are_taken_apart(
    tmp_path: Path, other: Net, nest: list[str], prefix: str, notes: list[str], modern: bool
) -> None:
    value: Any = {prefix + name: tensor for name, tensor in other.state_dict().items()}
    for key in nest:
        value = {"epoch": 3, key: value, "optimizer": {"lr": 0.1}}
    torch.save(value, tmp_path / "w.pt", _use_new_zipfile_serialization=modern)
    net = Net()
    assert list(load_weights(net, tmp_path / "w.pt")) == notes
    assert equal(net, other)
    assert net.head.weight is net.table.weight  # still tied


def test_safetensors_are_read(tmp_path: Path, other: Net) -> None:
    (tmp_path / "w.safetensors").write_bytes(pack(other.state_dict()))
    with torch.device("meta"):
        net = Net()
    assert load_weights(net, tmp_path / "w.safetensors") == ()
    assert equal(net, other)
    assert not net.table.weight.is_meta
    assert net.head.weight is net.table.weight


def test_the_type_of_the_module_stays(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2).half().state_dict(), tmp_path / "w.pt")
    net = nn.Linear(2, 2)
    (note,) = load_weights(net, tmp_path / "w.pt")
    assert "2 weights of w.pt were converted" in note
    assert "'weight' from float16 to float32" in note
    assert net.weight.dtype == torch.float32


def test_a_count_of_batches_may_be_missing(tmp_path: Path, other: Net) -> None:
    state = {n: t for n, t in other.state_dict().items() if "num_batches" not in n}
    torch.save(state, tmp_path / "w.pt")
    net = Net()
    load_weights(net, tmp_path / "w.pt")
    assert equal(net, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("norm.bias"), "it lacks 'norm.bias'"),
        (lambda s: s.update({"more": torch.ones(1)}), "the module has no 'more'"),
        (
            lambda s: s.update({"norm.bias": torch.ones(4)}),
            r"'norm.bias' is \[4\] and not \[3\]",
        ),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, other: Net, change: Any, message: str) -> None:
    state = dict(other.state_dict())
    change(state)
    torch.save(state, tmp_path / "w.pt")
    net = Net()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(SmithError, match=message):
        load_weights(net, tmp_path / "w.pt")
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize("value", [[1, 2], {"lr": 0.1}, torch.ones(2)])
def test_a_file_without_weights_by_name_is_refused(tmp_path: Path, value: Any) -> None:
    torch.save(value, tmp_path / "w.pt")
    with pytest.raises(SmithError, match="holds no weights by name"):
        read_state(tmp_path / "w.pt", [])


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"dtype": "F32", "shape": [2], "data_offsets": [0, 800]}, "lies outside the file"),
        ({"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}, "lies outside the file"),
        ({"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}, "lies outside the file"),
        ({"dtype": "F32", "shape": [1 << 62, 4], "data_offsets": [0, 8]}, "another size"),
        ({"dtype": "F99", "shape": [2], "data_offsets": [0, 8]}, "unreadable"),
        ({"dtype": "F32", "shape": "ab", "data_offsets": [0, 8]}, "unreadable"),
        ([], "unreadable"),
    ],
)
def test_safetensors_that_lie_are_refused(tmp_path: Path, entry: Any, message: str) -> None:
    text = json.dumps({"w": entry}).encode()
    (tmp_path / "w").write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    with pytest.raises(SmithError, match=message):
        read_safetensors(tmp_path / "w")


def test_files_that_hold_nothing_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty.pt").touch()
    with pytest.raises(SmithError, match=r"cannot read the weights .*empty.pt: EOFError") as caught:
        read_state(tmp_path / "empty.pt", [])
    assert caught.value.__cause__ is None
    with pytest.raises(SmithError, match="is a folder, not a file of weights"):
        read_state(tmp_path, [])


def test_damaged_safetensors_are_errors_only(tmp_path: Path) -> None:
    """Ten thousand mutations; each answer is an error of ours, or tensors within the file."""
    generator = np.random.default_rng(0)
    whole = np.frombuffer(pack({"a": torch.ones(2, 3), "b": torch.arange(4)}), np.uint8)
    read = 0
    for _ in range(10_000):
        changed = whole.copy()
        places = generator.integers(0, len(whole), generator.integers(1, 4))
        changed[places] = generator.integers(0, 256, len(places))
        cut = len(whole) if generator.random() < 0.8 else generator.integers(0, len(whole))
        (tmp_path / "w").write_bytes(changed[:cut].tobytes())
        try:
            state = read_safetensors(tmp_path / "w")
        except SmithError:
            continue
        read += 1
        assert all(tensor.nbytes <= cut for tensor in state.values())
    assert 500 < read < 9000
