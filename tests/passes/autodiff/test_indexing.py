"""Gradients of operators that pick and put elements, and of those that pad."""

from __future__ import annotations

import numpy as np
import pytest
from tests.passes.autodiff.checking import check_gradients, check_repeats, close, model_of

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.autodiff.gradients import gradients
from onnxsmith.runtime.session import Session

RNG = np.random.default_rng(31)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def named(shape: tuple[int, ...], letter: str, dynamic: bool) -> str:
    """Return a type whose sizes are known, or known when it runs alone."""
    sizes = [f"{letter}{i}" if dynamic else str(size) for i, size in enumerate(shape)]
    return f"[{', '.join(sizes)}]"


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(
    ("data", "indices", "batch"),
    [
        ((3, 4), [[0, 1], [2, 3], [-1, 1], [0, 1]], 0),
        ((3, 4), [[1], [1], [-3]], 0),
        ((2, 3, 2), [[[0], [2]], [[1], [1]]], 1),
        ((2, 3, 2), [[[0, 1]], [[-1, 0]]], 0),
        ((2, 2, 3, 2), [[[2], [0]], [[1], [-1]]], 2),
    ],
)
def test_gather_nd(data: tuple[int, ...], indices: list[object], batch: int, dynamic: bool) -> None:
    places = np.array(indices)
    if batch == 2:
        places = places.reshape(2, 2, 1)
    tail = data[batch + places.shape[-1] :]
    result = (*places.shape[:-1], *tail)
    index_type = named(places.shape[:-1], "i", dynamic)[:-1] + f", {places.shape[-1]}]"
    text = (
        f"g (float{named(data, 'd', dynamic)} x, int64{index_type} i,"
        f"float{named(result, 'r', dynamic)} k) => (float{named(result, 'r', dynamic)} y)"
        f"{{ t = GatherND <batch_dims = {batch}> (x, i) y = Mul(t, k) }}"
    )
    check_gradients(
        model_of(text), {"x": normal(*data), "i": places, "k": normal(*result)}, ["x"], double=True
    )


@pytest.mark.parametrize(
    ("starts", "ends", "axes", "steps"),
    [([1], [9], [-1], [1]), ([-1, 0], [-9, 5], [0, 2], [-2, 3]), ([1, 1], [3, 2], [1, 0], [1, 1])],
)
def test_slices_along_axes_that_are_inputs(
    starts: list[int], ends: list[int], axes: list[int], steps: list[int]
) -> None:
    text = (
        "g (float[3, 4, 5] x, int64[n] a, int64[n] b, int64[n] d, int64[n] e) => (float[p, q, r] y)"
        "{ t = Slice(x, a, b, d, e) y = Exp(t) }"
    )
    given = {"a": starts, "b": ends, "d": axes, "e": steps}
    feeds = {name: np.array(values) for name, values in given.items()}
    check_gradients(model_of(text), {"x": normal(3, 4, 5), **feeds}, ["x"], double=True)


@pytest.mark.parametrize("reduction", ["none", "add", "max", "min"])
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("kind", ["ScatterND", "ScatterElements"])
def test_scatter(kind: str, reduction: str, dynamic: bool) -> None:
    shape = (3, 4)
    if kind == "ScatterND":
        places, updates, axis = np.array([[2, 1], [0, 3], [-1, 0]]), (3,), ""
    else:
        places, updates, axis = np.array([[2, 0, 1], [0, -1, 2]]), (2, 3), "axis = -2, "
    text = (
        f"g (float{named(shape, 'd', dynamic)} x, int64{list(places.shape)} i,"
        f"float{list(updates)} u) => (float{named(shape, 'd', dynamic)} y)"
        f'{{ t = {kind} <{axis} reduction = "{reduction}"> (x, i, u) y = Exp(t) }}'
    )
    feeds = {"x": normal(*shape), "i": places, "u": normal(*updates)}
    check_gradients(model_of(text), feeds, ["x", "u"])


@pytest.mark.parametrize("kind", ["ScatterND", "ScatterElements"])
def test_what_updates_multiply_has_a_gradient_but_they_have_none(kind: str) -> None:
    text = (
        f"g (float[5] x, int64[3, 1] i, int64[3] j, float[3] u) => (float[5] y)"
        f'{{ t = {kind} <reduction = "mul"> (x, {"i" if kind == "ScatterND" else "j"}, u)'
        "y = Mul(t, t) }"
    )
    places = np.array([4, 1, 4])
    feeds = {"x": normal(5), "i": places[:, None], "j": places, "u": normal(3)}
    check_gradients(model_of(text), feeds, ["x"])
    with pytest.raises(SmithError, match=rf"'t' \({kind}\).*updates are multiplied"):
        gradients(Artifact.from_proto(model_of(text)), "y", ["u"])


@pytest.mark.parametrize("options", ["axis = 0", "axis = 1, largest = 0", "sorted = 0"])
def test_top_values(options: str) -> None:
    text = (
        "g (float[n, 5] x, int64[1] k) => (float[a, b] y)"
        f"{{ v, i = TopK <{options}> (x, k) y = Exp(v) }}"
    )
    x = (RNG.permutation(15).reshape(3, 5) / 8).astype(np.float32)
    check_gradients(model_of(text), {"x": x, "k": np.array([2])}, ["x"], double=True)


@pytest.mark.parametrize("options", ["", "<axis = 1>", "<axis = -2>"])
def test_compress(options: str) -> None:
    shape = "[m]" if not options else "[p, q]"
    text = (
        f"g (float[n, 3] x, bool[c] c) => (float{shape} y)"
        f"{{ t = Compress {options} (x, c) y = Mul(t, t) }}"
    )
    keep = np.array([True, False, True])
    check_gradients(model_of(text), {"x": normal(3, 3), "c": keep}, ["x"])


def test_reversed_sequences() -> None:
    text = (
        "g (float[4, 3, 2] x, int64[3] l, float[4, 3, 2] k) => (float[4, 3, 2] y)"
        "{ t = ReverseSequence(x, l) y = Mul(t, k) }"
    )
    feeds = {"x": normal(4, 3, 2), "l": np.array([1, 4, 3]), "k": normal(4, 3, 2)}
    check_gradients(model_of(text), feeds, ["x"])


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
@pytest.mark.parametrize("computed", [False, True])
def test_padding(mode: str, computed: bool) -> None:
    text = (
        "g (float[n, 3, 4] x, int64[4] p, float v, float[n, 6, 5] k) => (float[n, q, r] y)"
        "{ a = Constant <value_ints = [1, -1]> () c = Constant <value_ints = [1, 0, 2, 1]> ()"
        f's = Add(c, p) t = Pad <mode = "{mode}"> (x, {"s" if computed else "c"}, v, a)'
        "y = Mul(t, k) }"
    )
    feeds = {
        "x": normal(2, 3, 4),
        "p": np.zeros(4, np.int64),
        "v": np.array(0.5, np.float32),
        "k": normal(2, 6, 5),
    }
    wrt = ["x", "v"] if mode == "constant" else ["x"]
    check_gradients(model_of(text), feeds, wrt, double=mode == "constant")


def test_sums_into_shared_places_come_out_the_same_every_time() -> None:
    """ScatterND that adds is wrong on the runtime's CPU kernel with several threads."""
    text = (
        "g (float[64, 32, 8] x, int64[n, 2] i, float[n, 8] k) => (float[n, 8] y)"
        "{ t = GatherND(x, i) y = Mul(t, k) }"
    )
    made = gradients(Artifact.from_proto(model_of(text)), "y", ["x"])
    assert not any(node.op_type == "ScatterND" for node in made.model.graph)
    places, factors = RNG.integers(0, 12, (4096, 2)), normal(4096, 8)
    feeds = {"x": normal(64, 32, 8), "i": places, "k": factors}
    expected = np.zeros((64, 32, 8))
    np.add.at(expected, tuple(places.T), factors.astype(np.float64))
    check_repeats(made, feeds)
    with Session(made, threads=4) as session:
        close(session.run(feeds)["x_gradient"], expected, 1e-5, "x")


def test_padding_that_repeats_is_added_up_the_same_every_time() -> None:
    text = (
        "g (float[8, 64, 64] x, float[8, 70, 70] k) => (float[8, 70, 70] y)"
        "{ p = Constant <value_ints = [0, 3, 3, 0, 3, 3]> ()"
        't = Pad <mode = "edge"> (x, p) y = Mul(t, k) }'
    )
    made = gradients(Artifact.from_proto(model_of(text)), "y", ["x"])
    check_repeats(made, {"x": normal(8, 64, 64), "k": normal(8, 70, 70)})


def test_indices_of_unknown_depth_are_refused() -> None:
    text = "g (float[3, 4] x, int64[n, k] i) => (float[a] y) { y = GatherND(x, i) }"
    with pytest.raises(SmithError, match=r"GatherND.*how many dimensions its indices have"):
        gradients(Artifact.from_proto(model_of(text)), "y", ["x"])


def test_the_runtime_may_move_transposes_past_what_pads_the_gradient() -> None:
    """Where Pad names its dimensions, its transpose optimizer pads others instead."""
    text = (
        "g (float[2, 5, 3, 4] x, float[2, 5, 4] k) => (float[2, 5, 4] y) {"
        "t = Transpose <perm = [2, 0, 1, 3]> (x)"
        "a = Constant <value_ints = [0]> () b = Constant <value_ints = [1]> ()"
        "c = Constant <value_ints = [2]> () d = Constant <value_ints = [3]> ()"
        "s = Slice(t, a, b, a) p = Slice(t, c, d, a) m = Mul(s, p) e = Squeeze(m, a)"
        "y = Mul(e, k) }"
    )
    feeds = {"x": normal(2, 5, 3, 4), "k": normal(2, 5, 4)}
    made = check_gradients(model_of(text), feeds, ["x"])
    pads = [node for node in made.model.graph if node.op_type == "Pad"]
    assert pads
    assert all(len(node.inputs) < 4 for node in pads)
