# ruff: noqa: E501 - a graph is easier read in one line
"""Static quantization inside If, Loop, Scan and functions."""

from collections.abc import Callable, Iterator

import numpy as np
import onnx
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.base import PassContext, PassResult
from onnxsmith.passes.quantization.calibration.ranges import METHODS, Method, measure_ranges
from onnxsmith.passes.quantization.fuse_qdq import FuseQdq
from onnxsmith.passes.quantization.quantize_static import QuantizeStatic
from onnxsmith.runtime.session import Session

Load = Callable[..., Artifact]
Array = np.ndarray
RNG = np.random.default_rng(12)
W = RNG.standard_normal((6, 6)).astype(np.float32) / 3
V = (RNG.standard_normal((6, 6)) * 2).astype(np.float32)
X = RNG.uniform(-1, 3, (40, 6)).astype(np.float32)

IF = """g (float[N,6] x, bool c) => (float[N,6] y) {
    a = Mul(x, two)
    y = If (c) <
        then_branch = t () => (float[N,6] u) { h = MatMul(a, w) r = Relu(h) u = MatMul(r, v) },
        else_branch = e () => (float[N,6] u) { h = MatMul(x, v) u = Neg(h) }
    >
}"""
LOOP = """g (float[N,6] x, int64 n) => (float[N,6] y, float[K,N,6] all) {
    y, all = Loop (n, , x) <body = l (int64 k, bool p, float[N,6] s) => (bool q, float[N,6] z, float[N,6] o) {
        q = Identity(p)
        h = MatMul(s, w)
        z = Mul(h, two)
        o = Neg(h)
    }>
}"""
SCAN = """g (float[T,6] x, float[6] i) => (float[6] y, float[T,6] all) {
    y, all = Scan <num_scan_inputs = 1, body = l (float[6] s, float[6] e) => (float[6] z, float[6] o) {
        t = Add(s, e)
        z = MatMul(t, w)
        o = Neg(t)
    }> (i, x)
}"""
NESTED = """g (float[N,6] x, int64 n) => (float[N,6] y) {
    y = Loop (n, , x) <body = l (int64 k, bool p, float[N,6] s) => (bool q, float[N,6] z) {
        q = Identity(p)
        even = Equal(k, zero)
        z = If (even) <
            then_branch = t () => (float[N,6] u) { u = MatMul(s, w) },
            else_branch = e () => (float[N,6] u) { m = Mul(s, two) u = MatMul(m, v) }
        >
    }>
}"""
TENSORS = {"w": W, "v": V, "two": np.array(2, np.float32), "zero": np.array(0, np.int64)}


def batches(**fixed: Array) -> Callable[[], Iterator[dict[str, Array]]]:
    def stream() -> Iterator[dict[str, Array]]:
        for start in range(0, 40, 8):
            feeds = {"x": X[start : start + 8], **fixed}
            yield {**feeds, "c": np.array(start % 16 == 0)} if "c" in fixed else feeds

    return stream


def ranges(
    artifact: Artifact, names: list[str], method: Method = "minmax", **fixed: Array
) -> dict[str, tuple[float, float]]:
    return measure_ranges(artifact.model, names, batches(**fixed), method, 99, 256).ranges


def near(found: tuple[float, float], *arrays: Array) -> None:
    numbers = np.concatenate([a.reshape(-1) for a in arrays])
    assert found == pytest.approx((numbers.min(), numbers.max()), rel=1e-5)


THEN = np.concatenate([X[0:8], X[16:24], X[32:40]])
OTHER = np.concatenate([X[8:16], X[24:32]])


def test_ranges_in_branches_are_those_of_the_runs_that_take_them(load_text: Load) -> None:
    artifact = load_text(IF, TENSORS, opset=20)
    found = ranges(artifact, ["a", "y/0/h", "y/0/r", "y/1/h", "y"], c=np.array(True))
    near(found["a"], X * 2)
    h = THEN * 2 @ W
    near(found["y/0/h"], h)
    near(found["y/0/r"], np.maximum(h, 0))
    near(found["y/1/h"], OTHER @ V)
    near(found["y"], np.maximum(h, 0) @ V, -(OTHER @ V))


def turns(count: int) -> list[Array]:
    states = [X]
    for _ in range(count):
        states.append(states[-1] @ W * 2)
    return states


def test_ranges_in_loops_are_those_of_all_turns(load_text: Load) -> None:
    artifact = load_text(LOOP, TENSORS, opset=20)
    found = ranges(artifact, ["y/0/s", "y/0/h", "y", "all", "x"], n=np.array(4))
    states = turns(4)
    near(found["y/0/s"], *states[:4])
    near(found["y/0/h"], *(s / 2 for s in states[1:]))
    near(found["y"], states[4])
    near(found["all"], *(-s / 2 for s in states[1:]))
    near(found["x"], X)


def test_a_scan_keeps_its_states_and_results_in_place(load_text: Load) -> None:
    artifact = load_text(SCAN, TENSORS, opset=20)
    start = np.full(6, 0.5, np.float32)
    found = ranges(artifact, ["y/0/t", "y", "all"], i=start)
    sums, ends = [], []
    for begin in range(0, 40, 8):
        state = start
        for row in X[begin : begin + 8]:
            sums.append(state + row)
            state = sums[-1] @ W
        ends.append(state)
    near(found["y/0/t"], *sums)
    near(found["y"], *ends)
    near(found["all"], *(-s for s in sums))


def test_bodies_in_bodies(load_text: Load) -> None:
    found = ranges(
        load_text(NESTED, TENSORS, opset=20), ["y/0/z/1/m", "y/0/z/0/u", "y/0/s"], n=np.array(3)
    )
    first = X @ W
    second = first * 2 @ V
    near(found["y/0/z/0/u"], first)
    near(found["y/0/z/1/m"], first * 2, second * 2)
    near(found["y/0/s"], X, first, second)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_sees_bodies(method: Method, load_text: Load) -> None:
    (low, high) = ranges(load_text(LOOP, TENSORS, opset=20), ["y/0/h"], method, n=np.array(3))[
        "y/0/h"
    ]
    numbers = np.concatenate(turns(3)[1:]) / 2
    assert numbers.min() * 1.1 < low < numbers.min() * 0.4
    assert numbers.max() * 0.4 < high < numbers.max() * 1.1


def quantize(artifact: Artifact, samples: Callable[[], Iterator[dict[str, Array]]]) -> PassResult:
    context = PassContext(samples=samples)
    return QuantizeStatic(allow_poor_data=True).apply(artifact.model.clone(), context)


def outputs(artifact: Artifact, optimize: bool = False, **feeds: Array) -> list[Array]:
    with Session(artifact, optimize=optimize) as session:
        return list(session.run(feeds).values())


def snr_db(found: Array, wanted: Array) -> float:
    return float(10 * np.log10(np.square(wanted).sum() / np.square(found - wanted).sum()))


@pytest.mark.parametrize(
    ("text", "count", "fixed"),
    [
        (IF, 3, {"c": np.array(True)}),
        (IF, 3, {"c": np.array(False)}),
        (LOOP, 1, {"n": np.array(3)}),
        (SCAN, 1, {"i": np.full(6, 0.5, np.float32)}),
        (NESTED, 2, {"n": np.array(2)}),
    ],
)
def test_bodies_compute_in_integers(
    text: str, count: int, fixed: dict[str, Array], load_text: Load
) -> None:
    artifact = load_text(text, TENSORS, opset=20)
    result = quantize(artifact, batches(**fixed))
    found = Artifact(result.model)
    onnx.checker.check_model(found.to_proto(), full_check=True)
    assert result.details["left_float"] == []
    products = [n for n in found.model.graph.all_nodes() if n.op_type == "MatMul"]
    assert len(products) == count
    for node in products:
        makers = [value.producer() for value in node.inputs if value is not None]
        assert [m.op_type for m in makers if m is not None] == ["DequantizeLinear"] * 2
        assert {m.graph for m in makers if m is not None} == {node.graph}
    weights = [v.name for v in found.model.graph.initializers.values() if v.shape == (6, 6)]
    assert len(weights) == (2 if text in (IF, NESTED) else 1)  # once for both branches
    for optimize in (False, True):
        pairs = zip(
            outputs(found, optimize, x=X[:8], **fixed),
            outputs(artifact, x=X[:8], **fixed),
            strict=True,
        )
        assert all(snr_db(got, wanted) > 30 for got, wanted in pairs)


def test_a_branch_that_no_sample_takes_stays_in_float(load_text: Load) -> None:
    def samples() -> Iterator[dict[str, Array]]:
        yield {"x": X, "c": np.array(False)}

    result = quantize(load_text(IF, TENSORS, opset=20), samples)
    entries = {entry["node"]: entry["reason"] for entry in result.details["left_float"]}
    assert entries == {
        "h": "'r' is never computed on the calibration data",
        "u": "'r' is never computed on the calibration data",
    }
    assert sum(n.op_type == "MatMul" for n in result.model.graph.all_nodes()) == 3


def test_nan_in_one_turn_is_found(load_text: Load) -> None:
    text = LOOP.replace("h = MatMul(s, w)", "t = Log(s) h = MatMul(t, w)")
    with pytest.raises(SmithError, match="'t' is NaN or infinite"):
        quantize(load_text(text, TENSORS, opset=20), batches(n=np.array(3)))


def test_functions_are_inlined_for_their_products() -> None:
    constant = onnx.helper.make_node("Constant", [], ["w"], value=onnx.numpy_helper.from_array(W))
    proto = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 20, "own": 1]>
        g (float[N,6] x) => (float[N,6] y) { z = own.f(x) y = own.f(z) }
        <domain: "own", opset_import: ["": 20]> f (a) => (b) { b = MatMul(a, w) }"""
    )
    proto.functions[0].node.insert(0, constant)
    result = quantize(Artifact.from_proto(proto), batches())
    assert not result.model.functions
    assert result.details["quantized"] == 2
    (got,) = outputs(Artifact(result.model), x=X)
    assert snr_db(got, X @ W @ W) > 30


def test_bodies_get_operators_on_integers_where_asked_for(load_text: Load) -> None:
    artifact = load_text(IF, TENSORS, opset=20)
    found = quantize(artifact, batches(c=np.array(True))).model
    found = FuseQdq().apply(found, PassContext()).model
    assert sum(n.op_type == "QLinearMatMul" for n in found.graph.all_nodes()) > 0
    feeds = {"x": X[:8], "c": np.array(True)}
    (got,), (wanted,) = outputs(Artifact(found), **feeds), outputs(artifact, **feeds)
    assert snr_db(got, wanted) > 30
