"""Which files are a program of PaddlePaddle: told by content, without Paddle."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.paddle.files import find_program, is_program
from onnxsmith.pipeline.frontends.paddle.frontend import PaddleFrontend
from onnxsmith.pipeline.frontends.table import choose_frontend

PIR = b'{"base_code":{"magic":"pir","trainable":true,"version":4},"program":{"regions":[%s]}}'
PARAMETER = PIR % b'{"#":"p","A":[0,1,1,"linear_0.w_0"]}'
NO_PARAMETER = PIR % b""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net.json").write_bytes(PARAMETER)
    (tmp_path / "net.pdiparams").write_bytes(b"weights")
    (tmp_path / "config.json").write_text('{"name": "pir", "base_code": {"magic": "other"}}')
    return tmp_path


@pytest.mark.parametrize("name", ["net.json", "net.pdiparams", "net", "."])
def test_file_weights_prefix_and_folder_name_the_same_program(folder: Path, name: str) -> None:
    source = str(folder / name)
    assert is_program(source)
    assert choose_frontend(source).name == "paddle"
    program = find_program(source, None)
    assert (program.graph.name, program.weights) == ("net.json", folder / "net.pdiparams")


def test_the_old_format_is_found_too(tmp_path: Path) -> None:
    (tmp_path / "inference.pdmodel").write_bytes(b"\x0a\x00")
    (tmp_path / "inference.pdiparams").touch()
    for name in ("inference", "inference.pdmodel", "inference.pdiparams", "."):
        assert find_program(str(tmp_path / name), None).graph.name == "inference.pdmodel"
    (tmp_path / "inference.json").write_bytes(PARAMETER)
    assert find_program(str(tmp_path / "inference"), None).graph.name == "inference.json"
    with pytest.raises(SmithError, match=r"several programs: inference\.json, inference\.pdmodel"):
        find_program(str(tmp_path), None)


def test_other_json_files_are_not_taken(folder: Path) -> None:
    for text in (
        b"",
        b"{}",
        b"[1]",
        b'{"base_code": 3}',
        b"\xff\xfe",
        b'{"nodes": [], "x": "pir"}',
    ):
        (folder / "other.json").write_bytes(text)
        assert not is_program(str(folder / "other.json"))
        with pytest.raises(SmithError, match="is no program of PaddlePaddle"):
            find_program(str(folder / "other.json"), None)
    assert not is_program(str(folder / "config.json"))
    assert not is_program(str(folder / "config"))
    assert not is_program(str(folder / "none"))


def test_missing_weights_are_said(folder: Path) -> None:
    (folder / "net.pdiparams").rename(folder / "elsewhere.bin")
    with pytest.raises(SmithError, match=r"the weights of .*net\.json are missing") as caught:
        find_program(str(folder / "net.json"), None)
    assert "--weights" in caught.value.hint
    named = find_program(str(folder / "net"), str(folder / "elsewhere.bin"))
    assert named.weights == folder / "elsewhere.bin"
    (folder / "net.json").write_bytes(NO_PARAMETER)
    assert find_program(str(folder / "net"), None).weights is None
    (folder / "old.pdmodel").touch()
    with pytest.raises(SmithError, match=r"there is no old\.pdiparams beside it"):
        find_program(str(folder / "old.pdmodel"), None)
    with pytest.raises(SmithError, match="is no program of PaddlePaddle"):
        find_program(str(folder / "lost.pdiparams"), None)


def test_callables_match_by_what_their_module_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text("from paddle import nn\n")
    (tmp_path / "other.py").write_text("import json\n")
    frontend = PaddleFrontend()
    match = frontend.match("nets:Net")
    assert match is not None
    assert match.reason == "its module imports paddle"
    assert frontend.match("other:Net") is None
    assert frontend.match_object(object()) is None


def test_the_frontend_imports_no_framework() -> None:
    code = (
        "import sys; import onnxsmith.pipeline.frontends.paddle.frontend;"
        "print([n for n in ('paddle', 'paddle2onnx', 'onnx') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
