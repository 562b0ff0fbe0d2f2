# ruff: noqa: E501 - a graph is easier read in one line
"""Scales and shifts go into the weights of every linear operator, in every layout of theirs."""

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.observers import census
from onnxsmith.passes.pipeline import PassPipeline
from onnxsmith.runtime.session import Session

Arrays = dict[str, np.ndarray[Any, Any]]
RNG = np.random.default_rng(5)


def normal(*shape: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    return RNG.standard_normal(shape).astype(dtype)


def statistics(channels: int, dtype: Any = np.float32) -> Arrays:
    return {
        **{name: normal(channels, dtype=dtype) for name in ("g", "bt", "m")},
        "v": RNG.uniform(0.3, 3, channels).astype(dtype),
    }


NORM = "y = BatchNormalization<epsilon = 0.01>(c, g, bt, m, v)"
FUSED: list[tuple[str, str, Arrays]] = [
    ("Conv", f"g (float[2,4,6,6] x) => (float[2,6,4,4] y) {{ c = Conv<group = 2>(x, w, b) {NORM} }}",
     {"w": normal(6, 2, 3, 3), "b": normal(6), **statistics(6)}),
    ("Conv", f"g (float[2,4,6] x) => (float[2,6,4] y) {{ c = Conv(x, w) {NORM} }}",
     {"w": normal(6, 4, 3), **statistics(6)}),
    ("ConvTranspose", f"g (float[2,4,5,5] x) => (float[2,6,7,7] y) {{ c = ConvTranspose<group = 2>(x, w, b) {NORM} }}",
     {"w": normal(4, 3, 3, 3), "b": normal(6), **statistics(6)}),
    ("ConvTranspose", f"g (float[2,4,5,5] x) => (float[2,6,7,7] y) {{ c = ConvTranspose(x, w) {NORM} }}",
     {"w": normal(4, 6, 3, 3), **statistics(6)}),
    ("Gemm", f"g (float[N,4] x) => (float[N,6] y) {{ c = Gemm<alpha = 0.5, beta = 2.0, transB = 1>(x, w, b) {NORM} }}",
     {"w": normal(6, 4), "b": normal(6), **statistics(6)}),
    ("Gemm", f"g (float[4,N] x) => (float[N,6] y) {{ c = Gemm<transA = 1>(x, w, b) {NORM} }}",
     {"w": normal(4, 6), "b": normal(1, 6), **statistics(6)}),
    ("Gemm", f"g (float[N,4] x) => (float[N,6] y) {{ c = Gemm(x, w, b) {NORM} }}",
     {"w": normal(4, 6), "b": normal(1), **statistics(6)}),
    ("Gemm", f"g (float[N,4] x) => (float[N,6] y) {{ c = MatMul(x, w) {NORM} }}",
     {"w": normal(4, 6), **statistics(6)}),
    ("Conv", f"g (float16[2,4,6,6] x) => (float16[2,6,4,4] y) {{ c = Conv(x, w) {NORM} }}",
     {"w": normal(6, 4, 3, 3, dtype=np.float16), **statistics(6, np.float16)}),
    ("Gemm", f"g (double[N,4] x) => (double[N,6] y) {{ c = Gemm(x, w) {NORM} }}",
     {"w": normal(4, 6, dtype=np.float64), **statistics(6, np.float64)}),
    ("Conv", "g (float[2,4,6,6] x) => (float[2,6,4,4] y) { c = Conv(x, w, b) d = Mul(c, s) e = Add(t, d) y = Sub(e, u) }",
     {"w": normal(6, 4, 3, 3), "b": normal(6), "s": normal(6, 1, 1), "t": normal(1, 6, 1, 1), "u": normal(1)}),
    ("ConvTranspose", "g (float[2,4,5,5] x) => (float[2,6,7,7] y) { c = ConvTranspose<group = 2>(x, w) y = Div(c, s) }",
     {"w": normal(4, 3, 3, 3), "s": RNG.uniform(0.5, 2, (1, 6, 1, 1)).astype(np.float32)}),
    ("Gemm", "g (float[N,4] x) => (float[N,6] y) { c = Gemm(x, w) d = Add(c, t) y = Mul(s, d) }",
     {"w": normal(4, 6), "t": normal(6), "s": np.array(0.3, np.float32)}),
]  # fmt: skip


def rewrite(artifact: Artifact) -> ir.Model:
    model = artifact.model.clone()
    for pass_ in PassPipeline.parse("infer-shapes,fuse-batch-norm,fuse-conv-affine").passes:
        model = pass_.apply(model, PassContext()).model
    return model


@pytest.mark.parametrize(("kind", "text", "arrays"), FUSED)
def test_one_operator_is_left_with_equal_numbers(
    kind: str, text: str, arrays: Arrays, load_text: Callable[..., Artifact]
) -> None:
    artifact = load_text(text, arrays, opset=20)
    model = rewrite(artifact)
    assert census(model) == {kind: 1}
    spec = artifact.spec.inputs[0]
    shape = [size if isinstance(size, int) else 3 for size in spec.shape or ()]
    feeds = {"x": normal(*shape, dtype=np.dtype(spec.dtype))}
    tolerance = 2e-2 if spec.dtype == "float16" else 1e-12 if spec.dtype == "float64" else 1e-5
    with Session(artifact, optimize=False) as session:
        expected = session.run(feeds)["y"]
    with Session(Artifact(model), optimize=False) as session:
        found = session.run(feeds)["y"]
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


STAYS: list[tuple[str, Arrays]] = [
    # The result is read twice; it trains; its weights come from outside; a MatMul of three axes.
    (f"g (float[2,4,6,6] x) => (float[2,6,4,4] y, float[2,6,4,4] c) {{ c = Conv(x, w) {NORM} }}",
     {"w": normal(6, 4, 3, 3), **statistics(6)}),
    ("g (float[2,4,6,6] x) => (float[2,6,4,4] y) { c = Conv(x, w) y, a, d = BatchNormalization<training_mode = 1>(c, g, bt, m, v) }",
     {"w": normal(6, 4, 3, 3), **statistics(6)}),
    (f"g (float[2,4,6,6] x, float[6,4,3,3] w) => (float[2,6,4,4] y) {{ c = Conv(x, w) {NORM} }}", statistics(6)),
    (f"g (float[2,6,4] x) => (float[2,6,5] y) {{ c = MatMul(x, w) {NORM} }}", {"w": normal(4, 5), **statistics(6)}),
    # A variance of zero with such a scale leaves the range.
    (f"g (float16[2,4,6,6] x) => (float16[2,6,4,4] y) {{ c = Conv(x, w) {NORM} }}",
     {"w": np.full((6, 4, 3, 3), 60000, np.float16), **statistics(6, np.float16), "g": np.full(6, 3, np.float16)}),
    # Another axis than the channels', a sum that widens, c - y and c / y, half precision.
    ("g (float[2,4,6,6] x) => (float[2,4,4,4] y) { c = Conv(x, w) y = Mul(c, s) }", {"w": normal(4, 4, 3, 3), "s": normal(4)}),
    ("g (float[1,4,6,6] x) => (float[2,4,4,4] y) { c = Conv(x, w) y = Add(c, s) }", {"w": normal(4, 4, 3, 3), "s": normal(2, 1, 1, 1)}),
    ("g (float[N,4] x) => (float[N,6] y) { c = Gemm(x, w) y = Sub(s, c) }", {"w": normal(4, 6), "s": normal(6)}),
    ("g (float[N,4] x) => (float[N,6] y) { c = Gemm(x, w) y = Div(s, c) }", {"w": normal(4, 6), "s": normal(6)}),
    ("g (float[6,4] x) => (float[6,6] y) { c = Gemm(x, w) y = Mul(c, s) }", {"w": normal(4, 6), "s": normal(6, 1)}),
    ("g (float16[N,4] x) => (float16[N,6] y) { c = Gemm(x, w) y = Mul(c, s) }", {"w": normal(4, 6, dtype=np.float16), "s": normal(6, dtype=np.float16)}),
    ("g (float[N,4] x) => (float[N,6] y) { c = Gemm(x, w) y = Div(c, s) }", {"w": normal(4, 6), "s": np.zeros(6, np.float32)}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "arrays"), STAYS)
def test_what_cannot_be_folded_stays(
    text: str, arrays: Arrays, load_text: Callable[..., Artifact]
) -> None:
    artifact = load_text(text, arrays, opset=20)
    assert census(rewrite(artifact)) == census(artifact.model)


def test_bfloat16_weights_stay_bfloat16(load_text: Callable[..., Artifact]) -> None:
    arrays = {"w": normal(6, 4, 3, 3), **statistics(6)}
    half = {name: array.astype(ml_dtypes.bfloat16) for name, array in arrays.items()}
    text = f"g (bfloat16[2,4,6,6] x) => (bfloat16[2,6,4,4] y) {{ c = Conv(x, w) {NORM} }}"
    model = rewrite(load_text(text, half, opset=22))
    (conv,) = model.graph
    weight = conv.inputs[1]
    assert weight is not None
    assert weight.const_value is not None
    factor = half["g"].astype(np.float64) / np.sqrt(half["v"].astype(np.float64) + 0.01)
    expected = (half["w"].astype(np.float64) * factor.reshape(-1, 1, 1, 1)).astype(
        ml_dtypes.bfloat16
    )
    assert weight.const_value.dtype == ir.DataType.BFLOAT16
    assert np.array_equal(weight.const_value.numpy(), expected)


def test_large_weights_are_computed_when_they_are_read(load_text: Callable[..., Artifact]) -> None:
    arrays = {"w": normal(64, 64, 3, 3), **statistics(64)}
    before = arrays["w"].copy()
    text = f"g (float[1,64,6,6] x) => (float[1,64,4,4] y) {{ c = Conv(x, w) {NORM} }}"
    model = rewrite(load_text(text, arrays, opset=20))
    value = next(iter(model.graph)).inputs[1]
    assert value is not None
    assert isinstance(value.const_value, ir.LazyTensor)
    factor = (arrays["g"] / np.sqrt(arrays["v"] + 0.01)).reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(value.const_value.numpy(), before * factor, rtol=1e-6)
    assert np.array_equal(arrays["w"], before)


CLIPS = {
    "Relu": "Relu({})",
    "Clip": "Clip({}, {low}, {high})",
    "ClipLow": "Clip({}, {low})",
    "ClipHigh": "Clip({}, , {high})",
    "Min": "Min({}, {high})",
    "Max": "Max({low}, {})",
}


@settings(max_examples=60, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(sorted(CLIPS)), min_size=2, max_size=4),
    numbers=st.lists(st.integers(-4, 4), min_size=8, max_size=8),
)
def test_limits_of_limits_are_one_limit(kinds: list[str], numbers: list[int]) -> None:
    arrays, lines, value = {}, [], "x"
    for place, kind in enumerate(kinds):
        low, high = sorted(numbers[2 * place : 2 * place + 2])
        arrays[f"l{place}"] = np.array(low / 2, np.float32)
        arrays[f"h{place}"] = np.array(high / 2, np.float32)
        result = "y" if place + 1 == len(kinds) else f"v{place}"
        lines.append(f"{result} = " + CLIPS[kind].format(value, low=f"l{place}", high=f"h{place}"))
        value = result
    constants = ", ".join(f"float {name} = {{{array}}}" for name, array in arrays.items())
    proto = ir.from_onnx_text(
        f'<ir_version: 9, opset_import: ["": 18]> g (float[9] x) => (float[9] y) <{constants}> {{ {" ".join(lines)} }}'
    )
    artifact = Artifact(proto)
    model = artifact.model.clone()
    for pass_ in PassPipeline.parse("infer-shapes,fuse-clips").passes:
        model = pass_.apply(model, PassContext()).model
    assert sum(census(model).values()) == 1
    feeds = {"x": np.linspace(-3, 3, 9, dtype=np.float32)}
    with Session(artifact, optimize=False) as session:
        expected = session.run(feeds)["y"]
    with Session(Artifact(model), optimize=False) as session:
        np.testing.assert_array_equal(session.run(feeds)["y"], expected)


P = "int64[8] p = {0, 0, 1, 0, 0, 0, 2, 1}"
PADS = [
    (f"g (float[1,2,6,6] x) => (float[1,3,Q,R] y) <{P}> {{ a = Pad(x, p) y = Conv<pads = [1, 0, 0, 1]>(a, w) }}", {"Conv": 1}),
    (f'g (float[1,2,6,6] x) => (float[1,3,Q,R] y) <{P}> {{ a = Pad(x, p) y = Conv<auto_pad = "VALID">(a, w) }}', {"Conv": 1}),
    (f'g (float[1,2,6,6] x) => (float[1,3,Q,R] y) <{P}> {{ a = Pad(x, p) y = Conv<auto_pad = "SAME_UPPER">(a, w) }}', {"Pad": 1, "Conv": 1}),
    (f"g (float[1,2,6,6] x) => (float[1,3,Q,R] y) <{P}, float o = {{1}}> {{ a = Pad(x, p, o) y = Conv(a, w) }}", {"Pad": 1, "Conv": 1}),
    (f'g (float[1,2,6,6] x) => (float[1,3,Q,R] y) <{P}> {{ a = Pad<mode = "reflect">(x, p) y = Conv(a, w) }}', {"Pad": 1, "Conv": 1}),
    ("g (float[1,2,6,6] x) => (float[1,3,Q,R] y) <int64[4] p = {2, 1, 0, 1}, int64[2] e = {-1, 2}, float z = {0}> { a = Pad(x, p, z, e) y = Conv(a, w) }", {"Conv": 1}),
    ("g (float[1,1,6,6] x) => (float[1,3,4,4] y) <int64[8] p = {0, 1, 0, 0, 0, 0, 0, 0}> { a = Pad(x, p) y = Conv(a, w) }", {"Pad": 1, "Conv": 1}),
    ("g (float[1,2,7,7] x) => (float[1,3,4,4] y) <int64[8] p = {0, 0, -1, 0, 0, 0, 0, -1}> { a = Pad(x, p) y = Conv(a, w) }", {"Pad": 1, "Conv": 1}),
    (f"g (float[1,2,6,6] x) => (float[1,2,Q,R] y) <{P}> {{ a = Pad(x, p) y = AveragePool<kernel_shape = [3, 3]>(a) }}", {"AveragePool": 1}),
    (f"g (float[1,2,6,6] x) => (float[1,2,Q,R] y) <{P}> {{ a = Pad(x, p) y = AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(a) }}", {"Pad": 1, "AveragePool": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "after"), PADS)
def test_padding_goes_into_the_window(
    text: str, after: dict[str, int], load_text: Callable[..., Artifact]
) -> None:
    arrays = {"w": normal(3, 2, 3, 3)} if "w)" in text else {}
    artifact = load_text(text, arrays, opset=19)
    model = artifact.model.clone()
    for pass_ in PassPipeline.parse("infer-shapes,fuse-pad").passes:
        model = pass_.apply(model, PassContext()).model
    assert census(model) == after
    feeds = {"x": normal(*(int(d) for d in artifact.spec.inputs[0].shape or ()))}
    with Session(artifact, optimize=False) as session:
        expected = session.run(feeds)["y"]
    with Session(Artifact(model), optimize=False) as session:
        np.testing.assert_allclose(session.run(feeds)["y"], expected, rtol=1e-5, atol=1e-6)
