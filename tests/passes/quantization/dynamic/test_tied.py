# ruff: noqa: E501 - a graph is easier read in one line
"""Tables that are tied to the weight of a product are stored once."""

from collections.abc import Callable, Iterator

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from tests.passes.quantization.dynamic.reference import Array, activation, weight

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.quantization.quantize_dynamic import QuantizeDynamic
from onnxsmith.passes.quantization.quantize_static import QuantizeStatic
from onnxsmith.runtime.session import Session

Load = Callable[..., Artifact]
RNG = np.random.default_rng(3)
# Rows and columns of many sizes: whose scale is taken shows.
T = RNG.standard_normal((600, 30)) * np.geomspace(0.05, 5, 600)[:, None] * np.geomspace(0.2, 2, 30)
T = T.astype(np.float32)
OTHER = RNG.standard_normal((600, 30)).astype(np.float32)
I = np.array([[0, 599, 3], [-1, 7, 7]])  # noqa: E741 - as the graph calls it
X = RNG.uniform(-1, 2, (40, 30)).astype(np.float32)

GRAPH = (
    "g (int64[N,3] i, float[M,30] x) => (float[N,3,30] e, float[M,600] y) {{ e = Gather(t, i) {} }}"
)
PRODUCTS = {
    "transposed": "u = Transpose<perm = [1,0]>(t) y = MatMul(x, u)",
    "gemm": "y = Gemm<transB = 1>(x, t)",
    "apart": "y = MatMul(x, w)",
    "gemm apart": "y = Gemm(x, w)",
}


def run(artifact: Artifact) -> dict[str, Array]:
    with Session(artifact, optimize=False) as session:
        return session.run({"i": I, "x": X})


def int8_constants(graph: ir.Graph | ir.Function) -> list[list[int]]:
    values = [v for node in graph.all_nodes() for v in node.inputs if v is not None]
    tensors = {id(t): t for v in values if (t := ir.convenience.get_const_tensor(v)) is not None}
    return sorted(
        t.shape.numpy()
        for t in tensors.values()
        if t.dtype == ir.DataType.INT8 and len(t.shape) == 2
    )


def dynamic(artifact: Artifact, *, per_channel: bool = True) -> Artifact:
    rule = QuantizeDynamic(per_channel)
    return Artifact(rule.apply(artifact.model.clone(), PassContext()).model)


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("form", PRODUCTS)
def test_a_tied_table_is_stored_once(form: str, per_channel: bool, load_text: Load) -> None:
    text = GRAPH.format(PRODUCTS[form])
    found = dynamic(load_text(text, {"t": T, "w": T.T.copy()}, opset=20), per_channel=per_channel)
    assert int8_constants(found.model.graph) == [(600, 30)]
    rounded = weight(T, (1,), per_channel=per_channel)  # a scale for each row
    got = run(found)
    np.testing.assert_allclose(got["e"], rounded[I], rtol=2e-6)
    expected = activation(X) @ rounded.T
    np.testing.assert_allclose(got["y"], expected, atol=1e-6 * np.abs(expected).max())


def test_another_table_keeps_scales_of_its_own(load_text: Load) -> None:
    text = GRAPH.format(PRODUCTS["apart"])
    found = dynamic(load_text(text, {"t": T, "w": OTHER.T.copy()}, opset=20))
    assert int8_constants(found.model.graph) == [(30, 600), (600, 30)]
    got = run(found)
    np.testing.assert_allclose(got["e"], weight(T, (0,))[I], rtol=2e-6)
    expected = activation(X) @ weight(OTHER, (1,)).T
    np.testing.assert_allclose(got["y"], expected, atol=1e-6 * np.abs(expected).max())


def test_a_table_that_a_product_reads_as_it_lies_is_not_turned(load_text: Load) -> None:
    text = "g (int64[N,3] i, float[M,600] x) => (float e, float[M,30] y) { e = Gather(t, i) y = MatMul(x, t) }"
    found = dynamic(load_text(text, {"t": T}, opset=20))
    assert int8_constants(found.model.graph) == [(600, 30)]
    assert "Transpose" not in {node.op_type for node in found.model.graph}
    assert "DequantizeLinear" in {node.op_type for node in found.model.graph}


def test_two_tables_and_two_products_share_one_constant(load_text: Load) -> None:
    text = "g (int64[N,3] i, float[M,30] x) => (float e, float f, float y, float z) { e = Gather(t, i) f = Gather(t, i) u = Transpose(t) y = MatMul(x, u) z = Gemm<transB = 1>(x, t) }"
    found = dynamic(load_text(text, {"t": T}, opset=20))
    assert int8_constants(found.model.graph) == [(600, 30)]
    got = run(found)
    np.testing.assert_array_equal(got["e"], got["f"])
    np.testing.assert_array_equal(got["y"], got["z"])


def test_ties_inside_functions() -> None:
    constant = onnx.helper.make_node("Constant", [], ["t"], value=onnx.numpy_helper.from_array(T))
    proto = onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["": 20, "own": 1]>
        g (int64[N,3] i, float[M,30] x) => (float[N,3,30] e, float[M,600] y) {{ e, y = own.f(i, x) }}
        <domain: "own", opset_import: ["": 20]>
        f (i, x) => (e, y) {{ e = Gather(t, i) {PRODUCTS["transposed"]} }}"""
    )
    proto.functions[0].node.insert(0, constant)
    found = dynamic(Artifact.from_proto(proto))
    (function,) = found.model.functions.values()
    assert int8_constants(function) == [(600, 30)]
    np.testing.assert_allclose(run(found)["e"], weight(T, (1,))[I], rtol=2e-6)


def static(artifact: Artifact, **options: object) -> Artifact:
    def samples() -> Iterator[dict[str, Array]]:
        yield {"i": I, "x": X}

    context = PassContext(samples=samples)
    rule = QuantizeStatic(**options)  # type: ignore[arg-type]
    return Artifact(rule.apply(artifact.model.clone(), context).model)


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("form", ["gemm", "apart", "gemm apart"])
def test_static_models_store_it_once_too(form: str, per_channel: bool, load_text: Load) -> None:
    text = GRAPH.format(PRODUCTS[form])
    found = static(
        load_text(text, {"t": T, "w": T.T.copy()}, opset=20),
        per_channel=per_channel,
        reduce_range="off",
        allow_poor_data=True,
    )
    assert int8_constants(found.model.graph) == [(600, 30)]
    rounded = weight(T, (1,), per_channel=per_channel)
    got = run(found)
    np.testing.assert_allclose(got["e"], rounded[I], rtol=2e-6)
    expected = X @ rounded.T
    assert np.abs(got["y"] - expected).max() < 0.02 * np.abs(expected).max()


def test_a_table_in_int8_beside_a_product_in_int4(load_text: Load) -> None:
    text = GRAPH.format(PRODUCTS["apart"])
    artifact = load_text(text, {"t": T, "w": T.T.copy()}, opset=21)
    found = static(artifact, weights="int4", allow_poor_data=True)
    assert int8_constants(found.model.graph) == [(600, 30)]
    np.testing.assert_allclose(run(found)["e"], weight(T, (0,))[I], rtol=2e-6)
