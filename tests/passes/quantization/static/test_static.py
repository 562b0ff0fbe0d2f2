"""Quantized models as they are written: as text, and in numbers against what they should be."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.base import PassContext, Samples
from onnxsmith.passes.quantization import quantize_static
from onnxsmith.passes.quantization.affine import Affine
from onnxsmith.passes.quantization.quantize_static import QuantizeStatic
from onnxsmith.runtime.session import Session
from onnxsmith.target import TARGETS

RNG = np.random.default_rng(11)
W = (RNG.standard_normal((6, 3, 3, 3)) * np.geomspace(0.1, 10, 6)[:, None, None, None]).astype("f")
V = RNG.standard_normal((4, 6, 1, 1)).astype(np.float32)
B = (RNG.standard_normal(6) * 5).astype(np.float32)
X = RNG.uniform(-1, 2, (40, 3, 8, 8)).astype(np.float32)
M = RNG.standard_normal((5, 7)).astype(np.float32)


def model(body: str, opset: int = 20, **tensors: np.ndarray) -> ir.Model:
    text = f'<ir_version: 10, opset_import: ["" : {opset}]> g {body}'
    return ir.from_onnx_text(text, [ir.tensor(a, name=n) for n, a in tensors.items()])


def convolutions(opset: int = 20) -> ir.Model:
    body = """(float[N,3,8,8] x) => (float[N,4,8,8] y) {
        a = Conv<pads = [1,1,1,1]>(x, w, b) r = Relu(a) y = Conv(r, v) }"""
    return model(body, opset, w=W, v=V, b=B)


def samples(array: np.ndarray = X, name: str = "x") -> Samples:
    def stream() -> Iterator[dict[str, np.ndarray]]:
        for start in range(0, len(array), 8):
            yield {name: array[start : start + 8]}

    return stream


def quantized(float_model: ir.Model, target: str = "cpu", **options: object) -> ir.Model:
    data = options.pop("data", samples())
    context = PassContext(target=TARGETS[target], samples=data)  # type: ignore[arg-type]
    return QuantizeStatic(**options).apply(float_model.clone(), context).model  # type: ignore[arg-type]


def run(which: ir.Model, x: np.ndarray = X, *, optimize: bool = False) -> np.ndarray:
    with Session(Artifact(which), optimize=optimize) as session:
        return next(iter(session.run({"x": x}).values()))


def stored(which: ir.Model, name: str) -> np.ndarray:
    return which.graph.initializers[name].const_value.numpy()


def snr_db(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(10 * np.log10(np.square(wanted).sum() / np.square(found - wanted).sum()))


def written(node: ir.Node) -> str:
    attributes = ", ".join(f"{a.name}={a.value}" for a in node.attributes.values())
    inputs = ", ".join(str(v.name) for v in node.inputs if v is not None)
    extra = f"<{attributes}>" if attributes else ""
    return f"{node.outputs[0].name} = {node.op_type}{extra}({inputs})"


def test_the_graph_as_text() -> None:
    found = quantized(convolutions())
    assert [written(node) for node in found.graph] == [
        "x_QuantizeLinear_Output = QuantizeLinear(x, x_scale, x_zero_point)",
        "x_DequantizeLinear_Output = "
        "DequantizeLinear(x_QuantizeLinear_Output, x_scale, x_zero_point)",
        "b_dequantized = DequantizeLinear<axis=0>(b_quantized, b_scale, b_zero_point)",
        "w_dequantized = DequantizeLinear<axis=0>(w_quantized, w_scale, w_zero_point)",
        "a = Conv<pads=(1, 1, 1, 1)>(x_DequantizeLinear_Output, w_dequantized, b_dequantized)",
        "r = Relu(a)",
        "r_QuantizeLinear_Output = QuantizeLinear(r, r_scale, r_zero_point)",
        "r_DequantizeLinear_Output = "
        "DequantizeLinear(r_QuantizeLinear_Output, r_scale, r_zero_point)",
        "v_dequantized = DequantizeLinear<axis=0>(v_quantized, v_scale, v_zero_point)",
        "y_QuantizeLinear_Input = Conv(r_DequantizeLinear_Output, v_dequantized)",
        "y_QuantizeLinear_Output = QuantizeLinear(y_QuantizeLinear_Input, y_scale, y_zero_point)",
        "y = DequantizeLinear(y_QuantizeLinear_Output, y_scale, y_zero_point)",
    ]
    assert not {"w", "v", "b"} & set(found.graph.initializers)
    onnx.checker.check_model(ir.to_proto(found), full_check=True)


def test_every_number_is_what_it_should_be() -> None:
    """All that is stored, recomputed here from the weights and from the extremes of the values."""
    found = quantized(convolutions(), method="minmax")
    low, high = min(X.min(), 0), X.max()
    assert float(stored(found, "x_scale")) == pytest.approx((high - low) / 255, rel=1e-6)
    assert int(stored(found, "x_zero_point")) == round(-low / ((high - low) / 255))
    scales = np.abs(W).max(axis=(1, 2, 3)) / 127
    np.testing.assert_allclose(stored(found, "w_scale"), scales, rtol=1e-6)
    wanted = np.rint(W / stored(found, "w_scale")[:, None, None, None])
    np.testing.assert_array_equal(stored(found, "w_quantized"), wanted)
    bias_scale = stored(found, "x_scale") * stored(found, "w_scale")
    np.testing.assert_allclose(stored(found, "b_scale"), bias_scale, rtol=1e-6)
    assert np.abs(stored(found, "b_quantized") - B / bias_scale).max() <= 0.51
    assert int(stored(found, "r_zero_point")) == 0, "the least integer, so that rounding clips"
    a = np.maximum(run(model(CONV, w=W, b=B)), 0)
    assert float(stored(found, "r_scale")) == pytest.approx(a.max() / 255, rel=1e-5)


CONV = "(float[N,3,8,8] x) => (float[N,6,8,8] y) { y = Conv<pads = [1,1,1,1]>(x, w, b) }"


@pytest.mark.parametrize(
    ("options", "least"),
    [
        ({}, 36), ({"per_channel": False}, 33), ({"reduce_range": "on"}, 32),
        ({"method": "mse"}, 36), ({"activations": "int8"}, 36), ({"symmetric": "on"}, 32),
        ({"scope": "products"}, 37), ({"weights": "int4"}, 14), ({"activations": "uint16"}, 40),
        ({"activations": "int16"}, 40),
    ],
)  # fmt: skip
def test_the_result_is_near(options: dict[str, object], least: float) -> None:
    original = convolutions(21)
    exact = run(original)
    found = snr_db(run(quantized(original, **options)), exact)
    assert least < found < 60


@pytest.mark.parametrize(
    ("body", "tensors"),
    [
        ("a = Conv(x, w, b) r = Relu(a) y = Conv(r, v)", {"w": W, "v": V, "b": B}),
        ("a = Conv(x, w) r = Clip(a, z, s) y = Conv(r, v)",
         {"w": W, "v": V, "z": np.float32(0), "s": np.float32(6)}),
        ("a = Conv(x, w, b) c = Conv(x, w) d = Add(a, c) r = Relu(d) y = Conv(r, v)",
         {"w": W, "v": V, "b": B}),
        ("a = Conv(x, w) s = Sigmoid(a) m = Mul(a, s) y = Conv(m, v)", {"w": W, "v": V}),
        ("a = Conv(x, w) s = LeakyRelu(a) m = Concat<axis = 0>(a, s) y = Conv(m, v)",
         {"w": W, "v": V}),
        ("a = Conv(x, w) s = Mul(a, b4) m = Add(s, b4) y = Conv(m, v)",
         {"w": W, "v": V, "b4": B.reshape(1, 6, 1, 1)}),
        ("a = Conv(x, w) r = Relu(a) m = MaxPool<kernel_shape = [2, 2]>(r) y = Conv(m, v)",
         {"w": W, "v": V}),
        ("a = Conv(x, w) r = Relu(a) m = AveragePool<kernel_shape = [2, 2]>(r) y = Conv(m, v)",
         {"w": W, "v": V}),
        ("t = Transpose<perm = [0, 1, 3, 2]>(x) a = Conv(t, w) y = Conv(a, v)", {"w": W, "v": V}),
        ("a = Conv(x, w) b, c = Split<axis = 1, num_outputs = 2>(a) d = Add(b, c) y = Conv(d, u)",
         {"w": W, "u": V[:, :3]}),
        ("a = Conv(x, w) r = Resize<mode = \"nearest\">(a, , k) y = Conv(r, v)",
         {"w": W, "v": V, "k": np.float32([1, 1, 2, 2])}),
        ("a = Conv(x, w) p = GlobalAveragePool(a) f = Flatten(p) y = Gemm<transB = 1>(f, g, h)",
         {"w": W, "g": RNG.standard_normal((9, 6)).astype(np.float32), "h": np.ones(9, "f")}),
        ("a = Conv(x, w) p = GlobalAveragePool(a) f = Flatten(p) g = MatMul(f, m) y = MatMul(g, n)",
         {"w": W, "m": M.T[:6, :5].copy(), "n": M}),
    ],
)  # fmt: skip
def test_no_pair_is_left_inside(body: str, tensors: dict[str, np.ndarray], tmp_path) -> None:
    """The runtime takes every pair into an integer kernel, which computes what the pairs say."""
    original = model(f"(float[N,3,8,8] x) => (float[] y) {{ {body} }}", **tensors)
    found = quantized(original)
    assert 25 < snr_db(run(found), run(original)) < 60
    plain, fast = run(found), run(found, optimize=True)
    step = float(stored(found, "y_scale")) if "y_scale" in found.graph.initializers else 0.02
    # The integer kernels round once where the pairs round in float: a step at most, and rarely.
    assert np.abs(plain - fast).max() <= max(1.01 * step, 0.02 * np.abs(plain).max())
    with Session(Artifact(found), save_optimized=tmp_path / "o.onnx"):
        optimized = onnx.load(tmp_path / "o.onnx", load_external_data=False).graph
    kinds = [node.op_type for node in optimized.node]
    assert kinds.count("QuantizeLinear") == 1, "of the input"
    assert kinds.count("DequantizeLinear") <= 1, "of the output"
    assert "Conv" not in kinds
    assert "Relu" not in kinds


def test_weights_that_are_shared_are_stored_once() -> None:
    body = "(float[N,5] x) => (float[N,7] y) { a = MatMul(x, m) b = MatMul(x, m) y = Add(a, b) }"
    found = quantized(model(body, m=M), data=samples(RNG.random((40, 5), "f")))
    assert [n for n in found.graph.initializers if n.endswith("_quantized")] == ["m_quantized"]


def test_a_bias_that_int32_cannot_hold_widens_the_scale_of_its_channel() -> None:
    weight = W.copy()
    weight[0] *= 1e-12
    original = model(CONV, w=weight, b=B)
    found = quantized(original)
    assert np.abs(stored(found, "b_quantized").astype(np.int64)).max() <= 2**30 + 1
    assert snr_db(run(found), run(original)) > 35


def test_values_read_by_float_nodes_only_keep_their_precision() -> None:
    body = "(float[N,5] x) => (float[N,5] y) { s = Sin(x) a = MatMul(s, m) y = Add(a, s) }"
    found = quantized(model(body, m=M[:, :5]), data=samples(RNG.random((40, 5), "f")))
    (add,) = [node for node in found.graph if node.op_type == "Add"]
    assert add.inputs[1].name == "s", "not the rounded one, which only the product reads"


def test_an_output_that_a_product_reads_keeps_its_precision() -> None:
    body = "(float[N,5] x) => (float[N,5] s, float[N,7] y) { s = Sin(x) y = MatMul(s, m) }"
    x = RNG.random((40, 5), "f")
    found = quantized(model(body, m=M), data=samples(x))
    np.testing.assert_allclose(run(found, x), np.sin(x), rtol=1e-6)


def test_tensorrt_gets_symmetric_int8_and_float_biases() -> None:
    found = quantized(convolutions(), target="tensorrt")
    assert stored(found, "x_zero_point").dtype == np.int8
    assert int(stored(found, "x_zero_point")) == 0
    assert float(stored(found, "x_scale")) == pytest.approx(np.abs(X).max() / 127)
    assert "b" in found.graph.initializers, "TensorRT wants biases in float"
    rounded = [n.inputs[0].name for n in found.graph if n.op_type == "QuantizeLinear"]
    assert rounded == ["x", "r"], "what products read, and nothing they give"
    assert snr_db(run(found), run(convolutions())) > 34


@pytest.mark.parametrize(
    ("target", "saturates", "largest"),
    [("cpu", True, 64), ("cpu", False, 127), ("edge-web", True, 127)],
)
def test_weights_take_a_bit_less_where_this_machine_saturates(
    target: str, saturates: bool, largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer: Callable[[], bool] = lambda: saturates  # noqa: E731 - a stand-in
    monkeypatch.setattr(quantize_static, "products_saturate", answer)
    found = quantized(convolutions(), target=target)
    assert np.abs(stored(found, "w_quantized").astype(int)).max() == largest


@pytest.mark.parametrize(
    ("target", "kind", "warned"),
    [("cpu", "int8", True), ("cpu", "auto", False), ("tensorrt", "auto", False)],
)
def test_types_that_are_slow_on_the_target_are_warned_of(
    target: str, kind: str, warned: bool
) -> None:
    context = PassContext(target=TARGETS[target], samples=samples())
    details = QuantizeStatic(activations=kind).apply(convolutions(), context).details  # type: ignore[arg-type]
    assert any("int8 activations" in words for words in details.get("warnings", ())) == warned


def test_products_of_activations() -> None:
    body = "(float[N,5] x) => (float[5,5] y) { t = Transpose(x) y = MatMul(t, x) }"
    data = samples(RNG.random((40, 5), "f"))
    with pytest.raises(SmithError, match="both of its factors are activations"):
        quantized(model(body), data=data)
    found = quantized(model(body), data=data, both_activations=True)
    x = RNG.random((9, 5), "f")
    assert 30 < snr_db(run(found, x), x.T @ x) < 70


def test_layers_whose_values_are_useless_stay_in_float_with_a_reason() -> None:
    body = """(float[N,3,8,8] x) => (float[N,6,8,8] y, float[N,6,8,8] z, float[N,6,8,8] u) {
        s = Sqrt(x) y = Conv<pads = [1,1,1,1]>(s, w)
        o = Mul(x, n) z = Conv<pads = [1,1,1,1]>(o, w) u = Conv<pads = [1,1,1,1]>(x, w) }"""
    context = PassContext(samples=samples())
    original = model(body, w=W, n=np.zeros(1, np.float32))
    result = QuantizeStatic().apply(original, context)
    left = {entry["node"]: entry["reason"] for entry in result.details["left_float"]}
    assert left == {
        "y": "'s' is NaN or infinite on the calibration data",
        "z": "'o' is always 0 on the calibration data",
    }
    assert result.details["quantized"] == 1
    assert "w" in result.model.graph.initializers, "the float layers still read it"


def test_values_that_never_change_are_warned_of() -> None:
    body = """(float[N,3] x, float[N,3] c) => (float[N,2] y, float[N,2] z) {
        y = MatMul(x, w) z = MatMul(c, w) }"""
    original = model(body, w=RNG.standard_normal((3, 2)).astype(np.float32))
    x = RNG.random((40, 3), "f")

    def warned(c: np.ndarray[Any, Any]) -> list[str]:
        context = PassContext(samples=lambda: iter([{"x": x, "c": c}]))
        return QuantizeStatic().apply(original.clone(), context).details.get("warnings", [])

    fixed = "constant on the calibration data, so their ranges fit nothing else: 'c'"
    assert warned(np.full((40, 3), 0.5, np.float32)) == [fixed]
    assert not warned(x[::-1].copy())


def test_tables_are_stored_in_int8() -> None:
    table = (RNG.standard_normal((2048, 8)) * np.geomspace(0.1, 10, 8)).astype(np.float32)
    body = "(int64[N] i) => (float[N,7] y) { x = Gather(t, i) y = MatMul(x, m) }"
    weight = RNG.standard_normal((8, 7)).astype(np.float32)
    original = model(body, t=table, m=weight)
    rows = RNG.integers(0, 2048, 64)
    found = quantized(original, data=samples(rows, "i"))
    assert stored(found, "t_quantized").dtype == np.int8
    assert "t" not in found.graph.initializers
    with Session(Artifact(found), optimize=False) as session:
        y = session.run({"i": rows})["y"]
    assert 33 < snr_db(y, table[rows] @ weight) < 50
    kept = quantized(original, data=samples(rows, "i"), exclude=("Gather",))
    assert "t" in kept.graph.initializers


def test_what_cannot_be_quantized_is_refused() -> None:
    once = quantized(convolutions())
    with pytest.raises(SmithError, match="quantized already"):
        quantized(once)
    with pytest.raises(SmithError, match="opset 12; these types need 13") as caught:
        quantized(convolutions(12))
    assert "convert-opset:opset=13" in caught.value.hint
    with pytest.raises(SmithError, match="opset 20; these types need 21"):
        quantized(convolutions(20), weights="int4")
    with pytest.raises(SmithError, match="nothing in the model can be quantized"):
        quantized(model("(float[N,3,8,8] x) => (float[N,3,8,8] y) { y = Sin(x) }"))
    with pytest.raises(SmithError, match="'Softmax'"):
        quantized(convolutions(), exclude=("Softmax",))


def test_scales_are_tied_where_numbers_are_only_moved() -> None:
    body = """(float[N,3,8,8] x) => (float[N,4,7,7] y) {
        a = Conv<pads = [1,1,1,1]>(x, w) m = MaxPool<kernel_shape = [2, 2]>(a)
        t = Transpose<perm = [0, 1, 3, 2]>(m) y = Conv(t, v) }"""
    found = quantized(model(body, w=W, v=V))
    for first, second in pairwise(("a", "m", "t")):
        assert stored(found, f"{first}_scale") == stored(found, f"{second}_scale")
        assert stored(found, f"{first}_zero_point") == stored(found, f"{second}_zero_point")


def test_a_clips_limit_is_not_passed_by_a_rounded_scale() -> None:
    body = """(float[N,3,8,8] x) => (float[N,4,6,6] y) {
        a = Conv(x, w) r = Clip(a, z, s) y = Conv(r, v) }"""
    tried = np.linspace(1.98, 2, 500).astype(np.float32)
    passed = [x for x in tried if np.float32(float(x) / 255) * np.float32(255) > x]
    assert passed
    for limit in (*passed[:3], 6.0):
        tensors = {"w": W, "v": V, "z": np.float32(0), "s": np.float32(limit)}
        scale = stored(quantized(model(body, **tensors)), "r_scale")
        assert scale * np.float32(255) <= np.float32(limit)
        assert Affine(ir.DataType.UINT8, scale, np.int64(0)).dequantize(
            np.uint8([255])
        ) == pytest.approx(limit, rel=1e-6)
