"""Pairs as operators on integers: which, and that they compute what the pairs say."""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.quantization.fuse_qdq import FuseQdq
from onnxsmith.passes.quantization.quantize_static import QuantizeStatic
from onnxsmith.runtime.session import Session

RNG = np.random.default_rng(4)
W = RNG.standard_normal((6, 3, 3, 3)).astype(np.float32)
V = RNG.standard_normal((4, 6, 1, 1)).astype(np.float32)
B = RNG.standard_normal(6).astype(np.float32)
G = RNG.standard_normal((9, 6)).astype(np.float32)
H = np.linspace(-1, 1, 9).astype(np.float32)
X = RNG.uniform(-1, 2, (40, 3, 8, 8)).astype(np.float32)


def quantized(body: str, **tensors: np.ndarray) -> ir.Model:
    head = '<ir_version: 10, opset_import: ["" : 20]> g (float[N,3,8,8] x) => (float[] y)'
    text = f"{head} {{ {body} }}"
    model = ir.from_onnx_text(text, [ir.tensor(a, name=n) for n, a in tensors.items()])

    def samples() -> Iterator[dict[str, np.ndarray]]:
        yield {"x": X}

    return QuantizeStatic().apply(model, PassContext(samples=samples)).model


def run(model: ir.Model) -> np.ndarray:
    with Session(Artifact(model), optimize=False) as session:
        return session.run({"x": X})["y"]


@pytest.mark.parametrize(
    ("body", "tensors", "ops"),
    [
        ("a = Conv<strides = [2, 2], pads = [1, 0, 1, 0]>(x, w, b) r = Relu(a) y = Conv(r, v)",
         {"w": W, "v": V, "b": B}, "QLinearConv QLinearConv"),
        ("a = Conv(x, w) r = Clip(a, z, s) y = Conv(r, v)",
         {"w": W, "v": V, "z": np.float32(0), "s": np.float32(3)}, "QLinearConv QLinearConv"),
        ("a = Conv(x, w, b) s = Sigmoid(a) m = Mul(a, s) c = Add(m, a) y = Conv(c, v)",
         {"w": W, "v": V, "b": B}, "QLinearConv QLinearSigmoid QLinearMul QLinearAdd QLinearConv"),
        ("a = Conv(x, w) s = LeakyRelu<alpha = 0.3>(a) c = Concat<axis = 2>(a, s) y = Conv(c, v)",
         {"w": W, "v": V}, "QLinearConv QLinearLeakyRelu QLinearConcat QLinearConv"),
        ("a = Conv(x, w) p = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(a)"
         "m = MaxPool<kernel_shape = [3, 3]>(p) y = Conv(m, v)",
         {"w": W, "v": V}, "QLinearConv QLinearAveragePool MaxPool QLinearConv"),
        ("a = Conv(x, w) p = GlobalAveragePool(a) f = Flatten(p) g1 = Gemm<transB = 1>(f, g, h)"
         "r = Relu(g1) y = MatMul(r, k)", {"w": W, "g": G, "h": H, "k": G},
         "QLinearConv QLinearGlobalAveragePool Flatten QGemm MatMulIntegerToFloat"),
        ("a = Conv(x, w) p = GlobalAveragePool(a) f = Flatten(p) q = MatMul(f, k)"
         "y = Gemm<alpha = 0.5>(q, g)", {"w": W, "g": G, "k": G.T.copy()},
         "QLinearConv QLinearGlobalAveragePool Flatten QLinearMatMul QGemm"),
        ("a = Conv(x, w) b1, c = Split<axis = 1, num_outputs = 2>(a) d = Add(b1, c) y = Conv(d, u)",
         {"w": W, "u": V[:, :3]}, "QLinearConv Split QLinearAdd QLinearConv"),
    ],
)  # fmt: skip
def test_pairs_become_operators_on_integers(
    body: str, tensors: dict[str, np.ndarray], ops: str
) -> None:
    pairs = quantized(body, **tensors)
    wanted = run(pairs)
    result = FuseQdq().apply(pairs.clone(), PassContext())
    kinds = [n.op_type for n in result.model.graph]
    assert [k for k in kinds if k not in ("QuantizeLinear", "DequantizeLinear")] == ops.split()
    assert kinds.count("QuantizeLinear") == 1, "of the input"
    assert kinds.count("DequantizeLinear") == (0 if kinds[-1].endswith(("Gemm", "Float")) else 1)
    found = run(result.model)
    # Integer kernels round half-way cases otherwise: a step of the output, at a few places.
    assert np.abs(found - wanted).max() < 0.02 * np.abs(wanted).max()
    noise = np.square(found - wanted).sum() / np.square(wanted).sum()
    assert noise < 1e-4
    assert not FuseQdq().apply(result.model, PassContext()).modified


@pytest.mark.parametrize(
    "body",
    [
        # A value that is read before it is rounded, a Relu that rounding does not replace,
        "a = Conv(x, w) s = Sin(a) y = Add(s, a)",
        "a = Conv(x, w) y = Sin(a)",
    ],
)
def test_only_the_convolution_is_fused(body: str) -> None:
    result = FuseQdq().apply(quantized(body, w=W), PassContext())
    kinds = [n.op_type for n in result.model.graph]
    assert kinds.count("QLinearConv") == 1
    assert "Sin" in kinds


PAIRS = """
<ir_version: 10, opset_import: ["" : 20]>
g (uint8[1,3,4,4] p, int8[2,3,1,1] w) => (%s)
<float s = {0.1}, uint8 z = {%d}, int8 n = {0}, float t = {%s}, uint8 o = {%d}, float f = {0}> {
  x = DequantizeLinear(p, s, z) v = DequantizeLinear(w, s, n) %s
}
"""


@pytest.mark.parametrize(
    ("outputs", "nodes", "zero"),
    [
        # Rounded, but with negative numbers left: the Relu does something.
        ("uint8[] y", "a = Conv(x, v) r = Relu(a) y = QuantizeLinear(r, t, o)", 3),
        # The integers reach beyond a Clip, above or below.
        ("uint8[] y", "a = Conv(x, v) r = Clip(a, f, s) y = QuantizeLinear(r, t, o)", 0),
        ("uint8[] y", "a = Conv(x, v) r = Clip(a, s) y = QuantizeLinear(r, t, o)", 0),
        # Another reader, or the caller, wants the numbers before they are rounded.
        ("uint8[] y, float[] q", "a = Conv(x, v) y = QuantizeLinear(a, t, o) q = Sin(a)", 0),
        ("uint8[] y, float[] a", "a = Conv(x, v) y = QuantizeLinear(a, t, o)", 0),
        # What moves has another scale behind it.
        ("uint8[] y", "a = Transpose(x) y = QuantizeLinear(a, t, o)", 0),
        # The scale is not the same in every run, or there is no zero point.
        ("uint8[] y", "a = Transpose(x) y = QuantizeLinear(a, t)", 0),
    ],
)
def test_other_pairs_are_left_alone(outputs: str, nodes: str, zero: int) -> None:
    model = ir.from_onnx_text(PAIRS % (outputs, 0, "0.2", zero, nodes))
    assert not FuseQdq().apply(model, PassContext()).modified


def test_a_relu_that_rounding_replaces_goes() -> None:
    nodes = "a = Conv(x, v) r = Relu(a) y = QuantizeLinear(r, t, o)"
    model = ir.from_onnx_text(PAIRS % ("uint8[] y", 0, "0.2", 0, nodes))
    assert FuseQdq().apply(model, PassContext()).modified
    assert [n.op_type for n in model.graph if n.op_type != "DequantizeLinear"] == ["QLinearConv"]
