import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxsmith.cli.main import run

TEXT = """
<ir_version: 10, opset_import: ["": 21]>
m (float[N,2] x) => (float[N,2] z) <float[2] k = {SCALE}> { z = Mul(x, k) }
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    x = np.array([[2, 1], [1, 2], [3, 1], [1, 3], [5, 4]], np.float32)
    np.savez("d.npz", x=x, y=[0, 1, 0, 1, 1])
    for name, scale in [("right", "{1.0, 1.0}"), ("skewed", "{1.0, 10.0}"), ("nan", "{-1.0, 0.0}")]:
        onnx.save(onnx.parser.parse_model(TEXT.replace("{SCALE}", scale)), f"{name}.onnx")
    return tmp_path


def test_one_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", "right.onnx", "--data", "npz:d.npz"]) == 0
    out = capsys.readouterr().out
    assert "5 samples of npz:d.npz; output 'z'" in out
    assert "80.00 %" in out
    assert "a row a true class" in out


def test_json_is_complete(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["evaluate", "right.onnx", "--data", "npz:d.npz", "--json", "--metric", "accuracy"]
    assert run([*arguments, "--metric", "top-k:k=2", "--limit", "4"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["data"]["name"] == "npz:d.npz"
    (model,) = told["models"]
    assert model["metrics"] == {"accuracy": 1.0, "top-k:k=2": 1.0}
    assert model["confusion"] == [[2, 0], [0, 2]]
    assert model["samples"] == 4


def test_two_models_side_by_side(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["evaluate", "right.onnx", "skewed.onnx", "--data", "npz:d.npz"]
    assert run([*arguments, "--metric", "accuracy", "--metric", "log-loss"]) == 0
    out = capsys.readouterr().out
    assert "-20.00 points" in out
    assert run([*arguments, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["difference"]["accuracy"] == pytest.approx(-0.2)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["right.onnx"], 2, "Missing option '--data'"),
        (["right.onnx", "--data", "npz:d.npz", "--metric", "acc"], 2, "unknown metric 'acc'"),
        (["right.onnx", "--data", "npz:none.npz"], 1, "there is no file 'none.npz'"),
        (["right.onnx", "--data", "digits"], 1, "the data does not fit the model"),
        (["right.onnx", "--data", "npz:d.npz", "--output", "q"], 2, "no output 'q'"),
        (["right.onnx"] * 3 + ["--data", "npz:d.npz"], 2, "3 models are given"),
        (["none.onnx", "--data", "npz:d.npz"], 1, "none.onnx"),
        (["right.onnx", "--data", "npz:d.npz?label=x"], 1, "the data does not fit the model"),
        (["right.onnx", "--data", "npz:d.npz", "--target", "moon"], 2, "unknown target 'moon'"),
    ],
)
def test_errors(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    assert run(["evaluate", *arguments]) == code
    told = capsys.readouterr().err
    assert message in told
    assert "hint: " in told
    assert "Traceback" not in told


def test_nan_predictions_are_an_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("n.npz", x=np.float32([[1, 1], [np.inf, 1], [1, np.inf]]), y=[0, 1, 1])
    assert run(["evaluate", "nan.onnx", "--data", "npz:n.npz"]) == 1
    assert "the output 'z' is NaN, first for sample 2" in capsys.readouterr().err


def test_digits_default_to_the_test_split(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = '<ir_version: 10, opset_import: ["": 21]> m (float[N,64] x) => (float[N,64] z) '
    onnx.save(onnx.parser.parse_model(text + "{ z = Identity(x) }"), "d.onnx")
    assert run(["evaluate", "d.onnx", "--data", "digits"]) == 0
    assert "445 samples of digits, split test" in capsys.readouterr().out
    assert run(["evaluate", "d.onnx", "--data", "digits?split=train"]) == 0
    assert "1352 samples of digits, split train" in capsys.readouterr().out
