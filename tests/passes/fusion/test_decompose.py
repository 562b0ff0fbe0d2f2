# ruff: noqa: E501 - a graph is easier read in one line
"""Fused operators are written in plain ones, with equal numbers."""

from collections.abc import Callable

import numpy as np
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import UsageError
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.fusion.decompose import Decompose
from onnxsmith.passes.observers import census
from onnxsmith.passes.pipeline import PassPipeline
from onnxsmith.runtime.probe import probe_inputs
from onnxsmith.runtime.session import Session

RNG = np.random.default_rng(5)
WEIGHTS = {name: RNG.uniform(0.5, 2, 8).astype(np.float32) for name in ("g", "b", "c")}
WEIGHTS |= {"w": RNG.standard_normal((8, 24)).astype(np.float32), "wb": np.ones(24, np.float32)}
WEIGHTS |= {f"w{p}": RNG.standard_normal((8, 8)).astype(np.float32) for p in "qkv"}
WEIGHTS |= {name: RNG.standard_normal((7, 2)).astype(np.float32) for name in ("cos", "sin")}
WEIGHTS |= {
    "first": np.array([0]),
    "second": np.array([3]),
    "few": RNG.standard_normal((8, 4)).astype(np.float32),
}
WEIGHTS |= {
    "places": np.array([[4], [1]]),
    "row": np.arange(3)[None],
    "high": np.full((1, 1, 3, 1), [[[[0.3], [9], [-0.3]]]], np.float32),
}
WEIGHTS |= {"kernel": RNG.standard_normal((3, 3, 3)).astype(np.float32), "shift": WEIGHTS["b"][:3]}
WEIGHTS |= {"rows": np.array([-1, 8]), "back": np.array([-1, 3, 8])}
WEIGHTS |= {"last": np.array([2]), "nought": np.array(0, np.float32)}
WEIGHTS |= {"heads": np.array([0, 0, 2, 4]), "flat": np.array([0, 0, 8])}

PLAIN = {
    *("Add", "Sub", "Mul", "Div", "Erf", "Tanh", "Sigmoid", "HardSigmoid", "ReduceMean", "Sqrt"),
    *(
        "Gather",
        "Greater",
        "IsNaN",
        "Where",
        "Trilu",
        "ConstantOfShape",
        "Slice",
        "Concat",
        "Unsqueeze",
    ),
    *("Conv", "Gemm", "Relu", "LeakyRelu", "Clip", "Elu", "Softplus"),
    *("Selu", "Softsign", "ThresholdedRelu"),
    *("Reciprocal", "MatMul", "Softmax", "Split", "Reshape", "Transpose", "Shape", "Cast", "If"),
}
MS = "com.microsoft"
FUSED = [
    (20, "y = Gelu(x)"),
    (20, 'y = Gelu<approximate = "tanh">(x)'),
    (20, f"y = {MS}.BiasGelu(x, b)"),
    (20, f"y = {MS}.FastGelu(x, b)"),
    (20, f"y = {MS}.FastGelu(x)"),
    (20, f"y = {MS}.QuickGelu(x)"),
    (20, f"y = {MS}.QuickGelu<alpha = 1.0>(x)"),
    (20, "y = HardSwish(x)"),
    (17, "y = LayerNormalization<epsilon = 0.1>(x, g, b)"),
    (20, "y = LayerNormalization<axis = 2, epsilon = 0.1>(x, g)"),
    (20, "y = SimplifiedLayerNormalization<axis = -1, epsilon = 0.1>(x, g)"),
    (23, "y = RMSNormalization<epsilon = 0.1>(x, g)"),
    (20, f"y = {MS}.SkipLayerNormalization<epsilon = 0.1>(x, s, g, b, c)"),
    (20, f"y = {MS}.SkipLayerNormalization<epsilon = 0.1>(x, s, g)"),
    (20, f"y = {MS}.SkipSimplifiedLayerNormalization<epsilon = 0.1>(x, s, g, c)"),
    (20, f"t, m, i, a = {MS}.SkipLayerNormalization(x, s, g, b) y = Mul(t, a)"),
    (
        20,
        f"y = {MS}.Attention<num_heads = 2>(x, w, wb)",
    ),
    (20, f"y = {MS}.Attention<num_heads = 2, scale = 0.3>(x, w, wb, , , k)"),
    (20, f"y = {MS}.MultiHeadAttention<num_heads = 2>(x, s, x)"),
    (20, f"y = {MS}.MultiHeadAttention<num_heads = 4, scale = 0.7>(x, s, s, , , k)"),
    (20, f"y = {MS}.Attention<num_heads = 2, unidirectional = 1>(x, w, wb)"),
    (20, f"y = {MS}.MultiHeadAttention<num_heads = 2, unidirectional = 1>(x, s, x)"),
    (
        20,
        f"r = Reshape(s, heads) t = Transpose<perm = [0, 2, 1, 3]>(r) y, u, v = {MS}.MultiHeadAttention<num_heads = 2, unidirectional = 1>(x, s, x, , , , t, t)",
    ),
    (20, f"y = {MS}.MultiHeadAttention<num_heads = 2>(x, s, x, wb)"),
    *(
        (
            20,
            f"n = ReduceMean<keepdims = 0>(x, last) f = Greater(n, nought) p = Cast<to = 6>(f) {more}",
        )
        for more in (
            f"y = {MS}.MultiHeadAttention<num_heads = 2>(x, s, x, wb, p)",
            f"y = {MS}.MultiHeadAttention<num_heads = 2, mask_filter_value = -0.7>(x, s, x, , p, k)",
            f"y = {MS}.Attention<num_heads = 2, mask_filter_value = -0.7>(x, w, wb, p)",
            f"y = {MS}.Attention<num_heads = 2, mask_filter_value = -0.7>(x, w, wb, p, , k)",
        )
    ),
    (20, f"y = {MS}.FusedMatMul<alpha = 0.3>(x, wq)"),
    (20, f"y = {MS}.FusedMatMul<alpha = 0.3, transB = 1>(x, wq)"),
    (20, f"t = {MS}.FusedMatMul<transA = 1>(x, s) y = MatMul(x, t)"),
    *(
        (20, f"y = {MS}.FusedConv<kernel_shape = [3], pads = [1, 1]{more}>({operands})")
        for operands in ("x, kernel, shift", "x, kernel, shift, s", "x, kernel, , s")
        for more in (
            "",
            ', activation = "Relu"',
            ', activation = "LeakyRelu", activation_params = [0.3]',
            ', activation = "Clip", activation_params = [-0.5, 0.7]',
            ', activation = "Tanh"',
            ', activation = "HardSigmoid", activation_params = [0.3, 0.4]',
        )
    ),
    *(
        (
            20,
            f"r = Reshape(x, rows) t = {MS}.FusedGemm<alpha = 0.7, beta = 0.2, transB = 1, activation = {more}>(r, wq, b) y = Reshape(t, back)",
        )
        for more in (
            '"Relu"',
            '"Sigmoid"',
            '"LeakyRelu", activation_alpha = 0.3',
            '"Softsign"',
            '"Softplus"',
            '"HardSigmoid", activation_alpha = 0.3, activation_beta = 0.4',
            '"Tanh"',
            '"Elu", activation_alpha = 0.3',
            '"ThresholdedRelu", activation_alpha = 0.3',
            '"Selu", activation_alpha = 1.3, activation_gamma = 1.1',
        )
    ),
    (20, f"y = {MS}.RotaryEmbedding(x, first, cos, sin)"),
    (20, f"y = {MS}.RotaryEmbedding(x, second, cos, sin)"),
    (
        20,
        f"r = Reshape(x, heads) t = Transpose<perm = [0, 2, 1, 3]>(r) e = {MS}.RotaryEmbedding(t, second, cos, sin) u = Transpose<perm = [0, 2, 1, 3]>(e) y = Reshape(u, flat)",
    ),
    (20, f"p = Add(places, row) y = {MS}.RotaryEmbedding(x, p, cos, sin)"),
    (23, "p = Add(places, row) y = RotaryEmbedding<num_heads = 2>(x, cos, sin, p)"),
    (23, "y = Attention<q_num_heads = 2, kv_num_heads = 2>(x, s, x)"),
    (23, "y = Attention<q_num_heads = 2, kv_num_heads = 2, scale = 0.3>(x, s, x, k)"),
    (23, "y = Attention<q_num_heads = 2, kv_num_heads = 2, is_causal = 1>(x, s, x)"),
    (23, "m = MatMul(x, few) y = Attention<q_num_heads = 2, kv_num_heads = 1>(x, m, m)"),
    (23, "z = Greater(k, high) y = Attention<q_num_heads = 2, kv_num_heads = 2>(x, s, x, z)"),
    (
        23,
        "r = Reshape(x, heads) t = Transpose<perm = [0, 2, 1, 3]>(r) e = Attention(t, t, t) u = Transpose<perm = [0, 2, 1, 3]>(e) y = Reshape(u, flat)",
    ),
]
KEPT = [
    (20, f"y = {MS}.Attention<num_heads = 2, do_rotary = 1>(x, w, wb)"),
    (13, f"y = {MS}.Attention<num_heads = 2, unidirectional = 1>(x, w, wb)"),
    (23, "y = Attention<q_num_heads = 2, kv_num_heads = 2, softcap = 3.0>(x, s, x)"),
    (20, f"y = {MS}.RotaryEmbedding<interleaved = 1>(x, first, cos, sin)"),
    (20, f"y = {MS}.RotaryEmbedding<num_heads = 1, rotary_embedding_dim = 4>(x, first, cos, sin)"),
    (20, f'y = {MS}.FusedConv<activation = "Gelu">(x, kernel)'),
    (20, f"y = {MS}.FusedMatMul<transBatchB = 1>(x, s)"),
    (20, "y = Relu(x)"),
]


def text_of(body: str) -> str:
    inputs = [f"float[N,3,8] {name}" for name in "xs" if f"{name}," in body or f"{name})" in body]
    more = ["float[1,1,3,3] k"] if ", k)" in body or "Greater(k" in body else []
    return f"g ({', '.join(inputs + more)}) => (float[N,3,8] y) {{ {body} }}"


def run(artifact: Artifact, passes: str = "infer-shapes,decompose") -> Artifact:
    model = artifact.model.clone()
    for pass_ in PassPipeline.parse(passes).passes:
        model = pass_.apply(model, PassContext()).model
    return Artifact(model)


def assert_equal(first: Artifact, second: Artifact) -> None:
    feeds = probe_inputs(first.model, first.spec, {"N": 2}, seed=1, default=3)
    with Session(first, optimize=False) as session:
        expected = session.run(feeds)
    with Session(second, optimize=False) as session:
        for key, array in session.run(feeds).items():
            np.testing.assert_allclose(array, expected[key], rtol=2e-5, atol=5e-6)


@pytest.mark.parametrize(("opset", "body"), FUSED)
def test_only_plain_operators_are_left(
    opset: int, body: str, load_text: Callable[..., Artifact]
) -> None:
    artifact = load_text(text_of(body), WEIGHTS, opset=opset)
    found = run(artifact)
    assert set(census(found.model)) <= PLAIN
    assert_equal(artifact, found)
    assert census(run(found).model) == census(found.model)


@pytest.mark.parametrize(("opset", "body"), KEPT)
def test_what_it_does_not_know_stays(
    opset: int, body: str, load_text: Callable[..., Artifact]
) -> None:
    artifact = load_text(text_of(body), WEIGHTS, opset=opset)
    assert census(run(artifact).model) == census(artifact.model)
    assert len(run(artifact).model.graph.initializers) == len(artifact.model.graph.initializers)


@pytest.mark.parametrize("a", ["", "transBatchA = 1", "transA = 1", "transA = 1, transBatchA = 1"])
@pytest.mark.parametrize("b", ["", "transB = 1", "transB = 1, transBatchB = 1"])
def test_batches_that_are_turned_around(a: str, b: str, load_text: Callable[..., Artifact]) -> None:
    shapes = {"A": [5, 2, 3, 4], "B": [5, 2, 4, 6]}
    for side, options in (("A", a), ("B", b)):
        shape = shapes[side]
        if f"trans{side}" in options:
            shape[2:] = shape[:1:-1]
        if "Batch" in options:
            shapes[side] = [shape[2], *shape[:2], shape[3]]
    given = ", ".join(option for option in (a, b) if option)
    text = f"g (float{shapes['A']} x, float{shapes['B']} s) => (float[5,2,3,6] y) {{ y = {MS}.FusedMatMul<{given}>(x, s) }}"
    artifact = load_text(text.replace("<>", ""), {}, opset=20)
    found = run(artifact)
    assert set(census(found.model)) <= PLAIN
    assert_equal(artifact, found)


def test_groups_of_channels_are_normalized(load_text: Callable[..., Artifact]) -> None:
    text = "g (float[N,8,4,4] x) => (float[N,8,4,4] y) { y = GroupNormalization<num_groups = 2>(x, g, b) }"
    artifact = load_text(text, WEIGHTS, opset=21)
    found = run(artifact)
    assert set(census(found.model)) <= PLAIN
    assert_equal(artifact, found)


def test_halves_are_normalized_in_float32(load_text: Callable[..., Artifact]) -> None:
    weights = {name: WEIGHTS[name].astype(np.float16) for name in "gb"}
    text = "g (float16[N,3,8] x) => (float16[N,3,8] y) { y = LayerNormalization(x, g, b) }"
    artifact = load_text(text, weights, opset=20)
    found = run(artifact)
    assert census(found.model)["Cast"] == 2
    feeds = {"x": (1000 + 50 * RNG.standard_normal((2, 3, 8))).astype(np.float16)}
    with Session(artifact, optimize=False) as session:
        expected = session.run(feeds)["y"]
    with Session(found, optimize=False) as session:
        np.testing.assert_allclose(session.run(feeds)["y"], expected, rtol=5e-3, atol=5e-3)


def test_bodies_are_decomposed(load_text: Callable[..., Artifact]) -> None:
    text = (
        "g (float[N,3,8] x, bool q) => (float[N,3,8] y) "
        "{ y = If(q) <then_branch = t () => (float[N,3,8] u) { u = Gelu(x) }, "
        "else_branch = e () => (float[N,3,8] v) { v = HardSwish(x) }> }"
    )
    artifact = load_text(text, opset=20)
    found = run(artifact)
    assert set(census(found.model)) <= PLAIN
    assert_equal(artifact, found)


def test_only_the_named_operators(load_text: Callable[..., Artifact]) -> None:
    artifact = load_text(text_of("h = Gelu(x) y = HardSwish(h)"), opset=20)
    found = run(artifact, "infer-shapes,decompose:ops=HardSwish")
    assert census(found.model) == {"Gelu": 1, "HardSigmoid": 1, "Mul": 1}
    with pytest.raises(UsageError, match="HardSwich"):
        Decompose(ops=("HardSwich",))


def test_fusions_are_undone(load_text: Callable[..., Artifact]) -> None:
    parts = " ".join(
        f"{p} = MatMul(x, w{p}) {p}r = Reshape({p}, heads) {p}t = Transpose<perm = [0, 2, 1, 3]>({p}r)"
        for p in "qkv"
    )
    body = (
        f"{parts} ku = Transpose<perm = [0, 1, 3, 2]>(kt) sc = MatMul(qt, ku) p = Softmax(sc) o = MatMul(p, vt) "
        "ot = Transpose<perm = [0, 2, 1, 3]>(o) h = Reshape(ot, flat) a = Add(h, x) l = LayerNormalization(a, g, b) "
        "lb = Add(l, c) e = Gelu(lb) z = Sigmoid(e) y = Mul(e, z)"
    )
    artifact = load_text(text_of(body), WEIGHTS, opset=20)
    fusions = "infer-shapes,fuse-attention,fuse-skip-layer-norm,fuse-bias-gelu,fuse-swish"
    fused = run(artifact, f"{fusions},remove-unused-nodes")
    assert {f"{MS}.{kind}" for kind in ("Attention", "SkipLayerNormalization", "BiasGelu", "QuickGelu")} == set(census(fused.model))  # fmt: skip
    undone = run(fused, "decompose")
    assert set(census(undone.model)) <= PLAIN
    assert_equal(artifact, undone)
