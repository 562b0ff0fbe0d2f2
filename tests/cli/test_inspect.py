import json
from pathlib import Path

import onnx
import onnx.parser
import pytest

from onnxsmith.artifact import Artifact, Step
from onnxsmith.cli.main import run

ONES = ", ".join(["1."] * 32)
TEXT = f"""<ir_version: 10, opset_import: ["": 21]>
net (float[N, 8] x) => (float[N, 4] y) <float[8, 4] w = {{{ONES}}}>
{{ z = MatMul(x, w) y = Relu(z) }}"""


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "net.onnx"
    artifact = Artifact.from_proto(onnx.parser.parse_model(TEXT))
    artifact.model.graph.node(0).name = "[bold]first"
    artifact.with_step(Step("fold-constants", "pass", {"limit": 7}, {"folded": 3})).save(path)
    return str(path)


def test_figures_are_for_the_sizes_that_were_given(model, capsys):
    assert run(["inspect", model, "--dim", "N=1000"]) == 0
    out = capsys.readouterr().out
    assert "x: float32[N,8]" in out
    assert "68 K FLOPs, of them 32 K MACs" in out
    assert "N=1000" in out
    assert "fold-constants" in out
    assert "limit=7" in out
    assert "folded=3" in out


def test_nodes_are_listed_on_request_and_never_as_markup(model, capsys):
    assert run(["inspect", model]) == 0
    assert "[bold]first" not in capsys.readouterr().out.replace("at [bold]first", "")
    assert run(["inspect", model, "--nodes"]) == 0
    out = capsys.readouterr().out
    assert "[bold]first" in out
    assert "float[1,4]" in out


def test_json_has_the_same_figures(model, capsys):
    assert run(["inspect", model, "--dim", "N=2", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["macs"], data["flops"], data["parameters"]) == (64, 136, 32)
    assert data["weight_bytes"] == 128
    assert data["peak_activation_bytes"] == 2 * 4 * (8 + 4 + 4)
    assert data["history"][0]["name"] == "fold-constants"
    assert "nodes" not in data
    assert run(["inspect", model, "--json", "--nodes"]) == 0
    assert len(json.loads(capsys.readouterr().out)["nodes"]) == 2


def test_what_is_not_counted_is_said(tmp_path, capsys):
    text = """<ir_version: 10, opset_import: ["": 21, "mine": 1]>
    g (float[4] x) => (float[4] y) { z = mine.Magic(x) y = Relu(x) }"""
    path = tmp_path / "magic.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    assert run(["inspect", str(path)]) == 0
    found = capsys.readouterr()
    assert "operations not counted: mine.Magic" in found.err
    assert "its operations are not known" in " ".join(found.out.replace("│", " ").split())


def test_bad_files_and_dimensions_are_errors_in_one_line(model, tmp_path, capsys):
    assert run(["inspect", str(tmp_path / "none.onnx")]) == 1
    junk = tmp_path / "junk.onnx"
    junk.write_bytes(b"hello")
    assert run(["inspect", str(junk)]) == 1
    assert run(["inspect", model, "--dim", "M=3"]) == 1
    assert run(["inspect", model, "--dim", "N=0"]) == 2
    error = capsys.readouterr().err
    assert error.count("error: ") == 4
    assert "Traceback" not in error
