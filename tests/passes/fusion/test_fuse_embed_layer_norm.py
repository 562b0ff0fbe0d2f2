# ruff: noqa: E501 - a graph is easier read in one line
"""Embeddings and the normalization of their sum become one operator, and parts again."""

from collections.abc import Callable

import numpy as np
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.observers import census
from onnxsmith.passes.pipeline import PassPipeline
from onnxsmith.runtime.session import Session

RNG = np.random.default_rng(3)
ELN = "com.microsoft.EmbedLayerNormalization"
WEIGHTS = {
    "w": RNG.standard_normal((9, 8)).astype(np.float32),
    "p": RNG.standard_normal((7, 8)).astype(np.float32),
    "t": RNG.standard_normal((4, 8)).astype(np.float32),
    "c": RNG.standard_normal((1, 5, 8)).astype(np.float32),
    "g": RNG.uniform(0.5, 2, 8).astype(np.float32),
    "b": RNG.standard_normal(8).astype(np.float32),
    "count": np.arange(5)[None],
    "back": np.arange(5)[::-1][None].copy(),
}
X, S, Y = "int64[N,5] x", "int64[N,5] s", "float[N,5,8] y"
WORD, POSITION, SEGMENT = "e = Gather(w, x)", "f = Gather(p, count)", "h = Gather(t, s)"
NORM = "y = LayerNormalization<axis = -1, epsilon = 0.01>(a, g, b)"
FUSED = [
    (
        f"m ({X}, {S}) => ({Y}) {{ {WORD} {POSITION} {SEGMENT} d = Add(e, f) a = Add(d, h) {NORM} }}",
        {ELN: 1, "Cast": 2},
    ),
    (
        f"m ({X}, {S}) => ({Y}) {{ {WORD} {POSITION} {SEGMENT} d = Add(e, h) a = Add(f, d) {NORM} }}",
        {ELN: 1, "Cast": 2},
    ),
    (f"m ({X}) => ({Y}) {{ {WORD} {POSITION} a = Add(f, e) {NORM} }}", {ELN: 1, "Cast": 1}),
    (f"m ({X}) => ({Y}) {{ {WORD} a = Add(e, c) {NORM} }}", {ELN: 1, "Cast": 1}),
    (
        f"m ({X}, {S}) => ({Y}) {{ {WORD} {SEGMENT} d = Add(e, h) a = Add(d, c) {NORM} }}",
        {ELN: 1, "Cast": 2},
    ),
    # Positions in another order, or of each item's own, are handed over.
    (
        f"m ({X}) => ({Y}) {{ {WORD} f = Gather(p, back) a = Add(f, e) {NORM} }}",
        {ELN: 1, "Cast": 2},
    ),
    (f"m ({X}, {S}) => ({Y}) {{ {WORD} {SEGMENT} a = Add(e, h) {NORM} }}", {ELN: 1, "Cast": 2}),
    (f"m (int32[N,5] x) => ({Y}) {{ {WORD} a = Add(e, c) {NORM} }}", {ELN: 1}),
    (f"m ({X}) => ({Y}, float[N,5,8] a) {{ {WORD} a = Add(e, c) {NORM} }}", {ELN: 1, "Cast": 1}),
    (
        f"m ({X}) => ({Y}, float[N,5,8] z) {{ {WORD} a = Add(e, c) z = Neg(a) {NORM} }}",
        {ELN: 1, "Cast": 1, "Neg": 1},
    ),
    (
        "m (int64[N,M] x, int64[1,M] s) => (float[N,M,8] y) { e = Gather(w, x) h = Gather(t, s) a = Add(e, h) "
        + NORM
        + " }",
        {ELN: 1, "Cast": 2},
    ),
    (
        "m (int64[1,5] x) => (float[1,5,8] y) { e = Gather(w, x) f = Gather(p, count) a = Add(e, f) "
        + NORM
        + " }",
        {ELN: 1, "Cast": 1},
    ),
]
REFUSED = {
    "no lookup of words": f"m ({Y.replace('y', 'x')}) => ({Y}) {{ a = Add(x, c) {NORM} }}",
    "another axis of the table": f"m ({X}) => (float[9,N,5] y) {{ e = Gather<axis = 1>(w, x) a = Add(e, e) y = LayerNormalization<axis = -1>(a, o, o) }}",
    "the mean is read": f"m ({X}) => ({Y}, float[N,5,1] k) {{ {WORD} a = Add(e, c) y, k = LayerNormalization<axis = -1>(a, g, b) }}",
    "two axes are normalized": f"m ({X}, float[5,8] k) => ({Y}) {{ {WORD} a = Add(e, c) y = LayerNormalization<axis = 1>(a, k) }}",
    "no shift": f"m ({X}) => ({Y}) {{ {WORD} a = Add(e, c) y = LayerNormalization<axis = -1>(a, g) }}",
    "a scale that is computed": f"m ({X}, float[8] k) => ({Y}) {{ {WORD} a = Add(e, c) y = LayerNormalization<axis = -1>(a, k, b) }}",
    "a table that is given": f"m ({X}, float[7,8] k) => ({Y}) {{ {WORD} f = Gather(k, count) a = Add(e, f) {NORM} }}",
    "four addends": f"m ({X}, {S}) => ({Y}) {{ {WORD} {POSITION} {SEGMENT} d = Add(e, f) i = Add(h, c) a = Add(d, i) {NORM} }}",
    "positions of another length": f"m (int64[N,1] x) => ({Y}) {{ {WORD} a = Add(e, c) {NORM} }}",
}


def run(artifact: Artifact, passes: str) -> Artifact:
    model = artifact.model.clone()
    for pass_ in PassPipeline.parse(f"infer-shapes,{passes},remove-unused-nodes").passes:
        model = pass_.apply(model, PassContext()).model
    return Artifact(model)


def build(text: str, load_text: Callable[..., Artifact]) -> Artifact:
    weights = {**WEIGHTS, "o": np.ones(5, np.float32)}
    return load_text(
        text, {n: a for n, a in weights.items() if f" {n}" in text or f"({n}" in text}, opset=20
    )


@pytest.mark.parametrize(("text", "after"), FUSED)
def test_it_is_fused_with_equal_numbers_and_undone(
    text: str, after: dict[str, int], load_text: Callable[..., Artifact]
) -> None:
    artifact = build(text, load_text)
    found = run(artifact, "fuse-embed-layer-norm")
    assert census(found.model) == after
    plain = run(found, "decompose")
    assert ELN not in census(plain.model)
    shape = {"N": 1 if "[1,5]" in text else 3, "M": 4}
    feeds = {
        v.name: RNG.integers(0, 4, v.concrete(shape, 3)).astype(v.dtype)
        for v in artifact.spec.inputs
    }
    expected, *others = (_outputs(model, feeds) for model in (artifact, found, plain))
    for other in others:
        for name, array in expected.items():
            np.testing.assert_allclose(other[name], array, rtol=1e-5, atol=1e-5)


def _outputs(artifact: Artifact, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    with Session(artifact, optimize=False) as session:
        return session.run(feeds)


@pytest.mark.parametrize("reason", REFUSED)
def test_what_is_left_alone(reason: str, load_text: Callable[..., Artifact]) -> None:
    artifact = build(REFUSED[reason], load_text)
    assert not any(name == ELN for name in census(run(artifact, "fuse-embed-layer-norm").model))


def test_the_preset_uses_it(load_text: Callable[..., Artifact]) -> None:
    artifact = build(FUSED[0][0], load_text)
    model = artifact.model.clone()
    for pass_ in PassPipeline.preset("cuda").passes:
        model = pass_.apply(model, PassContext()).model
    assert census(model)[ELN] == 1
