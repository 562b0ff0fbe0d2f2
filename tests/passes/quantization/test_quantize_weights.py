# ruff: noqa: E501 - a graph is easier read in one line
"""Weights in blocks of 4 or 8 bits."""

from collections.abc import Callable, Iterator

import numpy as np
import onnx_ir as ir
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError, UsageError
from onnxsmith.passes.base import PassContext, PassResult
from onnxsmith.passes.quantization.blockwise.blocks import Grid
from onnxsmith.passes.quantization.blockwise.gptq import inverse_factor, round_by_curvature
from onnxsmith.passes.quantization.blockwise.hqq import round_half_quadratic
from onnxsmith.passes.quantization.blockwise.rtn import round_to_nearest
from onnxsmith.passes.quantization.quantize_weights import QuantizeWeights
from onnxsmith.runtime.session import Session

Load = Callable[..., Artifact]
RNG = np.random.default_rng(5)
W = (RNG.standard_normal((48, 20)) * np.geomspace(0.1, 3, 20)).astype(np.float32)
B = RNG.standard_normal(20).astype(np.float32)
X = RNG.standard_normal((6, 48)).astype(np.float32)
GEMM = "g (float[N,48] x) => (float[N,20] y) { y = Gemm(x, w, b) }"
MATMUL = "g (float[N,48] x) => (float[N,20] y) { y = MatMul(x, w) }"


def apply(artifact: Artifact, rule: QuantizeWeights, samples: object = None) -> PassResult:
    context = PassContext(samples=samples)  # type: ignore[arg-type]
    rule.check_context(context)
    return rule.apply(artifact.model.clone(), context)


def run(model: ir.Model, x: np.ndarray = X) -> np.ndarray:
    with Session(Artifact(model), optimize=False) as session:
        return session.run({"x": x})["y"]


def ops(result: PassResult) -> list[str]:
    return [node.op_type for node in result.model.graph.all_nodes()]


def close(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize("form", ["matmul-nbits", "dequantize"])
@pytest.mark.parametrize("symmetric", ["on", "off"])
@pytest.mark.parametrize("bits", [4, 8])
def test_the_product_is_that_of_rounded_weights(
    bits: int, symmetric: str, form: str, load_text: Load
) -> None:
    artifact = load_text(MATMUL, {"w": W}, opset=21)
    result = apply(artifact, QuantizeWeights(bits, 16, symmetric=symmetric, form=form))  # type: ignore[arg-type]
    assert ops(result) == (["MatMulNBits"] if form == "matmul-nbits" else ["DequantizeLinear", "MatMul"])  # fmt: skip
    blocks = round_to_nearest(W.T, Grid(bits, 16, symmetric == "on"))
    close(run(result.model), X @ blocks.numbers().T)
    error = np.linalg.norm(blocks.numbers() - W.T) / np.linalg.norm(W)
    assert result.details["weight_error_max"] == pytest.approx(error)
    assert result.details["bytes_before"] == 48 * 20 * 4
    zeros = 0 if symmetric == "on" else 20 * 3 if bits == 8 else 20 * (2 if form == "matmul-nbits" else 1.5)  # fmt: skip
    assert result.details["bytes_after"] == 48 * 20 * bits / 8 + 20 * 3 * 4 + zeros


@pytest.mark.parametrize("bits", [4, 8])
def test_a_last_block_that_is_not_full(bits: int, load_text: Load) -> None:
    artifact = load_text(MATMUL, {"w": W}, opset=21)
    result = apply(artifact, QuantizeWeights(bits, 32, symmetric="off"))
    close(run(result.model), X @ round_to_nearest(W.T, Grid(bits, 32, False)).numbers().T)
    with pytest.raises(SmithError, match="nothing in the model"):
        apply(artifact, QuantizeWeights(bits, 32, form="dequantize"))


GEMMS = {
    "plain": ("y = Gemm(x, w, b)", W, 1.0, 1.0),
    "turned and scaled": ("y = Gemm<transB = 1, alpha = 0.5, beta = 3.0>(x, w, b)", W.T.copy(), 0.5, 3.0),
    "no bias": ("y = Gemm<alpha = 2.0, beta = 0.0>(x, w, b)", W, 2.0, 0.0),
    "behind a transpose": ("t = Transpose(w) y = Gemm(x, t, b)", W.T.copy(), 1.0, 1.0),
}  # fmt: skip


@pytest.mark.parametrize("name", GEMMS)
def test_gemm(name: str, load_text: Load) -> None:
    body, weights, alpha, beta = GEMMS[name]
    artifact = load_text(
        f"g (float[N,48] x) => (float[N,20] y) {{ {body} }}", {"w": weights, "b": B}, opset=21
    )
    result = apply(artifact, QuantizeWeights(4, 16))
    assert not {"Gemm", "Transpose"} & set(ops(result))
    rounded = round_to_nearest(W.T, Grid(4, 16, True)).numbers().T
    close(run(result.model), alpha * (X @ rounded) + beta * B)


def test_hqq(load_text: Load) -> None:
    artifact = load_text(MATMUL, {"w": W}, opset=21)
    result = apply(artifact, QuantizeWeights(4, 16, "hqq"))
    blocks = round_half_quadratic(W.T, Grid(4, 16, False))
    close(run(result.model), X @ blocks.numbers().T)


def data() -> Iterator[dict[str, np.ndarray]]:
    mix = np.random.default_rng(2).standard_normal((48, 48)) * np.geomspace(1, 0.05, 48)
    for seed in range(5):
        draw = np.random.default_rng(seed).standard_normal((8, 48))
        yield {"x": (draw @ mix).astype(np.float32)}


def test_gptq_goes_by_the_inputs_of_each_product(load_text: Load) -> None:
    v = RNG.standard_normal((20, 16)).astype(np.float32)
    artifact = load_text(
        "g (float[N,48] x) => (float[N,16] y) { a = MatMul(x, w) r = Relu(a) y = Gemm(r, v) }",
        {"w": W, "v": v},
        opset=21,
    )
    result = apply(artifact, QuantizeWeights(4, 16, "gptq"), data)
    assert result.details["calibration_samples"] == 40
    x = np.concatenate([feeds["x"] for feeds in data()])
    hidden = np.maximum(x @ W, 0)
    first = round_by_curvature(W.T, inverse_factor(x.T @ x), Grid(4, 16, True)).numbers()
    second = round_by_curvature(v.T, inverse_factor(hidden.T @ hidden), Grid(4, 16, True)).numbers()
    close(run(result.model, x), np.maximum(x @ first.T, 0) @ second.T)


def test_gptq_needs_enough_real_data(load_text: Load) -> None:
    artifact = load_text(MATMUL, {"w": W}, opset=21)
    with pytest.raises(SmithError, match="gptq needs samples") as caught:
        apply(artifact, QuantizeWeights(algorithm="gptq"))
    assert "--data" in caught.value.hint
    few = lambda: iter([{"x": X}])  # noqa: E731
    with pytest.raises(SmithError, match="6 samples only"):
        apply(artifact, QuantizeWeights(algorithm="gptq"), few)
    result = apply(artifact, QuantizeWeights(algorithm="gptq", allow_poor_data=True), few)
    assert result.details["calibration_data"] == "few samples"


def test_bodies_and_functions(load_text: Load) -> None:
    text = """g (float[N,48] x, bool c) => (float[N,20] y) { y = If (c) <
        then_branch = t () => (float[N,20] u) { p = Neg(x) u = MatMul(p, w) },
        else_branch = e () => (float[N,20] v) { q = Neg(x) v = own.f(q, w) }
    > }
    <domain: "own", opset_import: ["": 21]> f (a, b) => (d) { d = MatMul(a, b) }"""
    header = '<ir_version: 10, opset_import: ["": 21, "own": 1]>'
    artifact = load_text(text, {"w": W}, header=header)
    rounded = round_to_nearest(W.T, Grid(4, 32, True)).numbers().T
    for rule, samples in (
        (QuantizeWeights(), None),
        (QuantizeWeights(algorithm="gptq"), lambda: ({**f, "c": np.array(True)} for f in data())),
    ):
        result = apply(artifact, rule, samples)
        assert ops(result).count("MatMulNBits") == 2
        assert ("warnings" in result.details) == (samples is not None)
        with Session(Artifact(result.model), optimize=False) as session:
            for branch in (True, False):
                close(session.run({"x": X, "c": np.array(branch)})["y"], -(X @ rounded))


def test_tables_and_what_stays_in_float(load_text: Load) -> None:
    table = RNG.standard_normal((600, 48)).astype(np.float32)
    artifact = load_text(
        "g (int64[N] i, float[N,48] x) => (float[N,20] y, float[N,20] z, float[N,N] s) { e = Gather(t, i) k = Transpose(e) y = MatMul(e, w) z = MatMul(x, v) s = MatMul(e, k) }",
        {"t": table, "w": W, "v": W + 1},
        opset=21,
    )
    artifact.model.graph[3].name = "last"
    result = apply(artifact, QuantizeWeights(exclude=("last",)))
    reasons = {entry["reason"] for entry in result.details["left_float"]}
    assert reasons == {"its weights are computed", "excluded by 'last'"}
    assert sorted(ops(result)) == ["DequantizeLinear", "Gather", "MatMul", "MatMul", "MatMulNBits", "Transpose"]  # fmt: skip


def test_accuracy_level_is_passed_on(load_text: Load) -> None:
    artifact = load_text(MATMUL, {"w": W}, opset=21)
    node = apply(artifact, QuantizeWeights(accuracy_level=4)).model.graph[0]
    assert node.attributes["accuracy_level"].as_int() == 4
    assert "accuracy_level" not in apply(artifact, QuantizeWeights()).model.graph[0].attributes


@pytest.mark.parametrize(
    "make",
    [
        lambda: QuantizeWeights(bits=3),
        lambda: QuantizeWeights(block_size=24),
        lambda: QuantizeWeights(block_size=8),
        lambda: QuantizeWeights(accuracy_level=5),
        lambda: QuantizeWeights(accuracy_level=4, form="dequantize"),
        lambda: QuantizeWeights(bits=8, algorithm="hqq"),
        lambda: QuantizeWeights(algorithm="hqq", form="dequantize"),
        lambda: QuantizeWeights(algorithm="hqq", symmetric="on"),
    ],
)
def test_options_that_cannot_be(make: Callable[[], QuantizeWeights]) -> None:
    with pytest.raises(UsageError):
        make()


def test_quantized_and_old_models_are_refused(load_text: Load) -> None:
    artifact = load_text(MATMUL, {"w": W}, opset=20)
    once = Artifact(apply(artifact, QuantizeWeights()).model)
    with pytest.raises(SmithError, match="quantized already"):
        apply(once, QuantizeWeights())
    with pytest.raises(SmithError, match="dequantize needs 21") as caught:
        apply(artifact, QuantizeWeights(form="dequantize"))
    assert "convert-opset" in caught.value.hint
