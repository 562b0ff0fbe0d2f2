"""The gradient of pooling by maxima: which of equal elements it goes to, and Relu behind it."""

from __future__ import annotations

import numpy as np
import pytest
from tests.passes.autodiff.checking import check_gradients, model_of

from onnxsmith.artifact import Artifact
from onnxsmith.passes.autodiff.gradients import gradients
from onnxsmith.passes.autodiff.relu_behind_pool import relu_behind_pool
from onnxsmith.runtime.session import Session

_TILES = "<kernel_shape = [2, 2], strides = [2, 2]>"


def _pooled_gradient(sizes: str, pool: str, x: np.ndarray, k: np.ndarray) -> np.ndarray:
    after = ", ".join(map(str, k.shape[1:]))
    text = (
        f"g (float[n, {sizes}] x, float[n, {after}] k) => (float[n, {after}] y)"
        f"{{ t = MaxPool {pool} (x) y = Mul(t, k) }}"
    )
    made = gradients(Artifact.from_proto(model_of(text)), "y", ["x"])
    with Session(made) as session:
        return session.run({"x": x, "k": k})["x_gradient"]


def _first_maxima(x: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Put each gradient where numpy finds the window's first maximum."""
    found = np.zeros_like(x)
    for place in np.ndindex(*k.shape):
        n, c, i, j = place
        window = x[n, c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        row, column = np.unravel_index(int(window.argmax()), (2, 2))
        found[n, c, 2 * i + row, 2 * j + column] = k[place]
    return found


@pytest.mark.parametrize(("height", "width"), [(4, 6), (6, 4), (2, 2), (5, 6), (4, 5)])
def test_the_first_of_equal_elements_gets_the_gradient(height: int, width: int) -> None:
    """Three values only: most windows have several maxima."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 3, (4, 3, height, width)).astype(np.float32)
    k = rng.standard_normal((4, 3, height // 2, width // 2)).astype(np.float32)
    found = _pooled_gradient(f"3, {height}, {width}", _TILES, x, k)
    np.testing.assert_array_equal(found, _first_maxima(x, k))


def test_windows_that_tile_need_no_places() -> None:
    text = f"g (float[n, 3, 4, 4] x) => (float[n, 3, 2, 2] y) {{ y = MaxPool {_TILES} (x) }}"
    made = gradients(Artifact.from_proto(model_of(text)), "y", ["x"]).model.graph
    pool = next(node for node in made if node.op_type == "MaxPool")
    assert len(pool.outputs) == 1
    assert "MaxUnpool" not in {node.op_type for node in made}


def test_tiles_against_differences() -> None:
    rng = np.random.default_rng(1)
    x = rng.permutation(2 * 3 * 4 * 6).reshape(2, 3, 4, 6).astype(np.float32) / 10
    text = (
        "g (float[n, 3, 4, 6] x, float[n, 3, 2, 3] k) => (float[n, 3, 2, 3] y)"
        f"{{ t = MaxPool {_TILES} (x) y = Mul(t, k) }}"
    )
    feeds = {"x": x, "k": rng.standard_normal((2, 3, 2, 3)).astype(np.float32)}
    check_gradients(model_of(text), feeds, ["x"], double=True)


def _moved(body: str, outputs: str = "float[n, 2, p, q] y") -> tuple[int, list[str]]:
    text = f"g (float[n, 2, h, w] x) => ({outputs}) {{ {body} }}"
    model = Artifact.from_proto(model_of(text)).model
    count = relu_behind_pool(model)
    listed = [
        f"{node.outputs[0].name} = {node.op_type}({', '.join(v.name for v in node.inputs)})"
        for node in model.graph
    ]
    assert model.graph.outputs[0].name == "y"
    return count, listed


def test_relu_moves_behind_pooling() -> None:
    body = f"a = Exp(x) r = Relu(a) p = MaxPool {_TILES} (r) y = Neg(p)"
    listed = ["a = Exp(x)", "r = MaxPool(a)", "p = Relu(r)", "y = Neg(p)"]
    assert _moved(body) == (1, listed)


def test_relu_moves_where_pooling_is_the_result() -> None:
    body = f"r = Relu(x) y = MaxPool {_TILES} (r)"
    assert _moved(body) == (1, ["r = MaxPool(x)", "y = Relu(r)"])


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        (f"r = Relu(x) p = MaxPool {_TILES} (r) s = Neg(r) t = Neg(s) y = Identity(p)", ""),
        (f"r = Relu(x) y = MaxPool {_TILES} (r)", ", float[n, 2, h, w] r"),
        (f"r = Relu(x) y, i = MaxPool {_TILES} (r)", ", int64[n, 2, p, q] i"),
        (f"r = LeakyRelu(x) y = MaxPool {_TILES} (r)", ""),
        ("r = Relu(x) y = AveragePool <kernel_shape = [2, 2]> (r)", ""),
        (f"y = MaxPool {_TILES} (x)", ""),
    ],
    ids=["read by others", "a result", "its places are told", "no Relu", "no maximum", "an input"],
)
def test_relu_stays(body: str, outputs: str) -> None:
    count, listed = _moved(body, "float[n, 2, p, q] y" + outputs)
    assert count == 0
    assert listed[0].startswith(("r = ", "y = MaxPool(x)"))


@pytest.mark.parametrize(
    "pool",
    [_TILES, "<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>"],
    ids=["tiles", "overlapping"],
)
def test_values_and_gradients_through_both_are_the_same(pool: str) -> None:
    """Half of the elements are below zero; some windows as a whole."""
    rng = np.random.default_rng(2)
    x = (rng.permutation(2 * 2 * 6 * 6).reshape(2, 2, 6, 6).astype(np.float32) - 80.5) / 30
    k = rng.standard_normal((2, 2, 3, 3)).astype(np.float32)
    text = (
        "g (float[2, 2, 6, 6] x, float[2, 2, 3, 3] k) => (float[2, 2, 3, 3] y)"
        f"{{ r = Relu(x) t = MaxPool {pool} (r) y = Mul(t, k) }}"
    )
    check_gradients(model_of(text), {"x": x, "k": k}, ["x"])
    made = gradients(Artifact.from_proto(model_of(text)), "y", ["x"])
    with Session(made) as moved, Session(Artifact.from_proto(model_of(text))) as plain:
        found, expected = moved.run({"x": x, "k": k}), plain.run({"x": x, "k": k})
    np.testing.assert_array_equal(found["y"], expected["y"])
