"""A state dict is read without running what its pickle says."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.paddle.weights import load_weights


class Layer:
    """What ``load_weights`` needs of a paddle.nn.Layer."""

    def __init__(self) -> None:
        self.state = {"w": np.zeros((2, 3), np.float32), "b": np.zeros(3, np.float32)}

    def state_dict(self) -> dict[str, Any]:
        return self.state

    def set_state_dict(self, state: dict[str, Any]) -> None:
        self.state = state


class Hostile:
    def __reduce__(self) -> Any:
        return os.system, ("touch ran",)


@pytest.fixture
def state() -> dict[str, Any]:
    return {
        "w": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.ones(3, np.float32),
        "StructuredToParameterName@@": {"w": "linear_0.w_0"},
    }


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_arrays_are_read(tmp_path: Path, state: dict[str, Any], protocol: int) -> None:
    path = tmp_path / "w.pdparams"
    path.write_bytes(pickle.dumps(state, protocol))
    layer = Layer()
    load_weights(layer, str(path), trust=False)
    np.testing.assert_array_equal(layer.state["w"], state["w"])
    assert set(layer.state) == {"w", "b"}


def test_a_pickle_that_runs_code_is_refused(
    tmp_path: Path, state: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "w.pdparams"
    path.write_bytes(pickle.dumps({**state, "x": Hostile()}))
    with pytest.raises(SmithError, match=r"hold more than arrays \(posix.system\)") as caught:
        load_weights(Layer(), str(path), trust=False)
    assert "--trust" in caught.value.hint
    assert not (tmp_path / "ran").exists()


def test_every_truncation_is_refused(tmp_path: Path, state: dict[str, Any]) -> None:
    data = pickle.dumps(state, 4)
    path = tmp_path / "w.pdparams"
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(SmithError):
            load_weights(Layer(), str(path), trust=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("b"), "they lack 'b'"),
        (lambda s: s.update(c=np.ones(1)), "they hold 'c', which is none of it"),
        (lambda s: s.update(b=np.ones(4)), r"'b' has the shape \[4\] instead of \[3\]"),
        (lambda s: s.update(b="text"), "holds no state dict"),
    ],
)
def test_weights_of_another_layer_are_refused(
    tmp_path: Path, state: dict[str, Any], change: Any, message: str
) -> None:
    change(state)
    path = tmp_path / "w.pdparams"
    path.write_bytes(pickle.dumps(state))
    layer = Layer()
    with pytest.raises(SmithError, match=message) as caught:
        load_weights(layer, str(path), trust=False)
    assert caught.value.hint
    assert not layer.state["w"].any()


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pdparams"
    for data in (
        b"",
        b"PK\x03\x04",
        pickle.dumps([1, 2]),
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\xff",
    ):
        path.write_bytes(data)
        with pytest.raises(SmithError):
            load_weights(Layer(), str(path), trust=False)
    with pytest.raises(SmithError, match="cannot read the weights"):
        load_weights(Layer(), str(tmp_path / "none"), trust=False)
