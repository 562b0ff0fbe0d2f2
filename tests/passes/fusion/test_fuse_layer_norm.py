# ruff: noqa: E501 - a graph is easier read in one line
"""Layer normalization in the forms that exporters write."""

from collections.abc import Callable

import numpy as np
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.observers import census
from onnxsmith.passes.pipeline import PassPipeline
from onnxsmith.runtime.session import Session

RNG = np.random.default_rng(6)
MEAN = "m = ReduceMean<keepdims = 1>(x, a) d = Sub(x, m)"
POW = "q = Pow(d, two)"
REST = "v = ReduceMean<keepdims = 1>(q, a) w = Add(v, e) s = Sqrt(w)"
HEAD = (
    "g (float[N,3,8] x) => (float[N,3,8] y) <int64[1] a = {-1}, float two = {2}, float e = {0.01}>"
)
WEIGHTS = {name: RNG.standard_normal(8).astype(np.float32) for name in ("k", "b")}

FUSED = [
    f"{HEAD} {{ {MEAN} {POW} {REST} n = Div(d, s) p = Mul(n, k) y = Add(p, b) }}",
    f"{HEAD} {{ {MEAN} q = Mul(d, d) {REST} r = Reciprocal(s) n = Mul(d, r) p = Mul(k, n) y = Add(b, p) }}",
    f"{HEAD} {{ {MEAN} {POW} {REST} n = Div(d, s) y = Mul(n, k) }}",
    f"{HEAD} {{ {MEAN} {POW} {REST} y = Div(d, s) }}",
    f"{HEAD.replace('{-1}', '{-2, -1}').replace('int64[1] a', 'int64[2] a')} {{ {MEAN} {POW} {REST} y = Div(d, s) }}",
    f"g (bool c, float[2,3,8] x) => (float[2,3,8] y) <int64[1] a = {{2}}, float two = {{2}}, float e = {{0.01}}> {{ y = If(c) <then_branch = t () => (float[2,3,8] o) {{ {MEAN} {POW} {REST} n = Div(d, s) o = Mul(n, k) }}, else_branch = f () => (float[2,3,8] o) {{ o = Neg(x) }}> }}",
]  # fmt: skip
FOLDED = "r0 = Reciprocal(s) r = Mul(r0, k) l = Mul(x, r) t = Mul(m, r) u = Sub(b, t)"
FUSED += [
    # TensorFlow and Keras fold the mean into the bias.
    f"{HEAD} {{ {MEAN} {POW} {REST} {FOLDED} y = Add(l, u) }}",
    f"{HEAD} {{ {MEAN} q = Mul(d, d) {REST} {FOLDED} y = Add(u, l) }}",
    f"{HEAD} {{ {MEAN} q = Mul(d, d) {REST} r = Reciprocal(s) l = Mul(x, r) t = Mul(m, r) u = Sub(b, t) y = Add(l, u) }}",
]
STAYS = [
    # The fold in another way: a sum for a difference, another mean, a factor that is no vector.
    f"{HEAD} {{ {MEAN} {POW} {REST} {FOLDED.replace('Sub', 'Add')} y = Add(l, u) }}",
    f"{HEAD} {{ {MEAN} {POW} {REST} {FOLDED.replace('Sub(b, t)', 'Sub(t, b)')} y = Add(l, u) }}",
    f"{HEAD} {{ {MEAN} {POW} {REST} {FOLDED.replace('Mul(m, r)', 'Mul(d, r)')} y = Add(l, u) }}",
    f"{HEAD} {{ {MEAN} {POW} {REST} {FOLDED.replace('(r0, k)', '(r0, two)')} y = Add(l, u) }}",
    f"{HEAD} {{ {MEAN} {POW} {REST} {FOLDED} y = Sub(l, u) }}",
    # What is centered, and the mean, are read elsewhere too.
    f"{HEAD.replace('=> (', '=> (float[N,3,8] z, ')} {{ {MEAN} {POW} {REST} y = Div(d, s) z = Neg(d) }}",
    f"{HEAD.replace('=> (', '=> (float[N,3,1] v, ')} {{ {MEAN} {POW} {REST} y = Div(d, s) }}",
    # Another axis, a step that is an output, another exponent, float64, means that differ.
    f"{HEAD.replace('{-1}', '{1}')} {{ {MEAN} {POW} {REST} y = Div(d, s) }}",
    f"{HEAD.replace('=> (', '=> (float[N,3,1] s, ')} {{ {MEAN} {POW} {REST} y = Div(d, s) }}",
    f"{HEAD.replace('two = {2}', 'two = {3}')} {{ {MEAN} {POW} {REST} y = Div(d, s) }}",
    f"{HEAD.replace('float', 'double')} {{ {MEAN} {POW} {REST} y = Div(d, s) }}",
    f"{HEAD.replace('> ', '>')[:-1]}, int64[2] z = {{-2, -1}}> {{ m = ReduceMean<keepdims = 1>(x, z) d = Sub(x, m) {POW} {REST} y = Div(d, s) }}",
]  # fmt: skip


def fuse(artifact: Artifact) -> Artifact:
    model = artifact.model.clone()
    for pass_ in PassPipeline.parse("infer-shapes,fuse-layer-norm").passes:
        model = pass_.apply(model, PassContext()).model
    return Artifact(model)


def load(text: str, load_text: Callable[..., Artifact], opset: int = 18) -> Artifact:
    weights = {n: a for n, a in WEIGHTS.items() if f", {n})" in text or f"({n}, " in text}
    return load_text(text, weights, opset=opset)


@pytest.mark.parametrize("text", FUSED)
def test_one_operator_gives_equal_numbers(text: str, load_text: Callable[..., Artifact]) -> None:
    artifact = load(text, load_text)
    fused = fuse(artifact)
    left = census(fused.model)
    assert left.pop("LayerNormalization") == 1
    assert set(left) <= {"If", "Neg"}
    feeds = {"x": RNG.standard_normal((2, 3, 8)).astype(np.float32) * 3}
    if "bool c" in text:
        feeds["c"] = np.array(True)
    with Session(artifact, optimize=False) as session:
        expected = session.run(feeds)["y"]
    with Session(fused, optimize=False) as session:
        np.testing.assert_allclose(session.run(feeds)["y"], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("text", STAYS)
def test_what_is_something_else_stays(text: str, load_text: Callable[..., Artifact]) -> None:
    artifact = load(text, load_text)
    assert census(fuse(artifact).model) == census(artifact.model)


def test_older_opsets_have_no_such_operator(load_text: Callable[..., Artifact]) -> None:
    text = (
        FUSED[3]
        .replace("<keepdims = 1>(x, a)", "<axes = [-1]>(x)")
        .replace("<keepdims = 1>(q, a)", "<axes = [-1]>(q)")
    )
    assert "LayerNormalization" not in census(fuse(load(text, load_text, 13)).model)
    assert "LayerNormalization" in census(fuse(load(text, load_text, 17)).model)
