import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxsmith.cli.main import run

TEXT = """
<ir_version: 10, opset_import: ["": 21]>
m (float[N,2] a, int64[N] b) => (float[N,2] file, int64[N] twice) {
  file = Neg(a)
  twice = Add(b, b)
}
"""
TEXT_ONE = """
<ir_version: 10, opset_import: ["": 21]>
m (float[3,2] a) => (float[3,2] z, float s) { z = Neg(a) s = ReduceSum <keepdims = 0> (a) }
"""
TEXT_STRING = """
<ir_version: 10, opset_import: ["": 21]>
m (string[N] a) => (string[N] z) { z = Identity(a) }
"""
A = np.arange(6, dtype=np.float32).reshape(3, 2)
B = np.arange(3)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, text in [("m", TEXT), ("one", TEXT_ONE), ("text", TEXT_STRING)]:
        onnx.save(onnx.parser.parse_model(text), f"{name}.onnx")
    np.savez("x.npz", a=A, b=B)
    return tmp_path


def test_outputs_are_written_by_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # "file" is an argument of numpy.savez: as an output's name it must survive.
    assert run(["infer", "m.onnx", "--inputs", "x.npz", "-o", "y.npz", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["outputs"]["file"] == {"dtype": "float32", "shape": [3, 2]}
    with np.load("y.npz", allow_pickle=False) as written:
        np.testing.assert_array_equal(written["file"], -A)
        np.testing.assert_array_equal(written["twice"], 2 * B)


def test_types_are_cast_where_nothing_is_lost(folder: Path) -> None:
    np.savez("x.npz", a=A.astype(np.float64), b=B.astype(np.int8))
    assert run(["infer", "m.onnx", "--inputs", "x.npz", "-o", "y.npz"]) == 0


def test_data_runs_in_batches_and_padding_is_cut(folder: Path) -> None:
    rows = np.arange(14, dtype=np.float32).reshape(7, 2)
    np.savez("d.npz", a=rows, b=np.arange(7))
    arguments = ["infer", "m.onnx", "--data", "npz:d.npz", "-o", "y.npz", "--batch-size", "3"]
    assert run(arguments) == 0
    with np.load("y.npz") as written:
        np.testing.assert_array_equal(written["file"], -rows)


def test_text_is_written_without_pickles(folder: Path) -> None:
    np.savez("t.npz", a=np.array(["x", "long"]))
    assert run(["infer", "text.onnx", "--inputs", "t.npz", "-o", "y.npz"]) == 0
    with np.load("y.npz", allow_pickle=False) as written:
        assert written["z"].tolist() == ["x", "long"]


def test_a_single_array_needs_no_name(folder: Path) -> None:
    np.savez("s.npz", A)
    assert run(["infer", "one.onnx", "--inputs", "s.npz", "-o", "y.npz"]) == 0
    with np.load("y.npz") as written:
        assert written["s"] == A.sum()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": A}, "no array for the input 'b'"),
        ({"a": A, "b": B, "c": B}, "the model has no input 'c'"),
        ({"a": A[:, :1], "b": B}, "the input 'a' has shape [3, 1]"),
        ({"a": A, "b": B.astype(float)}, "the input 'b' takes int64, but the data is float64"),
        ({"a": np.array([[{}]], object), "b": B}, "holds Python objects, which are refused"),
        ({"a": np.array([["x"]]), "b": B}, "takes float32, but the data is text"),
    ],
)
def test_inputs_that_do_not_fit(
    folder: Path, capsys: pytest.CaptureFixture[str], arrays: dict[str, np.ndarray], message: str
) -> None:
    np.savez("bad.npz", **arrays)
    (folder / "y.npz").write_bytes(b"old")
    assert run(["infer", "m.onnx", "--inputs", "bad.npz", "-o", "y.npz"]) == 1
    told = capsys.readouterr().err
    assert message in told
    assert "hint: " in told
    assert (folder / "y.npz").read_bytes() == b"old"
    assert not list(folder.glob(".y.npz*"))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--inputs", "none.npz"], 1, "there is no file 'none.npz'"),
        (["--inputs", "m.onnx"], 1, "'m.onnx' is no .npz file"),
        ([], 2, "give either --inputs or --data"),
        (["--inputs", "x.npz", "--data", "digits"], 2, "give either --inputs or --data"),
        (["--inputs", "x.npz", "--providers", "nonsense"], 1, "nonsense"),
    ],
)
def test_errors(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    assert run(["infer", "m.onnx", "-o", "y.npz", *arguments]) == code
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told
    assert not (folder / "y.npz").exists()


def test_folder_that_is_not_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["infer", "m.onnx", "--inputs", "x.npz", "-o", "no/y.npz"]) == 1
    assert "create the folder" in capsys.readouterr().err


def test_outputs_without_rows_need_inputs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("d.npz", a=np.zeros((7, 2), np.float32))
    assert run(["infer", "one.onnx", "--data", "npz:d.npz", "-o", "y.npz"]) == 1
    assert "'s' has no row for each sample" in capsys.readouterr().err
