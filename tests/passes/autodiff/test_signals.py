"""Gradients of Fourier transforms and of blocks that are added up."""

from __future__ import annotations

import numpy as np
import pytest
from tests.passes.autodiff.checking import check_gradients, model_of

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.autodiff.gradients import gradients

RNG = np.random.default_rng(127)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("length", [None, 5, 9])
@pytest.mark.parametrize("options", ["", "inverse = 1", "onesided = 1"])
@pytest.mark.parametrize("opset", [18, 21])
def test_fourier_transforms(opset: int, options: str, length: int | None, parts: int) -> None:
    if "onesided" in options and parts == 2:
        parts = 1  # of complex values there is no half
    given = "" if length is None else f"l = Constant <value_int = {length}> ()"
    operand = "l" if length is not None else ""
    place = "a" if opset == 21 else ""
    axis = "a = Constant <value_int = 1> ()" if opset == 21 else ""
    attributes = ", ".join(filter(None, [options, "" if opset == 21 else "axis = 1"]))
    inputs = ", ".join(["x", operand, place]).rstrip(", ")
    call = f"t = DFT <{attributes}> ({inputs})".replace(" <>", "")
    text = (
        f"g (float[n, 7, 3, {parts}] x) => (float y) {{ {given} {axis} {call}"
        "q = Mul(t, t) c = Sin(t) m = Add(q, c) y = ReduceSum <keepdims = 0> (m) }"
    )
    proto, feeds = model_of(text, opset), {"x": normal(2, 7, 3, parts)}
    check_gradients(proto, feeds, ["x"], rtol=3e-5, runtime=True)


def test_a_spectrum_of_which_half_is_given_is_refused() -> None:
    text = "g (float[1, 4, 2] x) => (float[a, b, c] y){ y = DFT <inverse = 1, onesided = 1> (x) }"
    with pytest.raises(SmithError, match=r"'y' \(DFT\).*half a spectrum"):
        gradients(Artifact.from_proto(model_of(text)), "y", ["x"])


@pytest.mark.parametrize(
    ("image", "block", "options", "places"),
    [
        ([5, 5], [3, 2], "", 12),
        ([5, 6], [2, 3], "strides = [2, 1], pads = [1, 0, 0, 1]", 15),
        ([6, 6], [2, 2], "dilations = [2, 3]", 12),
        ([7], [3], "strides = [2]", 3),
    ],
)
def test_blocks_that_are_added_up(
    image: list[int], block: list[int], options: str, places: int
) -> None:
    count = int(np.prod(block))
    text = (
        f"g (float[n, {2 * count}, {places}] x, float[n, 2, {', '.join(map(str, image))}] k) =>"
        f"(float y) {{ i = Constant <value_ints = {image}> ()"
        f"b = Constant <value_ints = {block}> ()"
        f"t = Col2Im <{options}> (x, i, b) q = Mul(t, k) s = Sin(t) m = Mul(q, s)"
        "y = ReduceSum <keepdims = 0> (m) }"
    ).replace(" <>", "")
    feeds = {"x": normal(2, 2 * count, places), "k": normal(2, 2, *image)}
    check_gradients(model_of(text), feeds, ["x", "k"], rtol=3e-5)


def test_blocks_of_computed_sizes_are_refused() -> None:
    text = (
        "g (float[1, 4, 4] x, int64[2] i, int64[2] b) => (float[c, d, e, f] y)"
        "{ y = Col2Im(x, i, b) }"
    )
    with pytest.raises(SmithError, match=r"'y' \(Col2Im\).*blocks are computed"):
        gradients(Artifact.from_proto(model_of(text)), "y", ["x"])
