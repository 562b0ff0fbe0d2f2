"""``onnxsmith compare``: findings are no errors, and the report stands alone."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from onnxsmith.cli.main import run

TEXT = """<ir_version: 10, opset_import: ["": 20]>
net (float[N, 16] x) => (float[N, 8] y) { "<b>hidden" = MatMul(x, w) y = Relu("<b>hidden") }"""


def save(path: Path, noise: float) -> str:
    weight = np.random.default_rng(1).standard_normal((16, 8)).astype(np.float32)
    proto = onnx.parser.parse_model(TEXT.replace('"<b>hidden"', "h"))
    for node in proto.graph.node:
        node.input[:] = ["<b>hidden" if n == "h" else n for n in node.input]
        node.output[:] = ["<b>hidden" if n == "h" else n for n in node.output]
    proto.graph.initializer.append(numpy_helper.from_array(weight * (1 + noise), "w"))
    onnx.save(proto, path)
    return str(path)


@pytest.fixture
def models(tmp_path: Path) -> list[str]:
    return [save(tmp_path / "a.onnx", 0.0), save(tmp_path / "b.onnx", 0.01)]


def test_a_difference_is_shown_and_strict_makes_it_an_exit_code(models, capsys):
    assert run(["compare", *models]) == 0
    shown = capsys.readouterr()
    assert "40.0 dB" in shown.out
    assert "differs" in shown.out
    assert "made-up inputs" in shown.err
    assert run(["compare", *models, "--strict"]) == 4
    assert run(["compare", *models, "--strict", "--rtol", "0.02"]) == 0


def test_layers_in_json(models, capsys):
    assert run(["compare", *models, "--layers", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ranked"] == ["<b>hidden"]
    assert told["layers"][0]["snr_db"] == pytest.approx(40, abs=0.1)
    assert told["made_up"] is True


def test_the_report_has_the_plot_and_escapes_names(models, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert run(["compare", *models, "--layers", "--report", str(page)]) == 0
    assert f"wrote {page}" in capsys.readouterr().out.replace("\n", "")
    text = page.read_text()
    assert "Where they part" in text
    assert text.count("<svg") >= 2
    assert "<b>hidden" not in text
    assert "&lt;b&gt;hidden" in text


def test_wrong_input_is_one_clear_error(models, tmp_path, capsys):
    for arguments, code in (
        (["compare", models[0], str(tmp_path / "none.onnx")], 1),
        (["compare", models[0]], 2),
        (["compare", *models, "--data", "npz:none.npz"], 1),
        (["compare", *models, "--report", "/none/x.html"], 1),
    ):
        assert run(arguments) == code
        error = capsys.readouterr().err
        assert error.startswith("error:")
        assert "Traceback" not in error
