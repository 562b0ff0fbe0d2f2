"""Weights spread over several data files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.runtime.session import Session
from onnxsmith.storage import save

Load = Callable[..., Artifact]
COUNT, ELEMENTS = 5, 40_000
TEXT = (
    "g (float[N] x) => (float[N] y) { "
    + "".join(f"v{i + 1} = Add({'x' if i == 0 else f'v{i}'}, w{i}) " for i in range(COUNT - 1))
    + f"y = Add(v{COUNT - 1}, w{COUNT - 1}) }}"
)


def weights(seed: int) -> dict[str, np.ndarray[Any, Any]]:
    random = np.random.default_rng(seed)
    return {f"w{i}": random.standard_normal(ELEMENTS).astype(np.float32) for i in range(COUNT)}


def data_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.data"))


def test_files_stay_below_the_size_and_load_again(load_text: Load, tmp_path: Path) -> None:
    path, arrays = tmp_path / "m.onnx", weights(1)
    load_text(TEXT, arrays).save(path, shard_bytes=400_000)
    files = data_files(tmp_path)
    assert len(files) == 3
    assert all(file.stat().st_size <= 400_000 for file in files)
    again = Artifact.load(path)
    for name, array in arrays.items():
        tensor = again.model.graph.initializers[name].const_value
        assert tensor is not None
        assert np.array_equal(tensor.numpy(), array)
    x = np.zeros(ELEMENTS, np.float32)
    with Session(again) as session:
        np.testing.assert_allclose(session.run({"x": x})["y"], sum(arrays.values()), rtol=1e-4)
    proto = onnx.load(path)  # any other reader of ONNX finds them too
    assert len(proto.graph.initializer) == COUNT


def test_a_weight_above_the_size_has_a_file_of_its_own(load_text: Load, tmp_path: Path) -> None:
    load_text(TEXT, weights(1)).save(tmp_path / "m.onnx", shard_bytes=1)
    assert len(data_files(tmp_path)) == COUNT


def test_files_that_are_no_longer_needed_go(load_text: Load, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    load_text(TEXT, weights(1)).save(path, shard_bytes=200_000)
    before = set(data_files(tmp_path))
    (tmp_path / "m.other.data").write_bytes(b"kept")
    load_text(TEXT, weights(2)).save(path, external=True)
    after = set(data_files(tmp_path))
    assert len(after - {tmp_path / "m.other.data"}) == 1
    assert not after & before


def test_an_error_between_two_files_leaves_the_old_model(
    load_text: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.onnx"
    load_text(TEXT, weights(1)).save(path, shard_bytes=400_000)
    before = {file: file.read_bytes() for file in tmp_path.glob("m.*")}
    write, calls = save._write_data, []

    def fail_at_second(*arguments: Any) -> str:
        calls.append(1)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return write(*arguments)

    monkeypatch.setattr(save, "_write_data", fail_at_second)
    with pytest.raises(SmithError, match="No space"):
        load_text(TEXT, weights(2)).save(path, shard_bytes=400_000)
    assert {file: file.read_bytes() for file in tmp_path.glob("m.*")} == before
