"""Gradients of recurrent layers, against central differences of layers written in numpy."""

from __future__ import annotations

import numpy as np
import pytest
from tests.passes.autodiff.checking import (
    check_gradients,
    check_repeats,
    close,
    evaluator,
    in_double,
    model_of,
)

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
        ("GRU", ", clip = 3.0", "clip"),
        ("LSTM", ", input_forget = 1", "coupled"),
        ("LSTM", ', activations = ["Sigmoid", "Relu", "Tanh"]', "activations are Sigmoid, Relu"),
        ("GRU", ', activations = ["HardSigmoid", "Tanh"]', "activations are HardSigmoid"),
        ("RNN", ', activations = ["Affine"]', "activations are Affine"),
    ],
)
def test_what_is_not_known_is_refused(kind: str, options: str, reason: str) -> None:
    text, _ = layer(kind, "forward", options)
    with pytest.raises(SmithError, match=rf"{kind}.*{reason}"):
        gradients(Artifact.from_proto(model_of(text)), "y", ["w"])


@pytest.mark.parametrize("clip", ["", ", clip = 0.4"])
@pytest.mark.parametrize(
    ("options", "direction"), [("", "forward"), ("", "bidirectional"), ("lengths", "bidirectional")]
)
@pytest.mark.parametrize("sees", [True, False])
def test_peepholes_and_clip(sees: bool, options: str, direction: str, clip: str) -> None:
    text, feeds = layer("LSTM", direction, options + clip)
    ways = 2 if direction == "bidirectional" else 1
    wrt = ["x", "w", "r", "b", "h", "c"]
    if sees:
        text = text.replace("h, c)", "h, c, e)").replace("g (", f"g (float[{ways}, {3 * H}] e, ")
        feeds["e"] = normal(ways, 3 * H)
        wrt.append("e")
    proto = model_of(text)
    check_gradients(proto, feeds, wrt, rtol=5e-6)
    # What is compared with computes what the runtime does.
    with Session(Artifact.from_proto(proto)) as session:
        found = session.run(feeds)["y"]
    wide = {n: a.astype(np.float64) if a.dtype == np.float32 else a for n, a in feeds.items()}
    np.testing.assert_allclose(found, evaluator(in_double(proto))(wide)["y"], rtol=1e-5)


@pytest.mark.parametrize("kind", list(GATES))
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_a_batch_that_comes_first(kind: str, direction: str) -> None:
    """The runtime has no kernel for it: the same layer with steps first says what is right."""
    text, feeds = layer(kind, direction)
    plain = gradients(Artifact.from_proto(model_of(text)), "y", ["x", "w", "h"])
    ways = 2 if direction == "bidirectional" else 1
    turned = text.replace(f"hidden_size = {H}", f"layout = 1, hidden_size = {H}")
    for old, new in {
        f"float[t, n, {I}] x": f"float[n, t, {I}] x",
        f"float[t, {ways}, n, {H}] k": f"float[n, t, {ways}, {H}] k",
        **{f"float[{ways}, {N}, {H}] {s}": f"float[{N}, {ways}, {H}] {s}" for s in "hcqp"},
    }.items():
        assert old in turned
        turned = turned.replace(old, new)
    moved = {name: a.swapaxes(0, 1) if name in "xhcqp" else a for name, a in feeds.items()}
    moved["k"] = feeds["k"].transpose(2, 0, 1, 3)
    made = gradients(Artifact.from_proto(model_of(turned)), "y", ["x", "w", "h"])
    with Session(plain) as session:
        expected = session.run(feeds)
    with Session(made) as session:
        found = session.run({name: np.ascontiguousarray(a) for name, a in moved.items()})
    for name in ("y", "x_gradient", "w_gradient", "h_gradient"):
        turn = name[0] in "xh"
        close(found[name].swapaxes(0, 1) if turn else found[name], expected[name], 1e-6, name)
