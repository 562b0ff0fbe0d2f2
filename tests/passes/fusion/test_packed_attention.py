# ruff: noqa: E501 - a graph is easier read in one line
"""Attention as today's models write it: packed, grouped, batched and windowed."""

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

RNG = np.random.default_rng(11)
MS = "com.microsoft"
ONE, MANY = f"{MS}.Attention", f"{MS}.MultiHeadAttention"
WEIGHTS: dict[str, np.ndarray[Any, Any]] = {
    "w": RNG.standard_normal((8, 24)).astype(np.float32),
    "b": RNG.standard_normal(24).astype(np.float32),
    "kv": RNG.standard_normal((8, 16)).astype(np.float32),
    "wq": RNG.standard_normal((8, 8)).astype(np.float32),
    "small": RNG.standard_normal((8, 4)).astype(np.float32),
    "s": np.array(0.5, np.float32),
    "zero": np.array(0),
    "one": np.array(1),
    "two": np.array(2),
    "minus": np.array(-3.4028235e38, np.float32),
    "causal": np.tril(np.ones((1, 1, 3, 3), bool)),
    "bias": RNG.standard_normal((1, 2, 3, 3)).astype(np.float32),
    "each": RNG.standard_normal((1, 5, 1, 3, 3)).astype(np.float32),
}


def ints(*names: str) -> str:
    return ", ".join(f"int64[{text.count(',') + 1}] {name} = {{{text}}}" for name, text in (n.split("=") for n in names))  # fmt: skip


def graph(body: str, result: str = "float[N,3,8] y", given: str = "float[N,3,8] x", *names: str) -> str:  # fmt: skip
    return f"g ({given}) => ({result}) <{ints(*names)}> {{ {body} }}"


CORE = "qs = Mul(q, s) t = Transpose<perm = [0, 1, 3, 2]>(k) a = MatMul(qs, t) p = Softmax(a) o = MatMul(p, v)"
END = "ot = Transpose<perm = [0, 2, 1, 3]>(o) y = Reshape(ot, flat)"
HEADS = "Transpose<perm = [0, 2, 1, 3]>"
SELECT = "q = Gather(h, zero) k = Gather(h, one) v = Gather(h, two)"
FUSED = {
    # Swin: queries, keys and values outermost in the columns.
    "three, heads, size": (
        graph(
            f"m = MatMul(x, w) c = Add(m, b) r = Reshape(c, parts) h = Transpose<perm = [2, 0, 3, 1, 4]>(r) {SELECT} {CORE} {END}",
            "float[N,3,8] y", "float[N,3,8] x", "parts=0,3,3,2,4", "flat=0,0,8",
        ),
        {ONE: 1},
    ),
    # GPT-NeoX: each head has its query, key and value beside each other.
    "heads, three, size": (
        graph(
            f"m = MatMul(x, w) c = Add(m, b) r = Reshape(c, parts) h = Transpose<perm = [3, 0, 2, 1, 4]>(r) {SELECT} {CORE} {END}",
            "float[N,3,8] y", "float[N,3,8] x", "parts=0,3,2,3,4", "flat=0,0,8",
        ),
        {ONE: 1},
    ),
    # GPT-2: one product, then Split; the causal mask chooses.
    "split": (
        graph(
            "m = MatMul(x, w) c = Add(m, b) qf, kf, vf = Split<axis = 2>(c, thirds) "
            f"qr = Reshape(qf, heads) q = {HEADS}(qr) kr = Reshape(kf, heads) k = {HEADS}(kr) vr = Reshape(vf, heads) v = {HEADS}(vr) "
            "qs = Mul(q, s) t = Transpose<perm = [0, 1, 3, 2]>(k) a = MatMul(qs, t) f = Where(causal, a, minus) p = Softmax(f) o = MatMul(p, v) "
            + END,
            "float[N,3,8] y", "float[N,3,8] x", "thirds=8,8,8", "heads=0,0,2,4", "flat=0,0,8",
        ),
        {ONE: 1},
    ),
    # torch's MultiheadAttention: lengths first, batches and heads in one dimension.
    "lengths first": (
        graph(
            "xt = Transpose<perm = [1, 0, 2]>(x) m = MatMul(xt, w) c = Add(m, b) r = Reshape(c, parts) "
            "u = Transpose<perm = [3, 1, 2, 0, 4]>(r) h = Squeeze(u, third) "
            "qg = Gather(h, zero) kg = Gather(h, one) vg = Gather(h, two) "
            "qr = Reshape(qg, all) qt = Transpose<perm = [1, 0, 2]>(qr) q = Reshape(qt, four) "
            "kr = Reshape(kg, all) kt = Transpose<perm = [1, 0, 2]>(kr) k = Reshape(kt, four) "
            f"vr = Reshape(vg, all) vt = Transpose<perm = [1, 0, 2]>(vr) v = Reshape(vt, four) {CORE} "
            "ot = Transpose<perm = [2, 0, 1, 3]>(o) l = Reshape(ot, rows) y = Transpose<perm = [1, 0, 2]>(l)",
            "float[N,3,8] y", "float[N,3,8] x", "parts=1,3,-1,3,8", "third=3", "all=3,-1,4", "four=-1,2,3,4", "rows=3,-1,8",
        ),
        {ONE: 1},
    ),
    # Products of batches: batch and heads are one dimension up to the end.
    "rank 3": (
        graph(
            "xt = Transpose<perm = [1, 0, 2]>(x) m = MatMul(xt, w) c = Add(m, b) qf, kf, vf = Split<axis = 2>(c, thirds) "
            "qr = Reshape(qf, all) q = Transpose<perm = [1, 0, 2]>(qr) kr = Reshape(kf, all) t = Transpose<perm = [1, 2, 0]>(kr) "
            "vr = Reshape(vf, all) v = Transpose<perm = [1, 0, 2]>(vr) qs = Mul(q, s) a = MatMul(qs, t) p = Softmax<axis = 2>(a) o = MatMul(p, v) "
            "ot = Transpose<perm = [1, 0, 2]>(o) l = Reshape(ot, rows) y = Transpose<perm = [1, 0, 2]>(l)",
            "float[N,3,8] y", "float[N,3,8] x", "thirds=8,8,8", "all=3,-1,4", "rows=3,-1,8",
        ),
        {ONE: 1},
    ),
    # Cross attention: keys and values are halves of one product.
    "cross": (
        graph(
            f"qm = MatMul(x, wq) qr = Reshape(qm, heads) q = {HEADS}(qr) m = MatMul(z, kv) kf, vf = Split<axis = 2>(m, halves) "
            f"kr = Reshape(kf, heads) k = {HEADS}(kr) vr = Reshape(vf, heads) v = {HEADS}(vr) {CORE} {END}",
            "float[N,3,8] y", "float[N,3,8] x, float[N,5,8] z", "halves=8,8", "heads=0,0,2,4", "flat=0,0,8",
        ),
        {MANY: 1, "MatMul": 2, "Split": 1},
    ),
    # Grouped queries: two heads share one of keys and values.
    "grouped": (
        graph(
            f"qm = MatMul(x, wq) qr = Reshape(qm, fours) q = {HEADS}(qr) km = MatMul(x, small) kr = Reshape(km, twos) kh = {HEADS}(kr) "
            f"vm = Tanh(km) vr = Reshape(vm, twos) vh = {HEADS}(vr) ku = Unsqueeze(kh, third) ke = Expand(ku, wide) k = Reshape(ke, joined) "
            f"vu = Unsqueeze(vh, third) ve = Expand(vu, wide) v = Reshape(ve, joined) {CORE} {END}",
            "float[N,3,8] y", "float[N,3,8] x", "fours=0,0,4,2", "twos=0,0,2,2", "third=2", "wide=1,1,2,1,1", "joined=0,4,3,2", "flat=0,0,8",
        ),
        {MANY: 1, "MatMul": 2, "Tanh": 1, "Reshape": 2, "Transpose": 2, "Gather": 2},
    ),
    # Swin's shifted windows: five windows an image, each with its own mask.
    "windows": (
        graph(
            f"m = MatMul(x, w) c = Add(m, b) r = Reshape(c, parts) h = Transpose<perm = [2, 0, 3, 1, 4]>(r) {SELECT} "
            "qs = Mul(q, s) t = Transpose<perm = [0, 1, 3, 2]>(k) a = MatMul(qs, t) f = Add(a, bias) wide = Reshape(f, five) "
            f"g = Add(wide, each) n = Reshape(g, back) p = Softmax(n) o = MatMul(p, v) {END} i = Shape(image)",
            "float[W,3,8] y, int64[1] i", "float[W,3,8] x, float[I] image", "parts=0,3,3,2,4", "five=-1,5,2,3,3", "back=-1,2,3,3", "flat=0,0,8",
        ).replace("<", "<float[I,5,2,3,3] wide, ", 1),
        {ONE: 1, "Add": 1, "Unsqueeze": 1, "Shape": 2, "Concat": 1, "Expand": 1, "Reshape": 1},
    ),
    # A mask of the keys alone, of a length that only an input tells.
    "open length": (
        graph(
            f"qr = Reshape(x, heads) q = {HEADS}(qr) kr = Reshape(z, heads) k = {HEADS}(kr) qs = Mul(q, s) t = Transpose<perm = [0, 1, 3, 2]>(k) "
            f"a = MatMul(qs, t) f = Add(a, mask) p = Softmax(f) o = MatMul(p, k) {END}",
            "float[N,L,8] y", "float[N,L,8] x, float[N,M,8] z, float[N,1,1,M] mask", "heads=0,0,2,4", "flat=0,0,8",
        ),
        {MANY: 1, "Shape": 1, "Concat": 1, "Expand": 1},
    ),
    # One head, and products of rank 3 as they are.
    "one head": (
        graph("t = Transpose<perm = [0, 2, 1]>(z) a = MatMul(x, t) d = Div(a, s) p = Softmax(d) y = MatMul(p, z)", "float[N,3,8] y", "float[N,3,8] x, float[N,5,8] z"),
        {MANY: 1},
    ),
    # A transpose that names no order reverses all dimensions.
    "reversed": (
        "g (float[2,2,2,2] x) => (float[2,2,2,2] y) { t = Transpose(x) a = MatMul(x, t) p = Softmax(a) y = MatMul(p, x) }",
        {MANY: 1, "Reshape": 2, "Transpose": 3},
    ),
}  # fmt: skip
DIMS = {"N": 2, "L": 3, "M": 5, "W": 10, "I": 2}


def run(artifact: Artifact) -> Artifact:
    passes = "infer-shapes,fuse-attention,merge-common-subexpressions,remove-unused-nodes"
    model = artifact.model.clone()
    for pass_ in PassPipeline.parse(passes).passes:
        model = pass_.apply(model, PassContext()).model
    return Artifact(model)


@pytest.mark.parametrize("name", FUSED)
def test_it_is_one_operator_with_equal_numbers(
    name: str, load_text: Callable[..., Artifact]
) -> None:
    text, after = FUSED[name]
    artifact = load_text(text, WEIGHTS, opset=20)
    found = run(artifact)
    assert census(found.model) == after
    feeds = probe_inputs(artifact.model, artifact.spec, DIMS, seed=1, default=3)
    with Session(artifact, optimize=False) as session:
        expected = session.run(feeds)["y"]
    with Session(found, optimize=False) as session:
        np.testing.assert_allclose(session.run(feeds)["y"], expected, rtol=2e-5, atol=5e-6)
