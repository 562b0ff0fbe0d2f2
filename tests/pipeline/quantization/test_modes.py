"""Modes that store weights, or weights and values, in fewer bits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.quantization import dynamic
from onnxsmith.pipeline.quantization.modes import MODES
from onnxsmith.pipeline.quantization.request import QuantizeRequest
from onnxsmith.pipeline.quantization.run import quantize
from onnxsmith.target import TARGETS

RNG = np.random.default_rng(2)
NET = "g (float[N,32] x) => (float[N,8] y) { a = Gemm(x, w, b) r = Relu(a) y = MatMul(r, u) }"
WEIGHTS = {
    "w": RNG.standard_normal((32, 64)).astype(np.float32),
    "b": RNG.standard_normal(64).astype(np.float32),
    "u": RNG.standard_normal((64, 8)).astype(np.float32),
}
CUDA = TARGETS["cuda"]


@pytest.fixture
def model(load_text: Callable[..., Artifact]) -> Artifact:
    return load_text(NET, WEIGHTS, opset=12)


@pytest.fixture
def data(tmp_path: Path) -> str:
    np.savez(tmp_path / "data.npz", x=RNG.standard_normal((40, 32)).astype(np.float32))
    return f"npz:{tmp_path / 'data.npz'}"


def test_every_row_is_a_mode() -> None:
    for name in MODES:
        assert MODES.find(name)().passes.__doc__


@pytest.mark.parametrize(
    ("options", "snr_db", "smaller"),
    [
        ({"mode": "dynamic"}, 30, 3.0),
        ({"mode": "weight-only"}, 14, 4.5),
        ({"mode": "weight-only", "bits": 8}, 38, 3.0),
        ({"mode": "weight-only", "bits": 8, "form": "dequantize"}, 38, 3.0),
        ({"mode": "weight-only", "algorithm": "hqq", "block_size": 16}, 16, 3.5),
        ({"mode": "weight-only", "algorithm": "gptq"}, 16, 4.5),
        ({"mode": "fp16"}, 60, 1.99),
        ({"mode": "fp8", "target": CUDA}, 20, 3.0),
    ],
)
def test_models_are_near_and_small(
    options: dict[str, object], snr_db: float, smaller: float, model: Artifact, data: str
) -> None:
    result = quantize(model, QuantizeRequest(data=data, **options))  # type: ignore[arg-type]
    (difference,) = result.pipeline.differences
    assert difference.snr_db > snr_db
    assert model.size_bytes / result.artifact.size_bytes > smaller
    assert result.artifact.spec == model.spec


def test_bfloat16_cannot_be_run_here_and_says_so(model: Artifact) -> None:
    result = quantize(model, QuantizeRequest(mode="bf16", target=CUDA))
    assert model.size_bytes == 2 * result.artifact.size_bytes
    (warning,) = result.warnings
    assert "not run" in warning
    with pytest.raises(SmithError, match="no kernels for bfloat16 on 'cpu'"):
        quantize(model, QuantizeRequest(mode="bf16"))


def test_float8_is_for_targets_that_have_it(model: Artifact, data: str) -> None:
    with pytest.raises(SmithError, match="'cpu' has no products") as caught:
        quantize(model, QuantizeRequest(mode="fp8", data=data))
    assert "--target cuda" in caught.value.hint
    with pytest.raises(SmithError, match="needs data"):
        quantize(model, QuantizeRequest(mode="fp8", target=CUDA))


@pytest.mark.parametrize("mode", ["fp16", "weight-only", "dynamic"])
def test_nodes_are_kept_in_float(mode: str, model: Artifact) -> None:
    result = quantize(model, QuantizeRequest(mode=mode, exclude=("MatM*",)))
    assert [e["reason"] for e in result.left_float if e["op"] == "MatMul"] == [
        "excluded by 'MatM*'"
    ]
    result = quantize(model, QuantizeRequest(mode=mode, only=("MatMul",)))
    assert "Gemm" in {entry["op"] for entry in result.left_float}
    with pytest.raises(SmithError, match="no node is called like"):
        quantize(model, QuantizeRequest(mode=mode, exclude=("Nothing",)))


def test_what_is_quantized_already_is_refused(model: Artifact) -> None:
    once = quantize(model, QuantizeRequest()).artifact
    for mode in ("fp16", "weight-only", "dynamic"):
        with pytest.raises(SmithError, match="quantized already"):
            quantize(once, QuantizeRequest(mode=mode))


def test_half_precision_that_costs_too_much_is_refused(load_text: Callable[..., Artifact]) -> None:
    huge = {"w": np.full((4, 4), 1e30, np.float32)}
    model = load_text("g (float[2,4] x) => (float[2,4] y) { y = MatMul(x, w) }", huge)
    with pytest.raises(SmithError, match="no node can leave float32"):
        quantize(model, QuantizeRequest(mode="fp16"))


def test_bad_options_are_usage_errors(model: Artifact) -> None:
    with pytest.raises(UsageError, match="a block cannot be of 20"):
        quantize(model, QuantizeRequest(mode="weight-only", block_size=20))


def test_weights_are_narrow_where_this_cpu_needs_it(
    model: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dynamic, "products_saturate", lambda: True)

    def narrow(**options: object) -> object:
        request = QuantizeRequest(**options)  # type: ignore[arg-type]
        return dynamic.DynamicMode().passes(model, request)[-1].options().get("reduce_range", False)

    assert narrow()
    assert not narrow(target=TARGETS["edge-cpu"])
    assert not narrow(reduce_range=False)
    assert narrow(target=TARGETS["edge-cpu"], reduce_range=True)


def test_on_cpus_what_slows_transformers_goes(model: Artifact) -> None:
    names = [p.name for p in dynamic.DynamicMode().passes(model, QuantizeRequest())]
    assert {"remove-softmax-guards", "keep-sums"} <= set(names)
    names = [p.name for p in dynamic.DynamicMode().passes(model, QuantizeRequest(target=CUDA))]
    assert not {"remove-softmax-guards", "keep-sums"} & set(names)


EMBED = """g (int32[N,4] i) => (float[N,4,32] y) {
    h, m = com.microsoft.EmbedLayerNormalization(i, , t, p, , g, b) y = MatMul(h, w) }"""


@pytest.mark.parametrize("mode", ["dynamic", "static", "weight-only"])
def test_tables_inside_an_operator_are_taken_out_and_stored_small(
    mode: str, load_text: Callable[..., Artifact], tmp_path: Path
) -> None:
    tensors = {
        "t": RNG.standard_normal((900, 32)).astype(np.float32),
        "p": RNG.standard_normal((8, 32)).astype(np.float32),
        "g": RNG.standard_normal(32).astype(np.float32),
        "b": RNG.standard_normal(32).astype(np.float32),
        "w": RNG.standard_normal((32, 32)).astype(np.float32),
    }
    header = '<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]>'
    model = load_text(EMBED, tensors, header=header)
    np.savez(tmp_path / "ids.npz", i=RNG.integers(0, 900, (40, 4)).astype(np.int32))
    result = quantize(model, QuantizeRequest(mode=mode, data=f"npz:{tmp_path / 'ids.npz'}"))
    (difference,) = result.pipeline.differences
    assert difference.snr_db > (14 if mode == "weight-only" else 30)
    assert model.size_bytes / result.artifact.size_bytes > 3.3
    assert "EmbedLayerNormalization" not in {n.op_type for n in result.artifact.model.graph}


BLOCK = """g (float[N,4,32] x, bool[N,1,4] m) => (float[N,4,32] y) {
    q = MatMul(x, w) k = MatMul(x, u) t = Transpose<perm = [0,2,1]>(k) a = MatMul(q, t)
    c = Where(m, zero, low) s = Add(a, c) p = Softmax<axis = -1>(s) n = IsNaN(p)
    g = Where(n, zero, p) v = MatMul(x, w) o = MatMul(g, v) h = MatMul(o, u) r = Add(x, h)
    y = LayerNormalization<axis = -1>(r, g1, g2) }"""


@pytest.mark.parametrize("low", [-np.inf, -3.4e38, -1e4])
@pytest.mark.parametrize(
    ("mode", "both"), [("dynamic", False), ("static", False), ("static", True)]
)
def test_guards_and_fused_sums_give_way_to_fast_products_on_cpus(
    mode: str, both: bool, low: float, load_text: Callable[..., Artifact], tmp_path: Path
) -> None:
    tensors = {
        "w": RNG.standard_normal((32, 32)).astype(np.float32) / 5,
        "u": RNG.standard_normal((32, 32)).astype(np.float32) / 5,
        "zero": np.array(0, np.float32),
        "low": np.array(low, np.float32),
        "g1": np.ones(32, np.float32),
        "g2": np.zeros(32, np.float32),
    }
    model = load_text(BLOCK, tensors, opset=17)
    x = RNG.standard_normal((40, 4, 32)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x, m=RNG.random((40, 1, 4)) < 0.7)
    data = f"npz:{tmp_path / 'x.npz'}"
    request = QuantizeRequest(mode=mode, data=data, both_activations=both)
    result = quantize(model, request)
    kinds = {node.op_type for node in result.artifact.model.graph}
    assert "IsNaN" not in kinds
    assert "Sum" in kinds
    (difference,) = result.pipeline.differences
    assert difference.snr_db > (22 if both else 30)
    rounded = {
        node.inputs[0].name
        for node in result.artifact.model.graph
        if node.op_type == "QuantizeLinear" and node.inputs[0] is not None
    }
    assert not rounded & {"a", "c", "s"}  # numbers that hide keys are in no range
    assert both == ("q" in rounded)
    on_cuda = QuantizeRequest(mode=mode, data=data, target=CUDA)
    kinds = {node.op_type for node in quantize(model, on_cuda).artifact.model.graph}
    assert "Sum" not in kinds
