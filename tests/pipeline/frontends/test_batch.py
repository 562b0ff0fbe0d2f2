"""A list of models is converted, each in a process of its own, and one fault stops none of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.frontends.batch import convert_batch
from onnxsmith.pipeline.frontends.batch_file import BatchEntry, load_batch

SOURCES = """
    import numpy as np, os, sys, time
    from sklearn.linear_model import Ridge

    def ridge():
        rng = np.random.default_rng(0)
        x = rng.normal(size=(60, 5))
        return Ridge().fit(x, np.exp(x[:, 0]))

    def endless():
        open(f"started-{os.getppid()}", "w").close()
        while True: time.sleep(1)
"""
NET = """
    from torch import nn

    def net():
        return nn.Linear(5, 3)
"""
TEXT = "g (float[batch, 4] x) => (float[batch, 4] y) { y = Relu(x) }"


@pytest.fixture
def folder(tmp_path: Path, parse_model: Callable[..., onnx.ModelProto]) -> Path:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "est.py").write_text(textwrap.dedent(SOURCES))
    (tmp_path / "lists" / "net.py").write_text(textwrap.dedent(NET))
    onnx.save(parse_model(TEXT), tmp_path / "lists" / "relu.onnx")
    return tmp_path


def write(folder: Path, text: str) -> Path:
    path = folder / "lists" / "batch.yaml"
    path.write_text(textwrap.dedent(text))
    return path


MIX = """
    # Options have the names that they have on the command line.
    - source: relu.onnx
      output: relu.onnx
      opset: 17
      rename: {x: image}
    - source: est:ridge
      output: ridge.onnx
      input: features:float32[batch,5]
    - source: net:net
      output: net.onnx
      input:
        - x:float32[samples,5]
      dim: samples=3
    - source: est:ridge
      output: exact.onnx
      rtol: 0
      atol: 0
    - source: none.onnx
      output: none-out.onnx
"""


def test_a_mix_is_converted_beside_what_fails(folder: Path) -> None:
    told: list[str] = []
    outcomes = convert_batch(
        write(folder, MIX),
        out=folder / "made" / "here",
        jobs=2,
        report=lambda outcome: told.append(outcome.output),
    )
    assert [o.status for o in outcomes] == ["written", "written", "written", "refused", "failed"]
    assert [o.frontend for o in outcomes] == ["onnx", "sklearn", "torch", "", ""]
    assert sorted(told) == sorted(o.output for o in outcomes)
    relu, ridge, net, exact, none = outcomes
    assert relu.nodes == 1
    assert ridge.parity is not None
    assert 0 < ridge.parity < 1e-5
    assert net.nodes is not None
    assert exact.reason.startswith("the ONNX model does not compute what its source does")
    assert (none.reason, none.hint) == ("there is no file none.onnx", "check the path")
    made = folder / "made" / "here"
    assert sorted(p.name for p in made.iterdir()) == ["net.onnx", "relu.onnx", "ridge.onnx"]
    model = onnx.load(made / "relu.onnx")
    assert model.opset_import[0].version == 17
    assert model.graph.input[0].name == "image"
    dims = onnx.load(made / "net.onnx").graph.input[0].type.tensor_type.shape.dim
    assert dims[0].dim_param == "samples"
    assert json.loads(json.dumps(relu.to_json()))["status"] == "written"


def test_entries_come_from_python_too(folder: Path) -> None:
    entries = [
        BatchEntry(source="relu.onnx", output="a.onnx", domains=("mine",)),
        {"source": "relu.onnx", "output": "b.onnx", "from": "onnx"},
    ]
    outcomes = convert_batch(entries, folder=folder / "lists")
    assert [o.status for o in outcomes] == ["written", "written"]
    assert (folder / "lists" / "a.onnx").is_file()
    with pytest.raises(UsageError, match="a conversion is wrong: form"):
        convert_batch([{"source": "x", "output": "y", "form": "onnx"}])
    with pytest.raises(UsageError, match="cannot run 0 conversions"):
        convert_batch(entries, jobs=0)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("- source: a\n  output: b\n  opsett: 3\n", "line 3: unknown key 'opsett'", "'opset'"),
        ("- source: a\n\n  no_verify: 1\n", "line 3: unknown key 'no_verify'", "'no-verify'"),
        ("- source: a\n  source: b\n", "line 2: the key 'source' is there twice", "remove"),
        ("- source: a\n  output: b\n- source: c\n", "line 3: the entry has no 'output'", "add"),
        ("- source: a\n  output: b\n  opset: many\n", "line 3: opset: .* integer", "--help"),
        (
            "- source: a\n  output: b\n  timeout: 0\n",
            "line 3: timeout: .* greater than 0",
            "--help",
        ),
        ("- source: a\n  output: [b]\n", "line 2: output: .* string", "--help"),
        ("- source: a\n  output: b\n- c.onnx\n", "line 3: an entry is not a mapping", "- source"),
        ("- source: a\n  output: b\n  [1]: 2\n", "unknown key", ""),
        ("- source: a\n  output: m/x\n- source: b\n  output: m/../m/x\n", "two entries write", ""),
        ("- source: a\n  output: x\n- source: x\n  output: y\n", "x is the source of an entry", ""),
    ],
)
def test_a_wrong_file_is_refused_before_anything_runs(
    folder: Path, text: str, message: str, hint: str
) -> None:
    path = folder / "lists" / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        convert_batch(path, report=lambda outcome: pytest.fail("it ran"))
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not a list of conversions"),
        (b"[]", "is not a list of conversions"),
        (b"source: a\noutput: b\n", "is not a list of conversions"),
        (b"- source: [", "is not YAML"),
        (b"- source: \xff\xfe", "is not YAML"),
        (b"- &a {source: x, output: y}\n- *a\n", "aliases are not allowed"),
        (b"- source: !!python/object/apply:os.system [ls]\n  output: y\n", "is not YAML"),
        (b"- {source: a, output: b}\n---\n- {}\n", "is not YAML"),
        (b"[" * 100_000, "is not YAML"),
        (b"# \n" * 400_000, "larger than 1 MiB"),
    ],
)
def test_what_is_no_list_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "b.yaml"
    path.write_bytes(data)
    with pytest.raises(SmithError, match=message) as caught:
        load_batch(path)
    assert caught.value.hint
    with pytest.raises(SmithError, match="cannot read"):
        load_batch(tmp_path / "none.yaml")


def test_a_process_that_dies_fails_alone(folder: Path) -> None:
    """Killed from outside, as by the system when memory runs out."""
    (folder / "lists" / "est.py").write_text(
        "import sklearn, os, signal\n"
        "def build():\n"
        "    status = open(f'/proc/{os.getppid()}/cmdline').read()\n"
        "    assert 'batch_worker' in status\n"
        "    os.kill(os.getppid(), signal.SIGKILL)\n"
    )
    path = write(
        folder, "- {source: 'est:build', output: a.onnx}\n- {source: relu.onnx, output: b.onnx}\n"
    )
    killed, other = convert_batch(path)
    assert (killed.status, killed.reason) == ("failed", "its process ended with SIGKILL")
    assert other.status == "written"


def test_ctrl_c_ends_every_process(folder: Path) -> None:
    path = write(
        folder,
        """
        - {source: "est:endless", output: a.onnx}
        - {source: "est:endless", output: b.onnx}
        - {source: "est:endless", output: c.onnx}
        """,
    )
    command = [sys.executable, "-P", "-m", "onnxsmith", "convert", "--batch", str(path)]
    environment = {**os.environ, "TMPDIR": str(folder)}
    process = subprocess.Popen(
        [*command, "--jobs", "2"], stderr=subprocess.PIPE, env=environment, text=True
    )
    while len(started := list((folder / "lists").glob("started-*"))) < 2:
        time.sleep(0.05)
    children = [int(path.name.partition("-")[2]) for path in started]
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert "interrupted" in err
    assert not [pid for pid in children if _runs(pid)]
    assert not list(folder.glob("onnxsmith-*")), "temporary folders are left"


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_command_line_sums_up(folder: Path, run_cli: Any) -> None:
    path = write(folder, MIX)
    done = run_cli("convert", "--batch", path, "--out", folder / "made")
    assert done.code == 1
    assert "3 of 5 written" in done.out
    assert "none.onnx: there is no file none.onnx" in done.out
    for word in ("source", "frontend", "nodes", "parity", "seconds", "status", "refused"):
        assert word in done.out
    good = write(folder, "- {source: relu.onnx, output: out.onnx}")
    done = run_cli("convert", f"--batch={good}", "--json")
    assert done.code == 0
    (row,) = json.loads(done.out)
    assert (row["status"], row["frontend"], row["nodes"]) == ("written", "onnx", 1)
    bad = write(folder, "- {source: 'est:ridge', output: out2.onnx, rtol: 0, atol: 0}")
    assert run_cli("convert", "--batch", bad).code == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--batch", "x.yaml", "--opset", "18"), "--opset does not go with --batch"),
        (("--batch", "x.yaml", "-o", "y.onnx"), "-o does not go with --batch"),
        (("--batch", "x.yaml", "net:net"), "unexpected extra argument"),
        (("a.onnx", "-o", "b.onnx", "--jobs", "2"), "--jobs is for a list of models"),
        (("a.onnx", "-o", "b.onnx", "--out", "d"), "--out is for a list of models"),
        (("--batch", "x.yaml", "--jobs", "0"), "--jobs"),
        (("--batch",), "requires an argument"),
    ],
)
def test_options_that_do_not_go_together(
    run_cli: Any, arguments: tuple[str, ...], message: str
) -> None:
    done = run_cli("convert", *arguments)
    assert done.code == 2
    assert message in done.err


def test_help_shows_the_options_of_lists(run_cli: Any) -> None:
    for arguments in (("--help",), ("--batch", "x", "--help")):
        done = run_cli("convert", *arguments)
        assert done.code == 0
        assert "--batch FILE" in done.out
        assert "--opset" in done.out
