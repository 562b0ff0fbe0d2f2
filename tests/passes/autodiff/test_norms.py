"""Gradients of normalizations that have no running statistics."""

from __future__ import annotations

import numpy as np
import pytest
from tests.passes.autodiff.checking import check_gradients, close, model_of

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.autodiff.gradients import gradients
from onnxsmith.passes.autodiff.plain_batch_norm import plain_batch_norm
from onnxsmith.runtime.session import Session

RNG = np.random.default_rng(23)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("shape", ["3, 6, 2, 2", "n, 6, h, w"])
def test_group_normalization(shape: str) -> None:
    text = (
        f"g (float[{shape}] x, float[6] s, float[6] b, float[{shape}] k) => (float[{shape}] y) {{"
        "t = GroupNormalization <num_groups = 3, epsilon = 0.01> (x, s, b) y = Mul(t, k) }"
    )
    feeds = {"x": normal(3, 6, 2, 2), "k": normal(3, 6, 2, 2), "s": normal(6), "b": normal(6)}
    check_gradients(model_of(text), feeds, ["x", "s", "b"])


def test_group_normalization_that_scales_groups() -> None:
    found = []
    for opset, count in ((18, 3), (21, 6)):
        text = (
            f"g (float[n, 6, 4] x, float[{count}] s, float[{count}] b, float[n, 6, 4] k)"
            "=> (float[n, 6, 4] y) { t = GroupNormalization <num_groups = 3> (x, s, b)"
            "y = Mul(t, k) }"
        )
        made = gradients(Artifact.from_proto(model_of(text, opset)), "y", ["x", "s", "b"])
        rng = np.random.default_rng(1)
        feeds = {name: rng.normal(size=(2, 6, 4)).astype(np.float32) for name in "xk"}
        for name in "sb":
            each = rng.normal(size=3).astype(np.float32)
            feeds[name] = np.repeat(each, count // 3)
        with Session(made) as session:
            found.append(session.run(feeds))
    groups, channels = found
    close(groups["x_gradient"], channels["x_gradient"], 1e-6, "x")
    for name in ("s_gradient", "b_gradient"):
        close(groups[name], channels[name].reshape(3, 2).sum(1), 1e-6, name)


@pytest.mark.parametrize("axis", [-1, 1])
def test_root_mean_square_normalization(axis: int) -> None:
    scale = (4,) if axis == -1 else (3, 4)
    text = (
        f"g (float[n, 3, 4] x, float{list(scale)} s, float[n, 3, 4] k) => (float[n, 3, 4] y) {{"
        f"t = RMSNormalization <axis = {axis}, epsilon = 0.01> (x, s) y = Mul(t, k) }}"
    )
    x, s, k = normal(2, 3, 4), normal(*scale), normal(2, 3, 4)
    made = gradients(Artifact.from_proto(model_of(text, 23)), "y", ["x", "s"])
    axes = (2,) if axis == -1 else (1, 2)
    wide = x.astype(np.float64)
    length = np.sqrt((wide**2).mean(axes, keepdims=True) + 0.01)
    inner = k * s
    expected = inner / length - wide * (inner * wide).mean(axes, keepdims=True) / length**3
    scaled = (k * wide / length).sum(0)
    with Session(made) as session:
        found = session.run({"x": x, "s": s, "k": k})
    close(found["x_gradient"], expected, 1e-5, "x")
    close(found["s_gradient"], scaled.sum(0) if axis == -1 else scaled, 1e-5, "s")


@pytest.mark.parametrize(
    "call",
    [
        "LpNormalization <p = 1>",
        "LpNormalization <p = 2, axis = 1>",
        "MeanVarianceNormalization <axes = [0, 2, 3]>",
        "MeanVarianceNormalization <axes = [1, -1]>",
        "LRN <size = 3, alpha = 0.4, beta = 0.6, bias = 1.5>",
        "LRN <size = 5, alpha = 0.4>",
    ],
)
@pytest.mark.parametrize("shape", ["2, 5, 2, 2", "n, 5, h, w"])
def test_other_normalizations(call: str, shape: str) -> None:
    text = (
        f"g (float[{shape}] x, float[{shape}] k) => (float[{shape}] y)"
        f"{{ t = {call} (x) y = Mul(t, k) }}"
    )
    feeds = {"x": normal(2, 5, 2, 2), "k": normal(2, 5, 2, 2)}
    check_gradients(model_of(text), feeds, ["x"], double=call.startswith("Lp"))


def test_mean_and_variance_are_of_batch_and_places_by_default() -> None:
    found = []
    x, k = normal(2, 3, 2, 2), normal(2, 3, 2, 2)
    for options in ("", "<axes = [0, 2, 3]>"):
        text = (
            "g (float[2, 3, 2, 2] x, float[2, 3, 2, 2] k) => (float[2, 3, 2, 2] y)"
            f"{{ t = MeanVarianceNormalization {options} (x) y = Mul(t, k) }}"
        )
        with Session(gradients(Artifact.from_proto(model_of(text)), "y", ["x"])) as session:
            found.append(session.run({"x": x, "k": k})["x_gradient"])
    np.testing.assert_array_equal(found[0], found[1])


def test_zeros_have_no_direction() -> None:
    text = "g (float[2, 2] x) => (float[2, 2] y) { y = LpNormalization(x) }"
    made = gradients(Artifact.from_proto(model_of(text)), "y", ["x"])
    with Session(made) as session:
        found = session.run({"x": np.array([[0, 0], [3, 4]], np.float32)})["x_gradient"]
    assert (found[0] == 0).all()
    assert np.isfinite(found).all()


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [((4, 3), "4, 3"), ((4, 3, 2, 2), "4, 3, 2, 2"), ((4, 3, 2), "n, 3, w"), ((4, 3), "n, 3")],
)
@pytest.mark.parametrize("training", [0, 1])
def test_batch_norm_of_several_ranks(shape: tuple[int, ...], sizes: str, training: int) -> None:
    more = ", rm, rv" if training else ""
    text = (
        f"g (float[{sizes}] x, float[3] s, float[3] b, float[3] m, float[3] v,"
        f"float[{sizes}] k) => (float[{sizes}] y) {{ t{more} = BatchNormalization"
        f"<training_mode = {training}, epsilon = 0.01> (x, s, b, m, v) y = Mul(t, k) }}"
    )
    feeds = {name: normal(3) for name in "sbm"} | {"x": normal(*shape), "k": normal(*shape)}
    feeds["v"] = np.abs(normal(3)) + 0.5
    given = [] if training else ["m", "v"]
    check_gradients(model_of(text), feeds, ["x", "s", "b", *given], double=True)


def test_other_orders_are_refused() -> None:
    text = "g (float[2, 2] x) => (float[2, 2] y) { y = LpNormalization <p = 3> (x) }"
    with pytest.raises(SmithError, match=r"LpNormalization.*order 3"):
        gradients(Artifact.from_proto(model_of(text)), "y", ["x"])


def test_training_batch_norm_becomes_other_operators_of_the_same_numbers() -> None:
    text = (
        "g (float[n, 3, 4] x, float[3] s, float[3] b, float[3] m, float[3] v)"
        "=> (float[n, 3, 4] y, float[3] rm, float[3] rv) { y, rm, rv = BatchNormalization"
        "<training_mode = 1, momentum = 0.8, epsilon = 0.01> (x, s, b, m, v) }"
    )
    feeds = {name: normal(3) for name in "sbmv"} | {"x": normal(5, 3, 4) + 2}
    whole = Artifact.from_proto(model_of(text))
    with Session(whole) as session:
        expected = session.run(feeds)
    plain = Artifact.from_proto(model_of(text))
    assert plain_batch_norm(plain.model) == 1
    assert not any("training_mode" in node.attributes for node in plain.model.graph)
    with Session(plain) as session:
        found = session.run(feeds)
    for name in ("y", "rm", "rv"):
        close(found[name], expected[name].astype(np.float64), 2e-6, name)
    assert plain_batch_norm(plain.model) == 0


def test_gradients_hold_no_batch_norm_in_training() -> None:
    text = (
        "g (float[n, 3, 4] x, float[3] s, float[3] b, float[3] m, float[3] v) => (float[n, 3, 4] y)"
        "{ y, rm, rv = BatchNormalization <training_mode = 1> (x, s, b, m, v) }"
    )
    made = gradients(Artifact.from_proto(model_of(text)), "y", ["s"])
    assert not any("training_mode" in node.attributes for node in made.model.graph)
