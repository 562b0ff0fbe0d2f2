"""Gradients of If, Scan and Loop."""

from __future__ import annotations

import numpy as np
import pytest
from tests.passes.autodiff.checking import check_gradients, check_repeats, close, model_of

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.autodiff.gradients import gradients
from onnxsmith.runtime.session import Session

RNG = np.random.default_rng(71)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("which", [True, False])
def test_if(which: bool) -> None:
    """One branch reads x and w, the other x and v: what is not read gets zeros."""
    text = (
        "g (bool c, float[2, 3] x, float[3, 4] w, float[4] v) => (float[n, 4] y) {"
        "t, s = If <then_branch = a () => (float[2, 4] p, float[2, 3] q)"
        "{ p = MatMul(x, w) q = Mul(x, x) },"
        "else_branch = e () => (float[2, 4] p2, float[2, 3] q2)"
        "{ m = ReduceSum <keepdims = 0> (x) p3 = Mul(m, v) p2 = Expand(p3, h) q2 = Exp(x) }> (c)"
        "u = Mul(t, t) r = ReduceSum <keepdims = 0> (s) y = Mul(u, r) }"
    ).replace("{ m = ", "{ h = Constant <value_ints = [2, 4]> () m = ")
    feeds = {"c": np.array(which), "x": normal(2, 3), "w": normal(3, 4), "v": normal(4)}
    check_gradients(model_of(text), feeds, ["x", "w", "v"], double=True)


def test_branches_that_return_what_is_outside() -> None:
    text = (
        "g (bool c, float[3] x, float[3] v) => (float[3] y) { e = Exp(x)"
        "t = If <then_branch = a () => (float[3] p) { p = Identity(e) },"
        "else_branch = b () => (float[3] q) { q = Mul(e, v) }> (c) y = Mul(t, x) }"
    )
    for which in (True, False):
        feeds = {"c": np.array(which), "x": normal(3), "v": normal(3)}
        check_gradients(model_of(text), feeds, ["x", "v"])


@pytest.mark.parametrize("of", ["z", "k"])
@pytest.mark.parametrize("ways", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_scan(of: str, ways: tuple[int, int]) -> None:
    text = (
        "g (float[2] s, float[4, 2] x, float[2, 2] w) => (float y) {"
        f"z, k = Scan <num_scan_inputs = 1, scan_input_directions = [{ways[0]}],"
        f"scan_output_directions = [{ways[1]}], body = b (float[2] a, float[2] c)"
        "=> (float[2] d, float[2] e)"
        "{ m = MatMul(a, w) n = Tanh(m) d = Add(n, c) e = Mul(a, c) }> (s, x)"
        f"f = Constant <value_floats = [0.5, -2.0]> () h = Mul({of}, f)"
        "y = ReduceSum <keepdims = 0> (h) }"
    )
    feeds = {"s": normal(2), "x": normal(4, 2), "w": normal(2, 2)}
    check_gradients(model_of(text), feeds, ["s", "x", "w"], double=True, runtime=True)


def test_scan_along_another_dimension() -> None:
    text = (
        "g (float[2] s, float[2, n] x, float[2, n] k) => (float[2, n] y) {"
        "z, t = Scan <num_scan_inputs = 1, scan_input_axes = [1], scan_output_axes = [-1],"
        "body = b (float[2] a, float[2] c) => (float[2] d, float[2] e)"
        "{ d = Mul(a, c) e = Sin(d) }> (s, x) y = Mul(t, k) }"
    )
    feeds = {"s": normal(2), "x": normal(2, 3), "k": normal(2, 3)}
    check_gradients(model_of(text), feeds, ["s", "x"], runtime=True)


def test_scan_of_several_states_one_of_them_counting() -> None:
    text = (
        "g (float[2] s, float[3, 2] x, float[3, 2] q) => (float[2] z) {"
        "n = Constant <value_int = 0> () o = Constant <value_int = 1> ()"
        "z, m, i, f, u = Scan <num_scan_inputs = 2,"
        "body = b (float[2] a, float[2] r, int64 j, float[2] c, float[2] p)"
        "=> (float[2] d, float[2] r2, int64 j2, float[2] e, int64 l) {"
        "j2 = Add(j, o) w = Cast <to = 1> (j2) v = Mul(a, w) t = Mul(r, p) d = Add(v, t)"
        "r2 = Add(r, c) e = Neg(d) l = Identity(j) }> (s, s, n, x, q) }"
    )
    feeds = {"s": normal(2), "x": normal(3, 2), "q": normal(3, 2)}
    check_gradients(model_of(text), feeds, ["s", "x", "q"])


LOOP = (
    "g (int64 n, float[2] s, float[2, 2] w) => (float[2] z, float[m, 2] k) {"
    "t = Constant <value = bool {1}> ()"
    "z, k = Loop <body = b (int64 i, bool c, float[2] a) => (bool c2, float[2] d, float[2] e) {"
    "c2 = Identity(c) m = MatMul(a, w) v = Tanh(m) f = Cast <to = 1> (i) d = Add(v, f)"
    "e = Mul(a, a) }> (n, t, s) }"
)


@pytest.mark.parametrize("of", ["z", "k"])
@pytest.mark.parametrize("trips", [0, 1, 4])
def test_loop(of: str, trips: int) -> None:
    feeds = {"n": np.array(trips), "s": normal(2), "w": normal(2, 2)}
    if trips:
        check_gradients(model_of(LOOP), feeds, ["s", "w"], of=of)
        return
    made = gradients(Artifact.from_proto(model_of(LOOP)), of, ["s", "w"])
    with Session(made) as session:  # the evaluator cannot stack nothing
        found = session.run(feeds)
    np.testing.assert_array_equal(found["s_gradient"], np.full(2, of == "z"))
    np.testing.assert_array_equal(found["w_gradient"], np.zeros((2, 2)))


def test_loop_that_ends_by_its_condition() -> None:
    text = (
        "g (float[3, 2] x, float limit) => (float z) {"
        "n = Constant <value_int = 50> () t = Constant <value = bool {1}> ()"
        "o = Constant <value_float = 1.0> ()"
        "z = Loop <body = b (int64 i, bool c, float a) => (bool c2, float d) {"
        "p = Constant <value_int = 3> () j = Mod(i, p) r = Gather(x, j) q = Mul(r, r)"
        "u = ReduceSum <keepdims = 0> (q) v = Mul(u, a) d = Add(v, u) c2 = Less(d, limit) }>"
        "(n, t, o) }"
    )
    feeds = {"x": np.abs(normal(3, 2)) + 0.5, "limit": np.array(40, np.float32)}
    check_gradients(model_of(text), feeds, ["x"])


def test_bodies_within_bodies() -> None:
    text = (
        "g (int64 n, float[2] s, float[2] w) => (float[2] z) { t = Constant <value = bool {1}> ()"
        "y = Exp(w)"
        "z = Loop <body = b (int64 i, bool c, float[2] a) => (bool c2, float[2] d) {"
        "c2 = Identity(c) o = Constant <value_int = 1> () q = Less(i, o)"
        "e = If <then_branch = h () => (float[2] p) { p = Mul(a, y) },"
        "else_branch = l () => (float[2] r) { u = HardSwish(a) v = Sin(u) r = Add(v, y) }> (q)"
        "d = Mul(e, y) }> (n, t, s) }"
    )
    feeds = {"n": np.array(3), "s": normal(2), "w": normal(2)}
    check_gradients(model_of(text), feeds, ["s", "w"])


def test_operators_within_bodies_are_written_as_their_bodies() -> None:
    text = (
        "g (bool c, float[2, 3] x) => (float[2, 3] y) {"
        "t = If <then_branch = a () => (float[2, 3] p) { p = CenterCropPad <axes = [1]> (x, s) },"
        "else_branch = b () => (float[2, 3] q) { q = Exp(x) }> (c) y = Mul(t, x) }"
    ).replace("{ p =", "{ s = Constant <value_ints = [3]> () p =")
    for which in (True, False):
        check_gradients(model_of(text), {"c": np.array(which), "x": normal(2, 3)}, ["x"])


def test_sums_over_steps_are_the_same_every_time() -> None:
    made = gradients(Artifact.from_proto(model_of(LOOP)), "z", ["s", "w"])
    check_repeats(made, {"n": np.array(6), "s": normal(2), "w": normal(2, 2)})


def test_states_that_nothing_reads_are_not_kept() -> None:
    text = (
        "g (float[2] s, float[4, 2] x) => (float[2] z) { z = Scan <num_scan_inputs = 1, body ="
        "b (float[2] a, float[2] c) => (float[2] d) { d = Add(a, c) }> (s, x) }"
    )
    made = gradients(Artifact.from_proto(model_of(text)), "z", ["s", "x"])
    forward = next(node for node in made.model.graph if node.op_type == "Scan")
    assert len(forward.outputs) == 1
    feeds = {"s": normal(2), "x": normal(4, 2)}
    with Session(made) as session:
        close(session.run(feeds)["x_gradient"], np.ones((4, 2)), 1e-6, "x")


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        ("r = RandomNormalLike(a) d = Add(a, r)", "random numbers"),
        ("d = Concat <axis = 0> (a, a)", "shape of what it carries changes"),
    ],
)
def test_loops_that_cannot_be_run_back_are_refused(step: str, reason: str) -> None:
    size = 4 if "Concat" in step else 2
    text = (
        "g (int64 n, float[2] s) => (float[k] z) { t = Constant <value = bool {1}> ()"
        f"z = Loop <body = b (int64 i, bool c, float[2] a) => (bool c2, float[{size}] d)"
        f"{{ c2 = Identity(c) {step} }}> (n, t, s) }}"
    )
    with pytest.raises(SmithError, match=rf"'z' \(Loop\).*{reason}"):
        gradients(Artifact.from_proto(model_of(text)), "z", ["s"])


def test_a_node_in_a_body_that_has_no_derivative_is_named() -> None:
    text = (
        "g (bool c, float[2, 2] x) => (float y) {"
        "y = If <then_branch = a () => (float p) { p = Det(x) },"
        "else_branch = b () => (float q) { q = ReduceSum <keepdims = 0> (x) }> (c) }"
    )
    with pytest.raises(SmithError, match=r"'p' \(Det\)"):
        gradients(Artifact.from_proto(model_of(text)), "y", ["x"])
