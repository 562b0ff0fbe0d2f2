import json
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from onnxsmith.cli.main import run

TEXT = """<ir_version: 10, opset_import: ["": 21]>
small (float[N, 8] x) => (float[N, 8] y) { y = Relu(x) }"""
IN_PROCESS = ["--in-process", "--runs", "3"]


@pytest.fixture
def models(tmp_path: Path) -> list[str]:
    paths = [tmp_path / "a.onnx", tmp_path / "b[red].onnx"]
    for path in paths:
        onnx.save(onnx.parser.parse_model(TEXT), path)
    return [str(path) for path in paths]


def test_figures_and_verdicts_are_shown(models, capsys):
    assert run(["bench", *models, *IN_PROCESS, "--rounds", "3", "--batch", "4"]) == 0
    out = capsys.readouterr().out
    assert "p50 ms" in out
    assert "items/s" in out
    assert "b[red].onnx: " in out
    assert " a.onnx (95% interval " in out
    assert "3 rounds, default threads, all in one process" in out


def test_json_keeps_every_sample(models, capsys):
    command = ["bench", *models, *IN_PROCESS, "--rounds", "4", "--dim", "N=5", "--json"]
    assert run(command) == 0
    data = json.loads(capsys.readouterr().out)
    assert [len(m["samples_ms"]) for m in data["measurements"]] == [12, 12]
    assert data["measurements"][0]["batch_size"] == 5
    assert data["comparisons"][0]["baseline"] == "a.onnx"
    assert data["comparisons"][0]["verdict"] in ("faster", "slower", "no change")
    assert data["environment"]["providers"][-1] == "CPUExecutionProvider"
    assert data["settings"]["isolated"] is False


def test_one_model_in_its_own_process(models, capsys):
    assert run(["bench", models[0], "--rounds", "1", "--runs", "2", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["comparisons"] == []
    assert data["measurements"][0]["peak_memory_bytes"] > 0


def test_given_inputs_are_used_and_checked(models, capsys, tmp_path):
    good, bad = tmp_path / "good.npz", tmp_path / "bad.npz"
    np.savez(good, x=np.ones((2, 8), np.float32))
    np.savez(bad, x=np.ones((2, 9), np.float32))
    assert run(["bench", models[0], *IN_PROCESS, "--rounds", "1", "--inputs", str(good)]) == 0
    assert run(["bench", models[0], *IN_PROCESS, "--rounds", "1", "--inputs", str(bad)]) == 1
    assert "a.onnx: the input 'x' has shape [2, 9]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--rounds", "2"], 2, "2 rounds are too few to compare models"),
        (["--rounds", "0"], 2, "Invalid value for '--rounds'"),
        (["--dim", "M=2"], 2, "no model has the dimension 'M'"),
        (["--dim", "N"], 2, "cannot read the dimension 'N'"),
        (["--target", "toaster"], 2, "unknown target 'toaster'"),
        (["--providers", "nonsense"], 1, "unknown execution provider 'nonsense'"),
        (["--inputs", "missing.npz"], 1, "missing.npz"),
    ],
)
def test_bad_requests_end_with_one_line_and_the_right_code(models, capsys, options, code, message):
    assert run(["bench", *models, *IN_PROCESS, *options]) == code
    found = capsys.readouterr()
    assert message in found.err
    assert "Traceback" not in found.err + found.out


def test_a_file_that_is_no_model_is_an_error(models, capsys, tmp_path):
    junk = tmp_path / "junk.onnx"
    junk.write_bytes(b"\xff\xfejunk")
    assert run(["bench", models[0], str(junk), *IN_PROCESS]) == 1
    assert "is not an ONNX model" in capsys.readouterr().err
    assert run(["bench"]) == 2
