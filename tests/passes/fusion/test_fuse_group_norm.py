# ruff: noqa: E501 - a graph is easier read in one line
"""Group normalization in its primitives becomes one operator, with equal numbers."""

from collections.abc import Callable

import numpy as np
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.observers import census
from onnxsmith.passes.pipeline import PassPipeline
from onnxsmith.runtime.probe import probe_inputs
from onnxsmith.runtime.session import Session

RNG = np.random.default_rng(23)
WEIGHTS = {
    "one": np.ones(2, np.float32),
    "zero": np.zeros(2, np.float32),
    "odd": np.array([1, 2], np.float32),
    "scale": RNG.uniform(0.5, 2, (6, 1, 1)).astype(np.float32),
    "bias": RNG.standard_normal((1, 6, 1, 1)).astype(np.float32),
    "row": RNG.standard_normal(4).astype(np.float32),
    "groups": np.array([0, 2, -1]),
    "rows": np.array([0, 2, 3, -1]),
}


def graph(norm: str, end: str, back: str = "sh", more: str = "") -> str:
    return (
        f"g (float[N,6,4,4] x{more}) => (float[N,6,4,4] y) "
        f"{{ r = Reshape(x, groups) {norm} sh = Shape(x) o = Reshape(n, {back}) {end} }}"
    )


NORM = "n = InstanceNormalization<epsilon = 0.01>(r, one, zero)"
FUSED = [
    (graph(NORM, "m = Mul(o, scale) y = Add(m, bias)"), {"GroupNormalization": 1}),
    (graph(NORM, "m = Mul(scale, o) y = Relu(m)"), {"GroupNormalization": 1, "Relu": 1}),
    (graph(NORM, "y = Add(bias, o)"), {"GroupNormalization": 1}),
    (graph(NORM, "m = Add(o, row) y = Mul(m, scale)"), {"GroupNormalization": 1, "Add": 1, "Mul": 1}),
]  # fmt: skip
KEPT = [
    # Scales within the groups; a norm, or a reshaped value, that is read; a shape from elsewhere.
    graph(NORM.replace("one", "odd"), "y = Relu(o)"),
    graph(NORM.replace("zero", "odd"), "y = Relu(o)"),
    graph(NORM, "e = Neg(n) s2 = ReduceSum<keepdims = 0>(e) y = Add(o, s2)"),
    graph(NORM, "y = Relu(o)", "t", ", int64[4] t"),
    # Not groups of channels.
    graph(NORM, "y = Relu(o)").replace("Reshape(x, groups)", "Reshape(t, groups)").replace("{ r", "{ t = Transpose<perm = [0, 2, 1, 3]>(x) r"),
]  # fmt: skip


def run(artifact: Artifact) -> Artifact:
    model = artifact.model.clone()
    for pass_ in PassPipeline.parse("infer-shapes,fuse-group-norm,remove-unused-nodes").passes:
        model = pass_.apply(model, PassContext()).model
    return Artifact(model)


@pytest.mark.parametrize(("text", "after"), FUSED)
def test_it_is_one_operator_with_equal_numbers(
    text: str, after: dict[str, int], load_text: Callable[..., Artifact]
) -> None:
    artifact = load_text(text, WEIGHTS, opset=21)
    found = run(artifact)
    assert census(found.model) == after
    feeds = probe_inputs(artifact.model, artifact.spec, {"N": 2}, seed=1, default=3)
    with Session(artifact, optimize=False) as session:
        expected = session.run(feeds)["y"]
    with Session(found, optimize=False) as session:
        np.testing.assert_allclose(session.run(feeds)["y"], expected, rtol=2e-5, atol=5e-6)


@pytest.mark.parametrize("text", KEPT)
def test_what_is_no_group_norm_stays(text: str, load_text: Callable[..., Artifact]) -> None:
    found = census(run(load_text(text, WEIGHTS, opset=21)).model)
    assert found["InstanceNormalization"] == 1
    assert "GroupNormalization" not in found


def test_below_opset_21_scales_are_those_of_groups(load_text: Callable[..., Artifact]) -> None:
    artifact = load_text(FUSED[0][0], WEIGHTS, opset=20)
    assert census(run(artifact).model) == census(artifact.model)
