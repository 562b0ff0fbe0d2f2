# ruff: noqa: E501 - a graph is easier read in one line
"""Contractions become matrix products, and Keras's attention one operator."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.observers import census
from onnxsmith.passes.pipeline import PassPipeline
from onnxsmith.runtime.probe import probe_inputs
from onnxsmith.runtime.session import Session

RNG = np.random.default_rng(19)
# What Keras's MultiHeadAttention holds: kernels (width, heads, size), biases (heads, size).
WEIGHTS: dict[str, np.ndarray[Any, Any]] = {
    **{f"w{p}": RNG.standard_normal((8, 2, 4)).astype(np.float32) for p in "qkv"},
    **{f"b{p}": RNG.standard_normal((2, 4)).astype(np.float32) for p in "qkv"},
    "wo": RNG.standard_normal((2, 4, 6)).astype(np.float32),
    "bo": RNG.standard_normal(6).astype(np.float32),
    "s": np.array(0.5, np.float32),
    "m": RNG.standard_normal((4, 5)).astype(np.float32),
}
PROJECT = 'Einsum<equation = "abc,cde->abde">'
KERAS = (
    f"g (float[N,3,8] x) => (float[N,3,6] y) {{ qe = {PROJECT}(x, wq) q = Add(qe, bq) ke = {PROJECT}(x, wk) k = Add(ke, bk) "
    f've = {PROJECT}(x, wv) v = Add(bv, ve) qs = Mul(q, s) a = Einsum<equation = "aecd,abcd->acbe">(k, qs) p = Softmax<axis = 3>(a) '
    'o = Einsum<equation = "acbe,aecd->abcd">(p, v) ye = Einsum<equation = "abcd,cde->abe">(o, wo) y = Add(ye, bo) }'
)


def pair(equation: str, given: str = "float[N,3,4] z", result: str = "float[N,3,3] y") -> str:
    return f'g (float[N,3,4] x, {given}) => ({result}) {{ p = Softmax(x) y = Einsum<equation = "{equation}">(p, z) }}'


PRODUCTS = [
    (pair("aib,ajb->aij"), {"Softmax": 1, "Transpose": 1, "MatMul": 1}),
    (pair("aib,ajb->aji"), {"Softmax": 1, "Transpose": 1, "MatMul": 1}),
    (pair("aib,ajb->jai", result="float[3,N,3] y"), {"Softmax": 1, "Transpose": 2, "MatMul": 1}),
    (pair("aib,abj->aij", "float[N,4,5] z", "float[N,3,5] y"), {"Softmax": 1, "MatMul": 1}),
    (pair("aib,bj->aij", "float[2] u", "float[N,3,5] y").replace("(p, z)", "(p, m)"), {"Softmax": 1, "MatMul": 1}),
    (pair("aib,bj->iaj", "float[2] u", "float[3,N,5] y").replace("(p, z)", "(p, m)"), {"Softmax": 1, "Transpose": 1, "MatMul": 1}),
    (pair("bj,aib->jai", "float[2] u", "float[5,N,3] y").replace("(p, z)", "(m, p)"), {"Softmax": 1, "MatMul": 1, "Transpose": 1}),
]  # fmt: skip
KEPT = [
    # Two dimensions of its own, none that is summed, one that is summed in one operand alone, a
    # diagonal, an ellipsis.
    pair("aib,ab->ai", "float[N,4] z", "float[N,3] y"),
    pair("aib,ajb->aijb", result="float[N,3,3,4] y"),
    pair("aib,ajc->aij"),
    pair("aib,aab->aib", "float[N,N,4] z", "float[N,3,4] y"),
    pair("...ib,...jb->...ij"),
    # No attention.
    'g (float[N,3,4] x, float[N,3,4] z) => (float[N,3,3] y) { y = Einsum<equation = "aib,ajb->aij">(x, z) }',
]


def run(artifact: Artifact, passes: str) -> Artifact:
    model = artifact.model.clone()
    for pass_ in PassPipeline.parse(f"infer-shapes,{passes},remove-unused-nodes").passes:
        model = pass_.apply(model, PassContext()).model
    return Artifact(model)


def assert_equal(first: Artifact, second: Artifact) -> None:
    feeds = probe_inputs(first.model, first.spec, {"N": 2}, seed=1, default=3)
    with Session(first, optimize=False) as session:
        expected = session.run(feeds)["y"]
    with Session(second, optimize=False) as session:
        np.testing.assert_allclose(session.run(feeds)["y"], expected, rtol=2e-5, atol=5e-6)


@pytest.mark.parametrize(("text", "after"), PRODUCTS)
def test_contractions_are_products(
    text: str, after: dict[str, int], load_text: Callable[..., Artifact]
) -> None:
    artifact = load_text(text, WEIGHTS, opset=20)
    found = run(artifact, "replace-einsums")
    assert census(found.model) == after
    assert_equal(artifact, found)


@pytest.mark.parametrize("text", KEPT)
def test_what_is_no_product_stays(text: str, load_text: Callable[..., Artifact]) -> None:
    artifact = load_text(text, WEIGHTS, opset=20)
    assert census(run(artifact, "replace-einsums").model) == census(artifact.model)


@pytest.mark.parametrize(
    ("opset", "passes", "after"),
    [
        (20, "fuse-attention", {"com.microsoft.Attention": 1, "MatMul": 1, "Add": 1}),
        (23, "fuse-standard-attention", {"Attention": 1, "MatMul": 4, "Add": 4}),
    ],
)
def test_attention_of_keras_is_one_operator(
    opset: int, passes: str, after: dict[str, int], load_text: Callable[..., Artifact]
) -> None:
    artifact = load_text(KERAS, WEIGHTS, opset=opset)
    found = run(artifact, f"replace-einsums,fold-scales,{passes},merge-views")
    assert census(found.model) == after
    assert_equal(artifact, found)


def test_shapes_are_known_behind_it(load_text: Callable[..., Artifact]) -> None:
    for text in (PRODUCTS[2][0], PRODUCTS[-2][0], KERAS):
        artifact = load_text(text, WEIGHTS, opset=20)
        found = run(artifact, "replace-einsums")
        again = run(found, "infer-shapes")
        for one, two in zip(found.model.graph, again.model.graph, strict=True):
            assert [str(v.shape) for v in one.outputs] == [str(v.shape) for v in two.outputs]
