"""Recorded inputs and outputs take the place of a source that cannot run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import RefusedError, SmithError
from onnxsmith.pipeline.frontends.convert import convert
from onnxsmith.pipeline.frontends.stored import load_stored

TEXT = "g (float[batch, 2] x) => (float[batch, 2] y, float[batch, 2] z) { y = Neg(x) z = Exp(x) }"
X = np.array([[1.0, -2.0], [0.5, 3.0], [4.0, 0.25]], np.float32)


@pytest.fixture
def artifact(load_text: Callable[..., Artifact]) -> Artifact:
    return load_text(TEXT)


@pytest.fixture
def model(artifact: Artifact, tmp_path: Path) -> Path:
    artifact.save(tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_prefixed_and_plain_names_are_read(artifact: Artifact, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", in_x=X, out_y=-X, mid_h=X)
    np.savez(tmp_path / "b.npz", x=X.astype(np.float64), z=np.exp(X))
    first = load_stored(str(tmp_path / "a.npz"), artifact.spec)
    second = load_stored(str(tmp_path / "b.npz"), artifact.spec)
    assert (list(first.outputs), list(second.outputs)) == (["y"], ["z"])
    assert second.inputs["x"].dtype == np.float32


def test_a_recorded_run_is_compared(model: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "good.npz", in_x=X, out_y=-X)
    result = convert(model, reference=tmp_path / "good.npz")
    assert [(d.output, d.ok) for d in result.parity] == [("y", True)]
    assert result.warnings == ("output 'z' was not compared: its source has no such output",)
    assert result.artifact.history[-1].result["shapes"] == [{"x": [3, 2]}]


def test_another_result_is_refused(model: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", in_x=X, out_y=-X * 1.001)
    with pytest.raises(RefusedError, match="output 'y'"):
        convert(model, reference=tmp_path / "bad.npz")


def test_renames_are_known_to_the_recorded_run(model: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "good.npz", in_image=X, out_y=-X)
    result = convert(model, reference=tmp_path / "good.npz", rename={"x": "image"})
    assert result.parity[0].ok


def test_test_data_of_onnx_is_read(artifact: Artifact, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "test_data_set_0"
    folder.mkdir()
    arrays: dict[str, np.ndarray[Any, Any]] = {"input_0": X, "output_0": -X, "output_1": np.exp(X)}
    for name, array in arrays.items():
        tensor = onnx.numpy_helper.from_array(array)
        (folder / f"{name}.pb").write_bytes(tensor.SerializeToString())
    (folder / "notes.txt").write_text("not a tensor")
    assert [d.output for d in convert(model, reference=folder).parity] == ["y", "z"]
    (folder / "input_1.pb").write_bytes(b"")
    with pytest.raises(SmithError, match=r"has 1 inputs, and 'input_1\.pb' is one more"):
        load_stored(str(folder), artifact.spec)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"out_y": X}, "no array for the input 'x'"),
        ({"in_x": X, "out_other": X}, "no array for any of the outputs 'y', 'z'"),
    ],
)
def test_what_is_missing_is_named(
    artifact: Artifact, tmp_path: Path, arrays: dict[str, Any], message: str
) -> None:
    np.savez(tmp_path / "stored.npz", **arrays)
    with pytest.raises(SmithError, match=message):
        load_stored(str(tmp_path / "stored.npz"), artifact.spec)


@pytest.mark.parametrize("content", [b"", b"\x08\xff", b"garbage" * 9])
def test_a_file_that_is_no_tensor_is_named(
    artifact: Artifact, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "input_0.pb").write_bytes(content)
    with pytest.raises(SmithError, match=r"'input_0\.pb' is no tensor"):
        load_stored(str(tmp_path), artifact.spec)


def test_an_empty_folder_is_named(artifact: Artifact, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SmithError, match=r"holds no input_0\.pb"):
        load_stored(str(tmp_path / "empty"), artifact.spec)
