"""``onnxsmith convert`` and ``onnxsmith frontends`` as a user runs them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import onnx
import pytest

from onnxsmith.cli.main import run

SOURCES = """
    import sys, time
    import torch
    from torch import nn

    example_inputs = {"x": torch.randn(2, 4)}

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(4, 3)

        def forward(self, x):
            return {"scores": self.head(x)}

    class Wrong(nn.Module):
        def forward(self, x):
            return x + 1 if torch.onnx.is_in_onnx_export() else x + 2

    def endless():
        open("started", "w").close()
        while True: time.sleep(1)

    def leaves():
        print("[bold]words of the user[/bold]")
        sys.exit(3)
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "net.py").write_text(textwrap.dedent(SOURCES))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_module_is_converted_and_told_as_json(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--input", "x:float32[batch,4]", "--rename", "scores=y", "--opset", "18"]
    assert run(["convert", "net:Net", "-o", "out.onnx", *arguments, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["frontend"] == "torch"
    assert told["inputs"] == ["x: float32[batch,4]"]
    assert told["outputs"] == ["y: float32[batch,3]"]
    assert told["parity"][0]["ok"]
    assert [step["kind"] for step in told["history"]] == ["source", "parity"]
    model = onnx.load("out.onnx")
    assert model.opset_import[0].version == 18
    assert str(project) not in str(model)
    onnx.checker.check_model(model, full_check=True)


def test_a_wrong_graph_exits_4_and_leaves_the_old_file(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "out.onnx").write_bytes(b"old")
    assert run(["convert", "net:Wrong", "-o", "out.onnx"]) == 4
    assert (project / "out.onnx").read_bytes() == b"old"
    assert "does not compute what its source does" in capsys.readouterr().err
    assert run(["convert", "net:Wrong", "-o", "out.onnx", "--no-verify"]) == 0
    assert "not compared" in capsys.readouterr().err
    onnx.load("out.onnx")


def test_what_the_source_printed_is_shown_and_no_markup_obeyed(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["convert", "net:leaves", "-o", "out.onnx"]) == 1
    told = capsys.readouterr().err
    assert "  | [bold]words of the user[/bold]" in told
    assert "SystemExit: 3" in told
    assert not (project / "out.onnx").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["net:Net"], 2, "-o"),
        (["net:Net", "-o", "o.onnx", "--from", "tensorfolw"], 2, "unknown frontend"),
        (["net:Net", "-o", "o.onnx", "--input", "x"], 2, "cannot read the input"),
        (["net:Net", "-o", "o.onnx", "--dim", "n"], 2, "cannot read the dimension"),
        (["net:Net", "-o", "o.onnx", "--opset", "99"], 2, "opset 99"),
        (["net:Net", "-o", "o.onnx", "--target", "mars"], 2, "unknown target"),
        (["net:Net", "-o", "o.onnx", "--rename", "x"], 2, "OLD=NEW"),
        (["gone.onnx", "-o", "o.onnx"], 1, "there is no file gone.onnx"),
        (["gone:Net", "-o", "o.onnx", "--from", "sklearn"], 1, "no module 'gone'"),
        (["gone:Net", "-o", "o.onnx"], 1, "no module 'gone'"),
        (["", "-o", "o.onnx"], 2, "the source is empty"),
        (["what.ever", "-o", "o.onnx"], 2, "no frontend takes"),
    ],
)
def test_mistakes_have_their_code_and_one_line(
    project: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    told: str,
) -> None:
    assert run(["convert", *arguments]) == code
    text = capsys.readouterr().err
    assert told in text
    assert "Traceback" not in text


def test_options_that_mean_nothing_to_an_onnx_file_are_refused(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]> '
        'agraph (float[b, 3] x) => (float["b + c", 3] z) { z = Concat<axis=0>(x, x) }'
    )
    onnx.save(model, "net.onnx")
    assert run(["convert", "net.onnx", "-o", "o.onnx", "--dim", "batch=4"]) == 2
    told = capsys.readouterr().err
    assert "no input has a dimension called 'batch'" in told
    assert "its dimensions: b" in told
    assert not (project / "o.onnx").exists()
    options = ["--part", "encoder"], ["--data", "npz:gone.npz"], ["--preprocess", "x?scale=abc"]
    for option, code in zip(options, (2, 1, 2), strict=True):
        assert run(["convert", "net.onnx", "-o", "o.onnx", *option]) == code
    told = capsys.readouterr().err
    assert "models of onnx have no parts" in told
    assert "there is no file 'gone.npz'" in told
    for dim in ("b=4", "N=4"):
        assert run(["convert", "net.onnx", "-o", "o.onnx", "--dim", dim, "--rename", "b=N"]) == 0


def test_ctrl_c_ends_the_command_and_its_worker(project: Path) -> None:
    command = [sys.executable, "-P", "-m", "onnxsmith", "convert", "net:endless", "-o", "o.onnx"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not (project / "started").exists():
        assert process.poll() is None
        time.sleep(0.05)
    children = [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/stat")
        if _parent(path) == process.pid
    ]
    process.send_signal(signal.SIGINT)
    assert "interrupted" in process.communicate()[1]
    assert process.returncode == 130
    assert children
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def test_frontends_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["frontends", "list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["torch"]["installed"]
    assert ".pt2" in rows["torch"]["accepts"]
    assert run(["frontends", "list"]) == 0
    assert "sklearn" in capsys.readouterr().out


def test_listing_frontends_imports_no_framework() -> None:
    code = (
        "import sys; from onnxsmith.cli.main import run; run(['frontends', 'list']);"
        "sys.exit(' '.join({'torch', 'sklearn', 'onnx', 'onnxruntime'} & set(sys.modules)) or None)"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True, stdout=subprocess.DEVNULL)


def _parent(stat: Path) -> int:
    try:
        return int(stat.read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0
