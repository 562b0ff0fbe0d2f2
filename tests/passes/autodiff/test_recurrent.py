"""Gradients of recurrent layers, against central differences of layers written in numpy."""

from __future__ import annotations

import numpy as np
import pytest
from tests.passes.autodiff.checking import check_gradients, check_repeats, model_of

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.autodiff.gradients import gradients
from onnxsmith.runtime.session import Session

RNG = np.random.default_rng(83)
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
T, N, I, H = 3, 2, 2, 3  # noqa: E741 - sizes as the operators name them


def normal(*shape: int) -> np.ndarray:
    return (RNG.normal(size=shape) * 0.6).astype(np.float32)


def layer(
    kind: str, direction: str, options: str = "", result: str = "u = Mul(t, k)"
) -> tuple[str, dict[str, np.ndarray]]:
    """Return a graph with every input, and values for them."""
    ways = 2 if direction == "bidirectional" else 1
    gates = GATES[kind]
    feeds = {
        "x": normal(T, N, I), "w": normal(ways, gates * H, I), "r": normal(ways, gates * H, H),
        "b": normal(ways, 2 * gates * H), "h": normal(ways, N, H), "c": normal(ways, N, H),
        "k": normal(T, ways, N, H), "q": normal(ways, N, H), "p": normal(ways, N, H),
        "l": np.array([2, 3], np.int32),
    }  # fmt: skip
    kinds = {name: f"float[{', '.join(map(str, value.shape))}]" for name, value in feeds.items()}
    kinds["x"], kinds["k"], kinds["l"] = (
        f"float[t, n, {I}]",
        f"float[t, {ways}, n, {H}]",
        "int32[n]",
    )
    given = ", ".join(f"{kinds[name]} {name}" for name in feeds)
    cell = ", c" if kind == "LSTM" else ""
    more = ", tc" if kind == "LSTM" else ""
    last = "v = Mul(th, q)" + (" o = Mul(tc, p)" if kind == "LSTM" else " o = Mul(th, p)")
    lengths = "l" if "lengths" in options else ""
    options = options.replace("lengths", "")
    text = (
        f"g ({given}) => (float y) {{ t, th{more} = {kind} <hidden_size = {H},"
        f'direction = "{direction}" {options}> (x, w, r, b, {lengths}, h{cell}) {result} {last}'
        "s1 = ReduceSum <keepdims = 0> (u) s2 = ReduceSum <keepdims = 0> (v)"
        "s3 = ReduceSum <keepdims = 0> (o) y = Sum(s1, s2, s3) }"
    )
    return text, feeds


@pytest.mark.parametrize(
    ("kind", "options", "direction"),
    [
        ("RNN", "", "forward"),
        ("RNN", "lengths", "reverse"),
        ("RNN", "lengths", "bidirectional"),
        ("GRU", "", "reverse"),
        ("GRU", "", "bidirectional"),
        ("GRU", "lengths", "bidirectional"),
        ("GRU", ", linear_before_reset = 1", "forward"),
        ("GRU", "lengths, linear_before_reset = 1", "bidirectional"),
        ("LSTM", "", "reverse"),
        ("LSTM", "", "bidirectional"),
        ("LSTM", "lengths", "forward"),
        ("LSTM", "lengths", "bidirectional"),
    ],
)
def test_layers(kind: str, options: str, direction: str) -> None:
    text, feeds = layer(kind, direction, options)
    wrt = ["x", "w", "r", "b", "h", *(["c"] if kind == "LSTM" else [])]
    check_gradients(model_of(text), feeds, wrt, rtol=3e-6)


@pytest.mark.parametrize("activation", ["Relu", "Sigmoid", "Tanh"])
def test_activations_of_rnn(activation: str) -> None:
    text, feeds = layer("RNN", "forward", f', activations = ["{activation}"]')
    check_gradients(model_of(text), feeds, ["x", "w", "r", "b", "h"])


@pytest.mark.parametrize("kind", list(GATES))
def test_only_the_last_state_is_read_and_nothing_else_given(kind: str) -> None:
    gates = GATES[kind]
    text = (
        f"g (float[4, n, {I}] x, float[1, {gates * H}, {I}] w, float[1, {gates * H}, {H}] r)"
        f"=> (float[1, n, {H}] y) {{ u, t = {kind} <hidden_size = {H}> (x, w, r) y = Mul(t, t) }}"
    )
    feeds = {"x": normal(4, N, I), "w": normal(1, gates * H, I), "r": normal(1, gates * H, H)}
    check_gradients(model_of(text), feeds, ["x", "w", "r"])
    check_gradients(model_of(text.replace("u, t =", ", t =")), feeds, ["x", "w", "r"])


@pytest.mark.parametrize("options", ["", ", linear_before_reset = 1"])
def test_ranks_are_known_without_the_optimizations_of_the_runtime(options: str) -> None:
    text, feeds = layer("GRU", "bidirectional", options)
    made = gradients(Artifact.from_proto(model_of(text)), "y", ["r"])
    with Session(made) as session, Session(made, optimize=False) as plain:
        expected, found = session.run(feeds), plain.run(feeds)
    np.testing.assert_allclose(found["r_gradient"], expected["r_gradient"], rtol=1e-4, atol=1e-6)


def test_gradients_of_layers_are_the_same_every_time() -> None:
    text, feeds = layer("LSTM", "bidirectional")
    check_repeats(gradients(Artifact.from_proto(model_of(text)), "y", ["x", "w", "r"]), feeds)


@pytest.mark.parametrize(
    ("kind", "options", "reason"),
    [
        ("LSTM", ", clip = 3.0", "clip"),
        ("LSTM", ", input_forget = 1", "coupled"),
        ("LSTM", ', activations = ["Sigmoid", "Relu", "Tanh"]', "activations are Sigmoid, Relu"),
        ("GRU", ', activations = ["HardSigmoid", "Tanh"]', "activations are HardSigmoid"),
        ("RNN", ', activations = ["Affine"]', "activations are Affine"),
        ("GRU", ", layout = 1", "batch comes first"),
    ],
)
def test_what_is_not_known_is_refused(kind: str, options: str, reason: str) -> None:
    text, _ = layer(kind, "forward", options)
    with pytest.raises(SmithError, match=rf"{kind}.*{reason}"):
        gradients(Artifact.from_proto(model_of(text)), "y", ["w"])


def test_peepholes_are_refused() -> None:
    text, _ = layer("LSTM", "forward")
    text = text.replace("h, c)", "h, c, e)").replace(
        "float[t, n, 2] x,", "float[1, 9] e, float[t, n, 2] x,"
    )
    with pytest.raises(SmithError, match="peepholes"):
        gradients(Artifact.from_proto(model_of(text)), "y", ["w"])
