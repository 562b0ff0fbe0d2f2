from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxsmith.artifact import Artifact
from onnxsmith.cli.main import run
from onnxsmith.pipeline import gate
from onnxsmith.runtime.session import Session

RNG = np.random.default_rng(7)
WEIGHT = RNG.standard_normal((4, 12)).astype(np.float32)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A Gemm that holds its weight transposed, and a record of the weight's shape."""
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]>'
        "g (float[N,12] x) => (float[N,4] y) { y = Gemm<transB = 1>(x, w) }"
    )
    proto.graph.initializer.append(numpy_helper.from_array(WEIGHT, "w"))
    shape = onnx.helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, [4, 12])
    proto.graph.value_info.append(shape)
    onnx.save(proto, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def data(path: Path, name: str, count: int = 64) -> str:
    x = RNG.standard_normal((count, 12)).astype(np.float32)
    np.savez(path.parent / f"{name}.npz", x=x, label=(x @ WEIGHT.T).argmax(axis=1))
    return f"npz:{path.parent / name}.npz"


@pytest.mark.parametrize("mode", ["dynamic", "static"])
def test_a_transposed_gemm_is_quantized(
    model: Path, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = model.with_name("int8.onnx")
    arguments = ["quantize", str(model), "-o", str(out), "--mode", mode, "--no-bench"]
    assert run([*arguments, "--data", data(model, "train")]) == 0, capsys.readouterr().err
    artifact = Artifact.load(out)
    assert f"quantize-{mode}" in [step.name for step in artifact.history]
    x = RNG.standard_normal((16, 12)).astype(np.float32)
    with Session(artifact) as session:
        found = session.run({"x": x})["y"]
    error = np.abs(found - x @ WEIGHT.T).max() / np.abs(x @ WEIGHT.T).max()
    assert 0 < error < 0.05


def test_a_budget_that_is_missed_refuses_and_writes_nothing(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = model.with_name("int8.onnx")
    out.write_text("precious")
    x = RNG.standard_normal((200, 12)).astype(np.float32)
    # Two classes a hair apart: eight bits cannot tell them.
    near = model.with_name("near.npz")
    weight = np.repeat(WEIGHT[:1], 4, axis=0) + 1e-4 * WEIGHT
    proto = onnx.load(model)
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "w"))
    onnx.save(proto, model)
    np.savez(near, x=x, label=(x @ weight.T).argmax(axis=1))
    arguments = ["quantize", str(model), "-o", str(out), "--mode", "dynamic", "--no-bench"]
    assert run([*arguments, "--eval-data", f"npz:{near}", "--max-drop", "0.01"]) == 4
    error = capsys.readouterr().err
    assert error.startswith("error: accuracy drops by 0.")
    assert error.count("\n") == 2
    assert out.read_text() == "precious"


def test_wrong_input_is_one_clear_error(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(model.with_name("int8.onnx"))
    base = ["quantize", str(model), "-o", out, "--mode"]
    for arguments, code, words in (
        ([*base, "static"], 1, "needs data"),
        ([*base, "int3"], 2, "int3"),
        ([*base, "dynamic", "--max-drop", "0.1"], 2, "--eval-data"),
        ([*base, "static", "--data", "npz:none.npz"], 1, "none.npz"),
        (["quantize", str(model), "-o", "/none/x.onnx", "--mode", "dynamic"], 1, "cannot write"),
    ):
        assert run(arguments) == code
        error = capsys.readouterr().err
        assert words in error
        assert "Traceback" not in error
    assert not Path(out).exists()


def test_a_slower_result_is_written_and_its_slowdown_printed(
    model: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    change = gate.Change(slower=True, words="0.50x the speed", figures={})
    measure: Callable[..., gate.Change] = lambda *_: change  # noqa: E731 - a stand-in
    monkeypatch.setattr(gate, "measure_change", measure)
    out = model.with_name("int8.onnx")
    assert run(["quantize", str(model), "-o", str(out), "--mode", "dynamic"]) == 0
    assert "0.50x the speed" in capsys.readouterr().out
    assert out.exists()


def test_a_target_that_is_not_here_leaves_the_speed_unmeasured(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = model.with_name("half.onnx")
    arguments = ["quantize", str(model), "-o", str(out), "--mode", "fp16", "--target", "cuda"]
    assert run(arguments) == 0
    caught = capsys.readouterr()
    assert "speed unmeasured" in caught.err + caught.out
    assert out.is_file()


def test_weight_only_says_how_far_the_weights_are_off(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = model.with_name("small.onnx")
    options = ["--mode", "weight-only", "--bits", "8", "--block-size", "16", "--no-bench"]
    assert run(["quantize", str(model), "-o", str(out), *options]) == 0
    assert "weights are off by 0." in capsys.readouterr().out
    assert run(["quantize", str(model), "-o", str(out), *options, "--block-size", "20"]) == 2
