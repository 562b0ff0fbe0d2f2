# ruff: noqa: E501 - a graph is easier read in one line
"""Sums before a normalization are written so that the runtime leaves them alone."""

from collections.abc import Callable

import numpy as np
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.cleanup.infer_shapes import InferShapes
from onnxsmith.passes.fusion.keep_sums import KeepSums
from onnxsmith.passes.observers import census
from onnxsmith.runtime.census import runtime_census
from onnxsmith.runtime.session import Session
from onnxsmith.target import TARGETS

Load = Callable[..., Artifact]
RNG = np.random.default_rng(4)
WEIGHTS = {name: RNG.uniform(0.5, 2, 4).astype(np.float32) for name in ("g", "b")}
TWO = "f (float[N,3,4] x, float[N,3,4] s) => (float[N,3,4] y) { a = Add(x, s) y = LayerNormalization(a, g, b) }"


def test_the_runtime_fuses_an_add_but_not_a_sum(load_text: Load) -> None:
    artifact = load_text(TWO, WEIGHTS, opset=20)
    assert "com.microsoft.SkipLayerNormalization" in runtime_census(artifact, TARGETS["cpu"])
    model = artifact.model.clone()
    InferShapes().apply(model, PassContext())
    result = KeepSums().apply(model, PassContext())
    assert result.details == {"kept": 1}
    kept = Artifact(model)
    assert census(model) == {"Sum": 1, "LayerNormalization": 1}
    assert runtime_census(kept, TARGETS["cpu"]) == {"Sum": 1, "LayerNormalization": 1}
    feeds = {name: RNG.standard_normal((2, 3, 4)).astype(np.float32) for name in "xs"}
    with Session(artifact, optimize=False) as one, Session(kept, optimize=False) as other:
        np.testing.assert_array_equal(one.run(feeds)["y"], other.run(feeds)["y"])
    assert not KeepSums().apply(model, PassContext()).modified


@pytest.mark.parametrize(
    "text",
    [
        "f (float[N,3,4] x, float[4] s) => (float[N,3,4] y) { a = Add(x, s) y = LayerNormalization(a, g, b) }",
        "f (float[N,3,4] x, float[N,3,4] s) => (float[N,3,4] y) { a = Mul(x, s) y = LayerNormalization(a, g, b) }",
        "f (float[N,3,4] x, float[N,3,4] s) => (float[N,3,4] y) { a = Add(x, s) y = Softmax(a) }",
    ],
)
def test_other_sums_stay(text: str, load_text: Load) -> None:
    model = load_text(text, WEIGHTS, opset=20).model
    InferShapes().apply(model, PassContext())
    assert not KeepSums().apply(model, PassContext()).modified


def test_an_old_model_is_left_alone(load_text: Load) -> None:
    model = load_text("f (float[2] x) => (float[2] y) { y = Add(x, x) }", {}, opset=7).model
    assert "opset 8" in str(KeepSums().apply(model, PassContext()).details["refused"])
