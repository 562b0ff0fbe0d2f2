"""Constants: what is computed at once, and what only when it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.cleanup import fold_constants
from onnxsmith.passes.cleanup.fold_constants import FoldConstants
from onnxsmith.passes.observers import census
from onnxsmith.passes.pipeline import PassPipeline
from onnxsmith.runtime.session import Session
from onnxsmith.storage.tensors import TransposedTensor

Load = Callable[..., Artifact]

W = np.random.default_rng(0).standard_normal((300, 200)).astype(np.float32)
PRODUCT = """g (float[N,200] x) => (float[N,300] y) {
  t = Transpose<perm = [1, 0]>(w)
  y = MatMul(x, t)
}"""


@pytest.fixture
def no_session(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refuse(*arguments: object) -> dict[str, Any]:
        raise AssertionError("a session was made")

    monkeypatch.setattr(fold_constants, "_run", refuse)
    return


@pytest.mark.usefixtures("no_session")
def test_a_large_transposed_weight_waits_until_it_is_read(load_text: Load, tmp_path: Path) -> None:
    artifact = load_text(PRODUCT, {"w": W})
    result = FoldConstants().apply(artifact.model, PassContext())
    assert result.modified
    assert result.details["folded"] == 1
    assert census(artifact.model) == {"MatMul": 1}
    tensor = artifact.model.graph.initializers["t"].const_value
    assert isinstance(tensor, TransposedTensor)
    x = np.eye(200, dtype=np.float32)
    for optimize in (False, True):
        with Session(artifact, optimize=optimize) as session:
            np.testing.assert_array_equal(session.run({"x": x})["y"], W.T)
    artifact.save(tmp_path / "out.onnx")
    saved = {t.name: t for t in onnx.load(tmp_path / "out.onnx").graph.initializer}
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(saved["t"]), W.T)


def test_a_tied_weight_is_stored_once(load_text: Load, tmp_path: Path) -> None:
    text = """g (int64[N] i) => (float[N,300] y) {
      x = Gather(w, i)
      t = Transpose<perm = [1, 0]>(w)
      y = MatMul(x, t)
    }"""
    artifact = load_text(text, {"w": W})
    result = FoldConstants().apply(artifact.model, PassContext())
    assert not result.modified
    assert census(artifact.model) == {"Gather": 1, "Transpose": 1, "MatMul": 1}
    artifact.save(tmp_path / "out.onnx", external=False)
    assert (tmp_path / "out.onnx").stat().st_size < 1.1 * W.nbytes
    assert FoldConstants(untie=True).apply(artifact.model, PassContext()).modified
    assert census(artifact.model) == {"Gather": 1, "MatMul": 1}


def test_small_ones_are_computed_at_once(load_text: Load) -> None:
    artifact = load_text(PRODUCT.replace("300", "30"), {"w": W[:30]})
    FoldConstants().apply(artifact.model, PassContext())
    tensor = artifact.model.graph.initializers["t"].const_value
    assert tensor is not None
    assert not isinstance(tensor, TransposedTensor)
    np.testing.assert_array_equal(tensor.numpy(), W[:30].T)


@pytest.mark.usefixtures("no_session")
def test_axes_are_reversed_where_no_order_is_given(load_text: Load) -> None:
    w = W.reshape(30, 10, 200)
    text = "g (float[200,10,30] x) => (float[200,10,30] y) { t = Transpose(w) y = Add(x, t) }"
    artifact = load_text(text, {"w": w})
    FoldConstants().apply(artifact.model, PassContext())
    x = np.zeros((200, 10, 30), np.float32)
    with Session(artifact, optimize=False) as session:
        np.testing.assert_array_equal(session.run({"x": x})["y"], w.transpose())


def test_what_is_computed_from_a_transposed_weight_is_folded_too(load_text: Load) -> None:
    text = """g (float[N,200] x) => (float[N,300] y) {
      t = Transpose<perm = [1, 0]>(w)
      n = Neg(t)
      y = MatMul(x, n)
    }"""
    artifact = load_text(text, {"w": W})
    FoldConstants().apply(artifact.model, PassContext())
    assert census(artifact.model) == {"MatMul": 1}
    tensor = artifact.model.graph.initializers["n"].const_value
    assert tensor is not None
    np.testing.assert_array_equal(tensor.numpy(), -W.T)


def test_a_transposed_weight_that_is_an_output(load_text: Load) -> None:
    text = "g (float[2] x) => (float[200,300] t, float[2] y) { t = Transpose(w) y = Neg(x) }"
    artifact = load_text(text, {"w": W})
    FoldConstants().apply(artifact.model, PassContext())
    with Session(artifact, optimize=False) as session:
        found = session.run({"x": np.zeros(2, np.float32)})["t"]
    np.testing.assert_array_equal(found, W.T)


TWO = """g (float[N,200] x) => (float[N,300] y, float[N,300] z) {
  a = Transpose<perm = [1, 0]>(v)
  b = Transpose<perm = [1, 0]>(w)
  y = MatMul(x, a)
  z = MatMul(x, b)
}"""


@pytest.mark.parametrize(("change", "left"), [(0.0, 1), (1.0, 2)])
@pytest.mark.parametrize("size", [300, 200])
def test_equal_transposed_weights_are_stored_once(
    load_text: Load, change: float, left: int, size: int
) -> None:
    """A difference in one element, which no sample need hit, keeps them apart."""
    v, w = W[:size].copy(), W[:size].copy()
    w[7, 11] += change
    artifact = load_text(TWO.replace("300", str(size)), {"v": v, "w": w})
    for pass_ in PassPipeline.parse("fold-constants,merge-initializers,remove-unused-nodes").passes:
        pass_.apply(artifact.model, PassContext())
    assert len(artifact.model.graph.initializers) == left
    with Session(artifact, optimize=False) as session:
        found = session.run({"x": np.eye(200, dtype=np.float32)})
    np.testing.assert_array_equal(found["y"], v.T)
    np.testing.assert_array_equal(found["z"], w.T)


def test_a_square_weight_is_not_merged_with_its_transpose(load_text: Load) -> None:
    square = W[:200]
    text = """g (float[N,200] x) => (float[N,200] y, float[N,200] z) {
      a = Transpose<perm = [1, 0]>(w)
      b = Transpose<perm = [0, 1]>(w)
      y = MatMul(x, a)
      z = MatMul(x, b)
    }"""
    artifact = load_text(text, {"w": square})
    for pass_ in PassPipeline.parse("fold-constants,merge-initializers").passes:
        pass_.apply(artifact.model, PassContext())
    with Session(artifact, optimize=False) as session:
        found = session.run({"x": np.eye(200, dtype=np.float32)})
    np.testing.assert_array_equal(found["y"], square.T)
    np.testing.assert_array_equal(found["z"], square)
