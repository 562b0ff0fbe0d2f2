# ruff: noqa: E501 - a graph is easier read in one line
"""Attention in its primitives becomes one operator, with equal numbers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper as helper

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.observers import census
from onnxsmith.passes.pipeline import PassPipeline
from onnxsmith.runtime.probe import probe_inputs
from onnxsmith.runtime.session import Session

Arrays = dict[str, np.ndarray[Any, Any]]
RNG = np.random.default_rng(3)
SPLIT = {"heads": np.array([0, 0, 2, 4])}
QKV = {name: RNG.standard_normal((8, 8)).astype(np.float32) for name in ("wq", "wk", "wv")}
BIASES = {name: RNG.standard_normal(8).astype(np.float32) for name in ("bq", "bv")}
NUMBERS = "float s = {0.5}, float zero = {0}, float low = {-1000}, float inf = {-inf}, int64[3] flat = {0, 0, 8}"
PRODUCTS = "q = MatMul(x, wq) k = MatMul(x, wk) v = MatMul(x, wv)"
BIASED = "qm = MatMul(x, wq) q = Add(qm, bq) k = MatMul(x, wk) vm = MatMul(x, wv) v = Add(bv, vm)"
HEADS = (
    "qr = Reshape(q, heads) kr = Reshape(k, heads) vr = Reshape(v, heads) qt = Transpose<perm = [0, 2, 1, 3]>(qr) "
    "kt = Transpose<perm = [0, 2, 1, 3]>(kr) vt = Transpose<perm = [0, 2, 1, 3]>(vr) ku = Transpose<perm = [0, 1, 3, 2]>(kt) "
)
SCORES = "qs = Mul(qt, s) a = MatMul(qs, ku)"
GUARD = "n = IsNaN(p) w = Where(n, zero, p)"
END = "o = MatMul(w, vt) ot = Transpose<perm = [0, 2, 1, 3]>(o) y = Reshape(ot, flat)"


def case(products: str, scores: str, softmax: str, end: str = END, more: str = "") -> str:
    return (
        f"g (float[N,3,8] x{more}) => (float[N,3,8] y) <{NUMBERS}> "
        f"{{ {products} {HEADS} {scores} {softmax} {end} }}"
    )


def masked(low: str) -> str:
    return f"c = Greater(z, s) m = Where(c, zero, {low}) b = Add(a, m)"


Z = ", float[N,1,3,3] z"
PLAIN = "p = Softmax(a) w = Identity(p)"
FUSED = [
    (case(PRODUCTS, SCORES, "w = Softmax(a)"), {"com.microsoft.Attention": 1}),
    (case(BIASED, SCORES, "w = Softmax<axis = 3>(a)"), {"com.microsoft.Attention": 1}),
    (
        case(PRODUCTS, "r = MatMul(qt, ku) a = Div(r, s)", f"p = Softmax(a) {GUARD}"),
        {"com.microsoft.Attention": 1},
    ),
    (
        case(
            PRODUCTS, "q1 = Mul(qt, s) q2 = Div(q1, t3) a = MatMul(q2, ku)", "w = Softmax(a)"
        ).replace("float s = {0.5}", "float s = {0.5}, float t3 = {3}"),
        {"com.microsoft.Attention": 1},
    ),
    (
        case("q = MatMul(x, wq) k = Relu(x) v = Neg(x)", SCORES, "w = Softmax(a)"),
        {"MatMul": 1, "Relu": 1, "Neg": 1, "com.microsoft.MultiHeadAttention": 1},
    ),
    (
        case(PRODUCTS, f"{SCORES} {masked('low')}", f"p = Softmax(b) {GUARD}", more=Z),
        {"Greater": 1, "Where": 1, "com.microsoft.Attention": 1},
    ),
    (
        case(
            PRODUCTS,
            SCORES,
            "w = Softmax(a)",
            "o = MatMul(w, vt) oe = Exp(o) ot = Transpose<perm = [0, 2, 1, 3]>(oe) y = Reshape(ot, flat)",
        ),
        {"com.microsoft.Attention": 1, "Reshape": 2, "Transpose": 2, "Exp": 1},
    ),
    (
        case(PRODUCTS, "qe = Tanh(qt) a = MatMul(qe, ku)", "w = Softmax(a)"),
        {
            "MatMul": 3,
            "Reshape": 2,
            "Transpose": 2,
            "Tanh": 1,
            "com.microsoft.MultiHeadAttention": 1,
        },
    ),
]
REFUSED = [
    case(PRODUCTS, SCORES, "w = Softmax<axis = 2>(a)"),
    case(PRODUCTS, SCORES, "p = Softmax(a) w = Relu(p)"),
    case(PRODUCTS, "a = MatMul(qt, ku)", "w = Softmax(a)", END + " e = Exp(w)").replace(
        "y)", "y, float[N,2,3,3] e)", 1
    ),
    # A mask that may hold infinities in unknown places: the guard makes rows of them zero.
    case(PRODUCTS, f"{SCORES} b = Add(a, z)", f"p = Softmax(b) {GUARD}", more=Z),
    # Masks that would widen the scores, or that are scaled with them.
    case(PRODUCTS, f"{SCORES} b = Add(a, z)", "w = Softmax(b)", more=", float[N,2,3,1] z").replace(
        "[N,3,8] x", "[1,3,8] x"
    ),
    case(PRODUCTS, f"{SCORES} b = Add(a, z) d = Mul(b, s)", "w = Softmax(d)", more=Z),
    # A number that does not drown a score.
    case(PRODUCTS, f"{SCORES} c = Greater(z, s) b = Where(c, low, a)", "w = Softmax(b)", more=Z),
    # Heads of unknown number, and element types without a kernel.
    case(PRODUCTS, SCORES, "w = Softmax(a)").replace("float", "double"),
]


def fuse(artifact: Artifact) -> Artifact:
    model = artifact.model.clone()
    for pass_ in PassPipeline.parse("infer-shapes,fuse-attention,remove-unused-nodes").passes:
        model = pass_.apply(model, PassContext()).model
    return Artifact(model)


def assert_equal(first: Artifact, second: Artifact, batch: int = 2) -> None:
    feeds = probe_inputs(first.model, first.spec, {"N": batch}, seed=1, default=3)
    with Session(first, optimize=False) as session:
        expected = session.run(feeds)["y"]
    with Session(second, optimize=False) as session:
        np.testing.assert_allclose(session.run(feeds)["y"], expected, rtol=2e-5, atol=5e-6)


@pytest.mark.parametrize(("text", "after"), FUSED)
def test_attention_is_one_operator(
    text: str, after: dict[str, int], load_text: Callable[..., Artifact]
) -> None:
    artifact = load_text(text, {**QKV, **BIASES, **SPLIT}, opset=20)
    found = fuse(artifact)
    assert census(found.model) == after
    assert found.model.opset_imports["com.microsoft"] == 1
    assert_equal(artifact, found)
    assert census(fuse(found).model) == after


@pytest.mark.parametrize("text", REFUSED)
def test_what_the_operators_cannot_do_stays(text: str, load_text: Callable[..., Artifact]) -> None:
    artifact = load_text(text, {**QKV, **BIASES, **SPLIT}, opset=20)
    found = census(fuse(artifact).model)
    assert not {"com.microsoft.Attention", "com.microsoft.MultiHeadAttention"} & set(found)


@settings(deadline=None, max_examples=10)
@given(batch=st.integers(1, 5), scale=st.floats(0.1, 2), index=st.sampled_from([0, 1, 3, 5, 6]))
def test_any_batch_and_scale(batch: int, scale: float, index: int) -> None:
    text = FUSED[index][0].replace("s = {0.5}", f"s = {{{scale:.6f}}}")
    artifact = build(text)
    assert_equal(artifact, fuse(artifact), batch)


def build(text: str) -> Artifact:
    """Build a model without a file; hypothesis shares no fixture between its examples."""
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]> {text}')
    for name, array in {**QKV, **BIASES, **SPLIT}.items():
        if name in text or name == "heads":
            model.graph.initializer.append(helper.from_array(array, name))
    return Artifact(ir.from_proto(model))
