"""Gradients of AffineGrid and GridSample, by the image and by the places."""

from __future__ import annotations

import numpy as np
import pytest
from tests.passes.autodiff.checking import check_gradients, model_of

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.autodiff.gradients import gradients

RNG = np.random.default_rng(131)


@pytest.mark.parametrize("mode", ["linear", "nearest"])
@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize("aligned", [0, 1])
def test_sampled_places(mode: str, padding: str, aligned: int) -> None:
    """Some places lie outside of the image."""
    feeds = {
        "x": RNG.normal(size=(2, 3, 4, 5)).astype(np.float32),
        "g": RNG.uniform(-1.4, 1.4, (2, 3, 2, 2)).astype(np.float32),
        "k": RNG.normal(size=(2, 3, 3, 2)).astype(np.float32),
    }
    options = f'mode = "{mode}", padding_mode = "{padding}", align_corners = {aligned}'
    text = (
        "g (float[n, 3, 4, 5] x, float[n, 3, 2, 2] g, float[n, 3, 3, 2] k) => (float y)"
        f"{{ t = GridSample <{options}> (x, g) q = Mul(t, k) s = Sin(t) m = Mul(q, s)"
        "y = ReduceSum <keepdims = 0> (m) }"
    )
    # The evaluator computes some of it in float32: the runtime does not.
    check_gradients(model_of(text, 20), feeds, ["x", "g"], rtol=3e-5, runtime=True)


@pytest.mark.parametrize("aligned", [0, 1])
@pytest.mark.parametrize("sizes", [(2, 1, 3, 4), (2, 1, 2, 3, 4)])
def test_affine_grids(sizes: tuple[int, ...], aligned: int) -> None:
    count = len(sizes) - 2
    grid = ", ".join(["n", *(str(size) for size in sizes[2:]), str(count)])
    text = (
        f"g (float[n, {count}, {count + 1}] x, float[{grid}] k) => (float[{grid}] y)"
        f"{{ s = Constant <value_ints = {list(sizes)}> ()"
        f"t = AffineGrid <align_corners = {aligned}> (x, s) u = Sin(t) y = Mul(u, k) }}"
    )
    feeds = {
        "x": RNG.normal(size=(2, count, count + 1)).astype(np.float32),
        "k": RNG.normal(size=(2, *sizes[2:], count)).astype(np.float32),
    }
    check_gradients(model_of(text, 20), feeds, ["x"], rtol=3e-5, runtime=True)


@pytest.mark.parametrize(
    ("options", "shapes", "reason"),
    [
        ('mode = "cubic"', ("1, 1, 3, 3", "1, 2, 2, 2"), "its mode is cubic"),
        ('padding_mode = "reflection"', ("1, 1, 3, 3", "1, 2, 2, 2"), "reflects"),
        ("align_corners = 1", ("1, 1, 3, 3, 3", "1, 2, 2, 2, 3"), "not two-dimensional"),
    ],
)
def test_what_is_not_known_is_refused(options: str, shapes: tuple[str, str], reason: str) -> None:
    out = ", ".join("abcde"[: shapes[0].count(",") + 1])
    text = (
        f"g (float[{shapes[0]}] x, float[{shapes[1]}] g) => (float[{out}] y)"
        f"{{ y = GridSample <{options}> (x, g) }}"
    )
    with pytest.raises(SmithError, match=rf"'y' \(GridSample\).*{reason}"):
        gradients(Artifact.from_proto(model_of(text, 20)), "y", ["x"])
