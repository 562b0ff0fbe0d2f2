"""Presets must not cost the runtime a fusion that is worth having."""

import re
from collections.abc import Callable

import numpy as np
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.layout.set_session import SetSession
from onnxsmith.pipeline.kernels.lost import faster_fused
from onnxsmith.pipeline.kernels.table import RUNTIME_FUSIONS
from onnxsmith.pipeline.optimize import OptimizeRequest, optimize
from onnxsmith.runtime.census import lost_fusions, runtime_census
from onnxsmith.target import TARGETS

# A layer of a transformer as torch.onnx writes it: biases apart, GELU by the error function.
BLOCK = """block (float[batch,64,256] x) => (float[batch,64,256] y) {
    n1 = LayerNormalization<axis=-1>(x, g, b)
    m1 = MatMul(n1, w1)
    a1 = Add(m1, b1)
    d = Div(a1, root)
    e = Erf(d)
    o = Add(e, one)
    p = Mul(a1, o)
    q = Mul(p, half)
    m2 = MatMul(q, w2)
    a2 = Add(m2, b2)
    s = Add(x, a2)
    n2 = LayerNormalization<axis=-1>(s, g, b)
    m3 = MatMul(n2, w3)
    a3 = Add(m3, b)
    k = Sigmoid(a3)
    y = Mul(a3, k)
}"""
# A block of a convolutional network, its batch normalization apart.
CONVOLUTIONS = """net (float[batch,16,32,32] x) => (float[batch,32,16,16] y) {
    c1 = Conv<pads=[1,1,1,1]>(x, k1)
    h1 = BatchNormalization(c1, s16, z16, z16, s16)
    r1 = Relu(h1)
    c2 = Conv<pads=[1,1,1,1]>(r1, k1)
    h2 = BatchNormalization(c2, s16, z16, z16, s16)
    t = Add(h2, x)
    r2 = Relu(t)
    c3 = Conv<strides=[2,2], pads=[1,1,1,1]>(r2, k2)
    y = Clip(c3, zero, six)
}"""


def weights() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)

    def random(*shape: int) -> np.ndarray:
        return (generator.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)

    numbers = {"root": np.sqrt(2), "one": 1, "half": 0.5, "zero": 0, "six": 6}
    return {
        "g": random(256),
        "b": random(256),
        "b1": random(1024),
        "b2": random(256),
        "w1": random(256, 1024),
        "w2": random(1024, 256),
        "w3": random(256, 256),
        "k1": random(16, 16, 3, 3),
        "k2": random(32, 16, 3, 3),
        "s16": np.full(16, 1.25, np.float32),
        "z16": random(16),
        **{name: np.array(number, np.float32) for name, number in numbers.items()},
    }


def model(load_text: Callable[..., Artifact], text: str, opset: int) -> Artifact:
    words = set(re.findall(r"\w+", text))
    return load_text(text, {n: a for n, a in weights().items() if n in words}, opset=opset)


def lost(before: Artifact, after: Artifact) -> set[str]:
    """Return the operators that the runtime makes fewer of, without their domain."""
    found = lost_fusions(runtime_census(before), runtime_census(after))
    return {name.rpartition(".")[2] for name in found}


@pytest.mark.parametrize("text", [BLOCK, CONVOLUTIONS], ids=["transformer", "convolutions"])
@pytest.mark.parametrize("preset", ["safe", "cpu", "edge"])
@pytest.mark.parametrize("opset", [18, 20])
def test_no_lost_fusion_is_faster_than_its_parts(
    load_text: Callable[..., Artifact], text: str, preset: str, opset: int
) -> None:
    before = model(load_text, text, opset)
    after = optimize(before, OptimizeRequest(preset=preset)).artifact
    missing = lost(before, after)
    assert missing <= RUNTIME_FUSIONS.keys()  # what cannot be measured must not be lost
    assert faster_fused(before, missing, TARGETS["cpu"]) == {}


def test_a_loss_would_be_seen(load_text: Callable[..., Artifact]) -> None:
    before = model(load_text, BLOCK, 20)
    after = before.clone()
    SetSession(RUNTIME_FUSIONS["BiasGelu"]).apply(after.model, PassContext())
    assert lost(before, after) == {"BiasGelu"}


def test_a_faster_kernel_would_be_seen(load_text: Callable[..., Artifact]) -> None:
    before = load_text("g (float[64,1024] x) => (float[64,1024] y) { y = Gelu(x) }", opset=20)
    assert set(faster_fused(before, {"Gelu"}, TARGETS["cpu"])) == {"Gelu"}
