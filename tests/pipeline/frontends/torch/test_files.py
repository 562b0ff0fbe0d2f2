"""Files are told apart by what they hold, and none runs code or leads out of itself."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.frontends.base import ConvertRequest, Match
from onnxsmith.pipeline.frontends.convert import convert
from onnxsmith.pipeline.frontends.torch.files import check_archive, check_code, kind_of
from onnxsmith.pipeline.frontends.torch.frontend import TorchFrontend
from onnxsmith.spec import ValueSpec

FORMS = {
    "script.pt": ("script", 1.0),
    "program.pt2": ("program", 1.0),
    "program.pt": ("program", 1.0),
    "state.pth": ("pickle", 1.0),
    "old.pth": ("pickle", 1.0),
    "module.bin": ("pickle", 1.0),
    "state.weights": ("pickle", 0.9),
    "state.safetensors": ("safetensors", 1.0),
}


def safetensors(header: str, data: bytes = b"") -> bytes:
    text = header.encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    module = nn.Linear(2, 2)
    program = torch.export.export(module, (torch.ones(3, 2),))
    torch.export.save(program, folder / "program.pt2")
    (folder / "program.pt").write_bytes((folder / "program.pt2").read_bytes())
    torch.save(module.state_dict(), folder / "state.pth")
    (folder / "state.weights").write_bytes((folder / "state.pth").read_bytes())
    torch.save(module.state_dict(), folder / "old.pth", _use_new_zipfile_serialization=False)
    torch.save(module, folder / "module.bin")
    (folder / "state.safetensors").write_bytes(safetensors("{}"))
    buffer = io.BytesIO()
    script(module, buffer)
    (folder / "script.pt").write_bytes(buffer.getvalue())
    return folder


def script(module: nn.Module, where: Any) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(module), where)


@pytest.mark.parametrize("name", FORMS)
def test_files_are_told_apart(files: Path, name: str) -> None:
    kind, confidence = FORMS[name]
    assert kind_of(files / name) == kind
    match = TorchFrontend().match(str(files / name))
    assert match is not None
    assert match.confidence == confidence


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\x03\x04 damaged", b"ONNX", b"\x08\x07\x12"])
def test_other_files_are_not_ours(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.dat"
    path.write_bytes(content)
    assert kind_of(path) is None
    assert TorchFrontend().match(str(path)) is None


def test_a_damaged_file_with_our_suffix_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(b"nothing")
    assert TorchFrontend().match(str(path)) == Match(0.5, "the suffix is .pt")
    with pytest.raises(SmithError, match="nothing that PyTorch wrote") as caught:
        TorchFrontend().open(ConvertRequest(str(path)))
    assert "--weights FILE" in caught.value.hint


@pytest.mark.parametrize("name", ["state.pth", "old.pth", "state.safetensors"])
def test_weights_alone_are_no_source(files: Path, name: str) -> None:
    with pytest.raises(SmithError, match="holds weights alone, not the network") as caught:
        TorchFrontend().open(ConvertRequest(str(files / name)))
    assert f"package.module:callable --weights {files / name}" in caught.value.hint


def test_a_pickled_module_needs_trust(files: Path) -> None:
    request = ConvertRequest(
        str(files / "module.bin"), inputs=(ValueSpec("x", "float32", ("batch", 2)),)
    )
    with pytest.raises(
        SmithError, match=r"a pickle of torch\.nn\.modules\.linear\.Linear"
    ) as error:
        TorchFrontend().open(request)
    assert "--trust" in error.value.hint
    assert "state_dict()" in error.value.hint
    trusted = ConvertRequest(request.source, inputs=request.inputs, trust=True)
    found = TorchFrontend().open(trusted).reference({"x": np.ones((1, 2), np.float32)})
    assert found["output"].shape == (1, 2)


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("modern", [True, False])
def test_a_pickle_runs_nothing_without_trust(tmp_path: Path, modern: bool) -> None:
    torch.save(
        {"w": torch.ones(1), "evil": Evil(tmp_path / "was-run")},
        tmp_path / "evil.pt",
        _use_new_zipfile_serialization=modern,
    )
    with pytest.raises(SmithError, match="reading it runs the code that it names"):
        TorchFrontend().open(ConvertRequest(str(tmp_path / "evil.pt")))
    with pytest.raises(SmithError, match="reading it runs code"):
        TorchFrontend().adopt(
            nn.Linear(2, 2), ConvertRequest("net:build", str(tmp_path / "evil.pt"))
        )
    assert not (tmp_path / "was-run").exists()


def test_a_module_within_a_checkpoint_is_found(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "model": nn.Linear(2, 2)}, tmp_path / "last.pt")
    request = ConvertRequest(
        str(tmp_path / "last.pt"), inputs=(ValueSpec("x", "float32", ("n", 2)),), trust=True
    )
    assert TorchFrontend().open(request) is not None
    torch.save([nn.Linear(2, 2)], tmp_path / "list.pt")
    with pytest.raises(SmithError, match=r"holds a list, not an nn\.Module"):
        TorchFrontend().open(ConvertRequest(str(tmp_path / "list.pt"), trust=True))


def test_files_take_no_other_weights(files: Path) -> None:
    request = ConvertRequest(str(files / "script.pt"), str(files / "state.pth"))
    with pytest.raises(SmithError, match="a file has its own weights"):
        TorchFrontend().open(request)


@pytest.mark.parametrize("member", ["../evil", "/etc/evil", "m/../../evil", "..\\evil", "C:/evil"])
def test_an_archive_that_leads_out_is_refused(tmp_path: Path, member: str) -> None:
    path = tmp_path / "evil.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", b"")
        archive.writestr(member, b"x")
    with pytest.raises(SmithError, match="which leads out of it"):
        check_archive(path)
    with pytest.raises(SmithError, match="which leads out of it"):
        TorchFrontend().open(ConvertRequest(str(path)))


def test_an_archive_that_unpacks_to_far_more_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/constants.pkl", b"")
        archive.writestr("m/code/a.py", bytes(100_000_000))
    with pytest.raises(SmithError, match="unpacks to far more"):
        TorchFrontend().open(ConvertRequest(str(path)))


@pytest.mark.parametrize("call", ["torch.save(x, 'f')", "ops.aten.from_file('f')"])
def test_a_script_that_opens_files_needs_trust(tmp_path: Path, call: str) -> None:
    path = tmp_path / "evil.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/constants.pkl", b"")
        archive.writestr("m/code/__torch__.py", f"def forward(self, x):\n  {call}\n")
    with pytest.raises(SmithError, match="opens files on this machine") as caught:
        check_code(path)
    assert "--trust" in caught.value.hint


class Writes(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.save(x, "written.by.the.model")
        return x


def test_a_real_script_that_writes_is_caught(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    script(Writes(), str(tmp_path / "writes.pt"))
    request = ConvertRequest("writes.pt", inputs=(ValueSpec("x", "float32", (2,)),))
    with pytest.raises(SmithError, match=r"torch\.save, which opens files"):
        TorchFrontend().open(request)
    assert os.listdir(tmp_path) == ["writes.pt"]


@pytest.mark.parametrize("name", ["script.pt", "state.pth", "old.pth", "program.pt2"])
def test_a_cut_file_is_an_error_and_no_crash(files: Path, tmp_path: Path, name: str) -> None:
    whole = (files / name).read_bytes()
    for part in range(0, len(whole), max(1, len(whole) // 12)):
        path = tmp_path / name
        path.write_bytes(whole[:part])
        with pytest.raises(SmithError):
            TorchFrontend().open(ConvertRequest(str(path)))


class Branch(nn.Module):
    """A branch on values, a loop, a second input that is optional."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor, times: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.linear(x) if bool(x.sum() > 0) else x * 2
        for _ in range(3):
            y = y + 1
        return y, y * times


class Stateful(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Branch()
        self.last = torch.zeros(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.last = x
        return x + self.last


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[nn.Module], Path]:
    def save(module: nn.Module) -> Path:
        script(module, str(tmp_path / "model.pt"))
        return tmp_path / "model.pt"

    return save


def test_a_script_keeps_its_branches(saved: Callable[[nn.Module], Path]) -> None:
    result = convert(saved(Branch()), inputs=("x:float32[batch,4]", "t:float32[batch,4]"))
    artifact = result.artifact
    assert [value.name for value in artifact.spec.inputs] == ["x", "t"]
    assert "If" in {node.op_type for node in artifact.model.graph}
    assert artifact.history[0].result["route"] == "legacy"
    assert max(difference.max_rel for difference in result.parity) < 1e-5


def test_a_traced_module_comes_in_at_every_size(tmp_path: Path) -> None:
    import warnings

    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        traced = torch.jit.trace(module, torch.ones(2, 3, 8, 8))
        torch.jit.save(traced, tmp_path / "traced.pt")
    result = convert(tmp_path / "traced.pt", inputs=("image:float32[batch,3,height,width]",))
    assert result.artifact.spec.input("image").shape == ("batch", 3, "height", "width")
    assert [node.op_type for node in result.artifact.model.graph] == ["Conv", "Relu"]


@pytest.mark.parametrize(
    ("inputs", "part", "kind", "message"),
    [
        ((), None, UsageError, r"forward\(Tensor x, Tensor times\)"),
        (("x:float32[2,4]",), None, UsageError, "1 inputs are given, and the script is forward"),
        (("x:float32[2,4]",), "nix", UsageError, "no part 'nix'"),
    ],
)
def test_a_script_says_what_it_takes(
    saved: Callable[[nn.Module], Path],
    inputs: tuple[str, ...],
    part: str | None,
    kind: type[SmithError],
    message: str,
) -> None:
    request = ConvertRequest(
        str(saved(Branch())), inputs=tuple(map(ValueSpec.parse, inputs)), part=part
    )
    with pytest.raises(kind, match=message):
        TorchFrontend().open(request)


def test_a_script_that_keeps_state_offers_its_parts(saved: Callable[[nn.Module], Path]) -> None:
    path = saved(Stateful())
    with pytest.raises(SmithError, match="keeps state between its calls") as caught:
        TorchFrontend().open(ConvertRequest(str(path)))
    assert "--part: inner" in caught.value.hint
    specs = tuple(map(ValueSpec.parse, ("x:float32[batch,4]", "times:float32[batch,4]")))
    request = ConvertRequest(str(path), inputs=specs, part="inner")
    assert TorchFrontend().open(request) is not None


class Sized(nn.Module):
    def forward(self, x: torch.Tensor, n: int) -> torch.Tensor:
        return x * n


def test_an_argument_that_is_no_tensor_is_named(saved: Callable[[nn.Module], Path]) -> None:
    specs = tuple(map(ValueSpec.parse, ("x:float32[2]", "n:int64[]")))
    with pytest.raises(SmithError, match="'n' of the script is no tensor but of type int"):
        TorchFrontend().open(ConvertRequest(str(saved(Sized())), inputs=specs))
