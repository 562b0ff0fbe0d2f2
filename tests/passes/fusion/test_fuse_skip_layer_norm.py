# ruff: noqa: E501 - a graph is easier read in one line
"""A sum goes into the normalization that follows it."""

from collections.abc import Callable

import numpy as np
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.observers import census
from onnxsmith.passes.pipeline import PassPipeline
from onnxsmith.runtime.probe import probe_inputs
from onnxsmith.runtime.session import Session

RNG = np.random.default_rng(4)
WEIGHTS = {name: RNG.uniform(0.5, 2, 4).astype(np.float32) for name in ("g", "b", "c")}

X = "float[N,3,4] x, float[N,3,4] s"
Y = "float[N,3,4] y"
SLN = "com.microsoft.SkipLayerNormalization"
NORM = "y = LayerNormalization<axis = -1, epsilon = 0.01>(a, g, b)"
FUSED = [
    (f"f ({X}) => ({Y}) {{ a = Add(x, s) {NORM} }}", {SLN: 1}),
    (f"f ({X}) => ({Y}) {{ a = Add(x, s) y = LayerNormalization<axis = 2>(a, g) }}", {SLN: 1}),
    (f"f ({X}) => ({Y}) {{ d = Add(x, c) a = Add(s, d) {NORM} }}", {SLN: 1}),
    (f"f ({X}) => ({Y}, float[N,3,4] a) {{ a = Add(x, s) {NORM} }}", {SLN: 1}),
    (f"f ({X}) => ({Y}, float[N,3,4] z) {{ a = Add(x, s) z = Neg(a) {NORM} }}", {SLN: 1, "Neg": 1}),
    (
        f"f ({X}) => ({Y}) {{ a = Add(x, s) y = SimplifiedLayerNormalization<axis = -1, epsilon = 0.01>(a, g) }}",
        {"com.microsoft.SkipSimplifiedLayerNormalization": 1},
    ),
]
REFUSED = [
    f"f ({X}) => ({Y}) {{ a = Add(x, c) {NORM} }}",
    f"f ({X}) => ({Y}, float[N,3,1] m) {{ a = Add(x, s) y, m = LayerNormalization(a, g, b) }}",
    f"f ({X}, float[3,4] k) => ({Y}) {{ a = Add(x, s) y = LayerNormalization<axis = 1>(a, k) }}",
    f"f ({X}, float[1,3,4] k) => ({Y}) {{ a = Add(x, k) {NORM} }}",
    f"f (float[N,4] x, float[N,4] s) => (float[N,4] y) {{ a = Add(x, s) {NORM} }}",
]


def run(artifact: Artifact) -> Artifact:
    model = artifact.model.clone()
    for pass_ in PassPipeline.parse("infer-shapes,fuse-skip-layer-norm,remove-unused-nodes").passes:
        model = pass_.apply(model, PassContext()).model
    return Artifact(model)


@pytest.mark.parametrize(("text", "after"), FUSED)
def test_it_is_fused_with_equal_numbers(
    text: str, after: dict[str, int], load_text: Callable[..., Artifact]
) -> None:
    artifact = load_text(text, WEIGHTS, opset=20)
    found = run(artifact)
    assert census(found.model) == after
    feeds = probe_inputs(artifact.model, artifact.spec, {"N": 3}, seed=1, default=3)
    with Session(artifact, optimize=False) as session:
        expected = session.run(feeds)
    with Session(found, optimize=False) as session:
        for key, array in session.run(feeds).items():
            np.testing.assert_allclose(array, expected[key], rtol=2e-5, atol=2e-6)
    assert census(run(found).model) == after


@pytest.mark.parametrize("text", REFUSED)
def test_what_does_not_fit_stays(text: str, load_text: Callable[..., Artifact]) -> None:
    artifact = load_text(text, WEIGHTS, opset=20)
    assert census(run(artifact).model) == census(artifact.model)
