# ruff: noqa: E501 - a graph is easier read in one line
"""A matrix product and the sum behind it become one Gemm, and only where Gemm means the same."""

from collections.abc import Callable

import numpy as np
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.fusion.fuse_gemm import FuseGemm
from onnxsmith.passes.observers import census
from onnxsmith.passes.pipeline import PassPipeline
from onnxsmith.runtime.probe import probe_inputs
from onnxsmith.runtime.session import Session

FUSED = [
    ("a bias row", "g (float[N,4] x, float[4,5] w, float[5] b) => (float[N,5] y) { a = MatMul(x, w) y = Add(a, b) }", {"Gemm": 1}),
    ("the bias first", "g (float[N,4] x, float[4,5] w, float[1,5] b) => (float[N,5] y) { a = MatMul(x, w) y = Add(b, a) }", {"Gemm": 1}),
    ("a whole bias", "g (float[N,4] x, float[4,5] w, float[N,5] b) => (float[N,5] y) { a = MatMul(x, w) y = Add(a, b) }", {"Gemm": 1}),
    ("a scalar", "g (float[N,4] x, float[4,5] w, float b) => (float[N,5] y) { a = MatMul(x, w) y = Add(a, b) }", {"Gemm": 1}),
    ("a column", "g (float[3,4] x, float[4,5] w, float[3,1] b) => (float[3,5] y) { a = MatMul(x, w) y = Add(a, b) }", {"Gemm": 1}),
    ("float64", "g (double[N,4] x, double[4,5] w, double[5] b) => (double[N,5] y) { a = MatMul(x, w) y = Add(a, b) }", {"Gemm": 1}),
    ("both transposed", "g (float[4,3] x, float[5,4] w, float[5] b) => (float[3,5] y) { s = Transpose(x) t = Transpose<perm = [1, 0]>(w) a = MatMul(s, t) y = Add(a, b) }", {"Gemm": 1}),
    ("a transpose that is read twice", "g (float[5,4] x, float[4] b) => (float[5,4] y, float[4,5] t) { t = Transpose(x) a = MatMul(x, t) c = MatMul(a, x) y = Add(c, b) }", {"Transpose": 1, "MatMul": 1, "Gemm": 1}),
    ("no transpose at all", "g (float[4,4] x, float[4,4] w, float[4] b) => (float[4,4] y) { t = Transpose<perm = [0, 1]>(w) a = MatMul(x, t) y = Add(a, b) }", {"Transpose": 1, "Gemm": 1}),
    ("inside a branch", """g (bool c, float[3,4] x, float[4,5] w, float[5] b) => (float[3,5] y) {
        y = If(c) <then_branch = t () => (float[3,5] p) { a = MatMul(x, w) p = Add(a, b) },
                   else_branch = e () => (float[3,5] q) { a = MatMul(x, w) q = Sub(a, b) }> }""", {"If": 1, "Gemm": 1, "MatMul": 1, "Sub": 1}),
    ("nothing to sum over", "g (float[3,0] x, float[0,5] w, float[5] b) => (float[3,5] y) { a = MatMul(x, w) y = Add(a, b) }", {"Gemm": 1}),
]  # fmt: skip

KEPT = [
    ("a bias that widens the product", "g (float[1,4] x, float[4,5] w, float[3,5] b) => (float[3,5] y) { a = MatMul(x, w) y = Add(a, b) }"),
    ("a bias that widens the columns", "g (float[3,4] x, float[4,1] w, float[5] b) => (float[3,5] y) { a = MatMul(x, w) y = Add(a, b) }"),
    ("a bias that may widen", "g (float[N,4] x, float[4,5] w, float[M,5] b) => (float[K,5] y) { a = MatMul(x, w) y = Add(a, b) }"),
    ("a bias of rank 3", "g (float[N,4] x, float[4,5] w, float[1,1,5] b) => (float[1,N,5] y) { a = MatMul(x, w) y = Add(a, b) }"),
    ("a batch", "g (float[2,3,4] x, float[4,5] w, float[5] b) => (float[2,3,5] y) { a = MatMul(x, w) y = Add(a, b) }"),
    ("a vector", "g (float[4] x, float[4,5] w, float[5] b) => (float[5] y) { a = MatMul(x, w) y = Add(a, b) }"),
    ("integers", "g (int32[3,4] x, int32[4,5] w, int32[5] b) => (int32[3,5] y) { a = MatMul(x, w) y = Add(a, b) }"),
    ("a product that is an output", "g (float[3,4] x, float[4,5] w, float[5] b) => (float[3,5] y, float[3,5] a) { a = MatMul(x, w) y = Add(a, b) }"),
    ("a product that is read twice", "g (float[3,4] x, float[4,5] w) => (float[3,5] y) { a = MatMul(x, w) y = Add(a, a) }"),
]  # fmt: skip


def run(artifact: Artifact) -> tuple[dict[str, int], bool]:
    """Fuse, compare the outputs, and return the operators and whether anything changed."""
    feeds = probe_inputs(artifact.model, artifact.spec, {}, seed=1, default=3)
    model = artifact.model.clone()
    for pass_ in PassPipeline.parse("infer-shapes").passes:
        model = pass_.apply(model, PassContext()).model
    result = FuseGemm().apply(model, PassContext())
    for pass_ in PassPipeline.parse("remove-unused-nodes").passes:
        model = pass_.apply(model, PassContext()).model
    with Session(artifact, optimize=False) as session:
        expected = session.run(feeds)
    with Session(Artifact(model), optimize=False) as session:
        found = session.run(feeds)
    assert list(found) == list(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-5)
    return census(model), result.modified


@pytest.mark.parametrize(("text", "after"), [c[1:] for c in FUSED], ids=[c[0] for c in FUSED])
def test_fused(text: str, after: dict[str, int], load_text: Callable[..., Artifact]) -> None:
    assert run(load_text(text, opset=18)) == (after, True)


@pytest.mark.parametrize("text", [c[1] for c in KEPT], ids=[c[0] for c in KEPT])
def test_kept(text: str, load_text: Callable[..., Artifact]) -> None:
    artifact = load_text(text, opset=18)
    assert run(artifact) == (census(artifact.model), False)


def test_unknown_ranks_are_kept(load_text: Callable[..., Artifact]) -> None:
    text = "g (float[3,4] x, float[4,5] w, float[5] b) => (float[3,5] y) { a = MatMul(x, w) y = Add(a, b) }"
    model = load_text(text, opset=18).model
    for value in model.graph.inputs:
        value.shape = None
    assert not FuseGemm().apply(model, PassContext()).modified
