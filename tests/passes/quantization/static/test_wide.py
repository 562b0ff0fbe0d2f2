"""Activations of 16 bits for the nodes that need them, 8 for the others."""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.quantization.fuse_qdq import FuseQdq
from onnxsmith.passes.quantization.quantize_static import QuantizeStatic
from onnxsmith.runtime.session import Session
from onnxsmith.target import TARGETS

RNG = np.random.default_rng(5)
X = RNG.uniform(-1, 2, (40, 3, 8, 8)).astype(np.float32)
WEIGHTS = {
    "w": RNG.standard_normal((6, 3, 3, 3)).astype(np.float32),
    "v": RNG.standard_normal((4, 6, 1, 1)).astype(np.float32),
    "u": RNG.standard_normal((2, 4, 1, 1)).astype(np.float32),
    "b": RNG.standard_normal(6).astype(np.float32),
}
BODY = """(float[N,3,8,8] x) => (float[N,2,3,3] y) {
    [first] a = Conv(x, w, b) r = Relu(a)
    p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(r)
    [second] c = Conv(p, v) [third] y = Conv(c, u) }"""


def model(opset: int = 21) -> ir.Model:
    text = f'<ir_version: 10, opset_import: ["" : {opset}]> g {BODY}'
    return ir.from_onnx_text(text, [ir.tensor(a, name=n) for n, a in WEIGHTS.items()])


def context(target: str = "cpu") -> PassContext:
    def stream() -> Iterator[dict[str, np.ndarray]]:
        yield from ({"x": X[start : start + 8]} for start in range(0, len(X), 8))

    return PassContext(target=TARGETS[target], samples=stream)


def quantized(wide: tuple[str, ...], target: str = "cpu", **options: object) -> ir.Model:
    pass_ = QuantizeStatic(wide=wide, **options)  # type: ignore[arg-type]
    return pass_.apply(model(), context(target)).model


def types(which: ir.Model) -> dict[str, str]:
    """Return the integer type of each rounded activation."""
    return {
        str(node.inputs[0].name): node.outputs[0].dtype.name
        for node in which.graph
        if node.op_type == "QuantizeLinear"
    }


def run(which: ir.Model) -> np.ndarray:
    with Session(Artifact(which), optimize=False) as session:
        return session.run({"x": X})["y"]


def snr_db(found: np.ndarray) -> float:
    wanted = run(model()).astype(np.float64)
    return float(10 * np.log10(np.square(wanted).sum() / np.square(found - wanted).sum()))


def test_what_the_node_reads_and_makes_has_16_bits_and_what_is_moved_follows() -> None:
    names = ("x", "r", "p", "c", "y_QuantizeLinear_Input")
    third = ("UINT8", "UINT8", "UINT8", "UINT16", "UINT16")
    assert types(quantized(("third",))) == dict(zip(names, third, strict=True))
    # The pool only moves values: both sides of it have one scale, and so one type.
    second = ("UINT8", "UINT16", "UINT16", "UINT16", "UINT8")
    assert types(quantized(("second",))) == dict(zip(names, second, strict=True))
    everything = set(types(quantized(("Conv",))).values())
    assert everything == {"UINT16"}


def test_signed_ones_become_int16_in_the_middle() -> None:
    found = quantized(("first",), activations="int8", symmetric="on")
    assert types(found)["x"] == "INT16"
    zero = found.graph.initializers["x_zero_point"].const_value
    scale = found.graph.initializers["x_scale"].const_value
    assert zero.numpy() == 0
    assert scale.numpy() == pytest.approx(np.abs(X).max() / 32767, rel=1e-6)


def test_the_numbers_are_those_of_16_bits() -> None:
    plain, all_wide, one = (snr_db(run(quantized(w))) for w in ((), ("Conv",), ("first",)))
    weights = snr_db(run(quantized((), activations="uint16")))
    assert all_wide == pytest.approx(weights, abs=0.01)  # nothing but the weights is off
    assert plain + 1 < one < all_wide
    optimized = Artifact(quantized(("second",)))
    with Session(optimized) as session, Session(optimized, optimize=False) as exact:
        found = [s.run({"x": X})["y"] for s in (session, exact)]
    np.testing.assert_allclose(*found, atol=2 * np.abs(found[1]).max() / 255)


def test_ranges_are_chosen_for_as_many_integers_as_there_are() -> None:
    """With 8 bits it is worth it to clip a value far out; with 16 it is not."""
    spread = X.copy()
    spread[0, 0, 0, 0] = 3.5

    def scale(wide: tuple[str, ...]) -> float:
        def stream() -> Iterator[dict[str, np.ndarray]]:
            yield {"x": spread}

        pass_ = QuantizeStatic(wide=wide, method="mse")
        found = pass_.apply(model(), PassContext(samples=stream)).model
        value = found.graph.initializers["x_scale"].const_value
        assert value is not None
        return float(value.numpy())

    assert scale(()) * 255 < 4.48
    assert scale(("first",)) * 65535 == pytest.approx(3.5 - X.min(), rel=1e-3)


def test_scale_and_zero_point_of_16_bits() -> None:
    found = quantized(("first",), method="minmax")
    scale = found.graph.initializers["x_scale"].const_value.numpy()
    zero = found.graph.initializers["x_zero_point"].const_value.numpy()
    low, high = float(X.min()), float(X.max())
    assert scale == pytest.approx((high - low) / 65535, rel=1e-6)
    assert zero == np.rint(-low / scale)
    bias = found.graph.initializers["b_scale"].const_value.numpy()
    np.testing.assert_allclose(
        bias, scale * found.graph.initializers["w_scale"].const_value.numpy()
    )


def test_operators_on_integers_are_not_made_of_pairs_of_16_bits() -> None:
    found = FuseQdq().apply(quantized(("third",)), PassContext()).model
    operators = [node.op_type for node in found.graph]
    # The second makes 16 bits, the third reads and makes them.
    assert (operators.count("QLinearConv"), operators.count("Conv")) == (1, 2)
    # Integers are rounded one way in the kernel, another in the pair: by one step at most.
    wanted = run(quantized(("third",)))
    np.testing.assert_allclose(run(found), wanted, atol=0.02 * np.abs(wanted).max())


def test_it_is_said_that_it_is_slow_and_recorded() -> None:
    details = QuantizeStatic(wide=("second",)).apply(model(), context()).details
    assert details["wide"] == ["second"]
    assert details["warnings"] == [
        "16-bit activations are slower than float32 on most CPUs; uint8 is fast"
    ]
    assert "wide" not in QuantizeStatic().apply(model(), context()).details


@pytest.mark.parametrize(
    ("wide", "opset", "words"), [("secnd", 21, "secnd"), ("second", 20, "these types need 21")]
)
def test_refusals(wide: str, opset: int, words: str) -> None:
    with pytest.raises(SmithError, match=words):
        QuantizeStatic(wide=(wide,)).apply(model(opset), context())
