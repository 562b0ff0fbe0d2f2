# ruff: noqa: E501 - a graph is easier read in one line
"""Shapes behind the runtime's operators are those that the runtime gives."""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.cleanup.infer_shapes import InferShapes
from onnxsmith.runtime.session import Session

HEADER = '<ir_version: 10, opset_import: ["": 20, "com.microsoft": 1]>'
RNG = np.random.default_rng(2)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


X = "float[2,3,8] x"
GRAPHS = [
    *(f"g ({X}) => (y) {{ a = com.microsoft.{kind}(x) y = Neg(a) }}" for kind in ("Gelu", "FastGelu", "QuickGelu")),
    f"g ({X}) => (y) {{ a = com.microsoft.BiasGelu(x, b) y = Neg(a) }}",
    f"g ({X}) => (y, z) {{ a, m, i, s = com.microsoft.SkipLayerNormalization(x, x, b, b) y = Neg(a) z = Exp(s) }}",
    f"g ({X}) => (y, z) {{ a, m, i, s = com.microsoft.SkipSimplifiedLayerNormalization(x, x, b) y = Neg(a) z = Exp(s) }}",
    f"g ({X}) => (y) {{ a = SimplifiedLayerNormalization<axis = -1>(x, b) y = Neg(a) }}",
    f"g ({X}) => (y) {{ a = com.microsoft.Attention<num_heads = 2>(x, w, b3) y = Neg(a) }}",
    f"g ({X}) => (y) {{ a = com.microsoft.Attention<num_heads = 2, qkv_hidden_sizes = [8, 8, 4]>(x, v, b2) y = Neg(a) }}",
    f"g ({X}) => (y) {{ a = com.microsoft.MultiHeadAttention<num_heads = 2>(x, x, x) y = Neg(a) }}",
    "g (float[2,3,8] x, float[2,2,5,4] k) => (y) { a = com.microsoft.MultiHeadAttention<num_heads = 2>(x, k, k) y = Neg(a) }",
    f"g ({X}) => (y) {{ a = com.microsoft.FusedMatMul<transB = 1>(x, x) y = Neg(a) }}",
    f"g ({X}) => (y) {{ a = com.microsoft.FusedMatMul<transA = 1>(x, x) y = Neg(a) }}",
    'g (float[3,8] x) => (y) { a = com.microsoft.FusedGemm<transB = 1, activation = "Relu">(x, x, c) y = Neg(a) }',
    "g (int32[2,3] x) => (y) { a, m = com.microsoft.EmbedLayerNormalization(x, , t, t, , b, b) y = Neg(a) }",
]  # fmt: skip
WEIGHTS = {
    "b": normal(8), "w": normal(8, 24), "b3": normal(24), "v": normal(8, 20), "b2": normal(20),
    "c": normal(3), "t": normal(4, 8),
}  # fmt: skip


@pytest.mark.parametrize("text", GRAPHS)
def test_the_shape_is_the_runtimes(text: str, load_text: Callable[..., Artifact]) -> None:
    typed = text.replace("=> (y, z)", "=> (float[A,B,C] y, float[D,E,F] z)")
    typed = typed.replace(
        "=> (y)", "=> (float[A,B] y)" if "FusedGemm" in text else "=> (float[A,B,C] y)"
    )
    weights = {
        name: array for name, array in WEIGHTS.items() if f" {name}," in text or f" {name})" in text
    }
    artifact = load_text(typed, weights, opset=20, header=HEADER)
    model = artifact.model.clone()
    for value in model.graph.outputs:
        value.shape = None
    assert InferShapes().apply(model, PassContext()).modified
    feeds = {}
    for value in artifact.spec.inputs:
        shape = tuple(d for d in value.shape or () if isinstance(d, int))
        feeds[value.name] = np.ones(shape, value.dtype)
    with Session(artifact, optimize=False) as session:
        outputs = session.run(feeds)
    for value in model.graph.outputs:
        assert value.shape == ir.Shape(outputs[value.name or ""].shape)
        assert value.dtype == ir.DataType.FLOAT


def test_a_layer_normalization_of_before_onnx_had_it(load_text: Callable[..., Artifact]) -> None:
    text = "g (float[B,4] x) => (float[B,4] y) { n = LayerNormalization(x, w) y = Neg(n) }"
    artifact = load_text(text, {"w": np.ones(4, np.float32)}, opset=12)
    InferShapes().apply(artifact.model, PassContext())
    assert str(artifact.model.graph[0].outputs[0].shape) == "[B,4]"
