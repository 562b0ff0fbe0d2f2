"""Queries that see no key: the exporter's guard makes their results zero, and so do fusions."""

from collections.abc import Callable

import numpy as np
import pytest
from tests.passes.fusion.test_fuse_attention import (
    BIASES,
    GUARD,
    PRODUCTS,
    QKV,
    SCORES,
    SPLIT,
    case,
    masked,
)

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.observers import census
from onnxsmith.passes.pipeline import PassPipeline
from onnxsmith.runtime.session import Session

SEEN = ", bool[N,1,3,3] c"
WHERE = "p = Softmax(b) " + GUARD
TEXTS = {
    "added, hidden where false": case(
        PRODUCTS, f"{SCORES} m = Where(c, zero, inf) b = Add(a, m)", WHERE, more=SEEN
    ),
    "added, hidden where true": case(
        PRODUCTS, f"{SCORES} n2 = Not(c) m = Where(n2, inf, zero) b = Add(a, m)", WHERE, more=SEEN
    ),
    "chosen": case(PRODUCTS, f"{SCORES} b = Where(c, a, inf)", WHERE, more=SEEN),
}
FUSED = [
    ("com.microsoft.Attention", 17, "fuse-attention"),
    ("com.microsoft.Attention", 20, "fuse-attention"),
    ("Attention", 23, "fuse-standard-attention"),
]


def run(artifact: Artifact, passes: str) -> Artifact:
    model = artifact.model.clone()
    for pass_ in PassPipeline.parse(f"infer-shapes,{passes},remove-unused-nodes").passes:
        model = pass_.apply(model, PassContext()).model
    return Artifact(model)


@pytest.mark.parametrize(("operator", "opset", "passes"), FUSED)
@pytest.mark.parametrize("name", TEXTS)
def test_their_results_stay_zero(
    name: str, operator: str, opset: int, passes: str, load_text: Callable[..., Artifact]
) -> None:
    artifact = load_text(TEXTS[name], {**QKV, **BIASES, **SPLIT}, opset=opset)
    found = run(artifact, passes)
    assert census(found.model)[operator] == 1
    assert "Softmax" not in census(found.model)
    rng = np.random.default_rng(0)
    seen = rng.random((2, 1, 3, 3)) < 0.6
    seen[0, 0, 1] = False
    seen[1, 0, 2] = True
    feeds = {"x": rng.standard_normal((2, 3, 8)).astype(np.float32), "c": seen}
    with Session(artifact, optimize=False) as session:
        expected = session.run(feeds)["y"]
    assert not expected[0, 1].any()
    with Session(found, optimize=False) as session:
        np.testing.assert_allclose(session.run(feeds)["y"], expected, rtol=2e-5, atol=5e-6)


def test_masks_of_each_head_stay(load_text: Callable[..., Artifact]) -> None:
    scores = f"{SCORES} m = Where(c, zero, inf) b = Add(a, m)"
    text = case(PRODUCTS, scores, WHERE, more=", bool[N,2,3,3] c")
    artifact = load_text(text, {**QKV, **BIASES, **SPLIT}, opset=20)
    assert census(run(artifact, "fuse-attention").model)["Softmax"] == 1


def test_finite_masks_need_no_zeros(load_text: Callable[..., Artifact]) -> None:
    text = case(PRODUCTS, f"{SCORES} {masked('low')}", WHERE, more=", float[N,1,3,3] z")
    artifact = load_text(text, {**QKV, **BIASES, **SPLIT}, opset=20)
    found = census(run(artifact, "fuse-attention").model)
    assert found == {"Greater": 1, "Where": 1, "com.microsoft.Attention": 1}
