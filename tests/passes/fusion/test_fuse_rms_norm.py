"""Root mean square normalization in its primitives becomes one operator."""

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

DATA = (
    "float two = {2}, float e = {0.01}, float one = {1}, int64[1] last = {-1}, int64[1] mid = {1}"
)
SLN = {"SimplifiedLayerNormalization": 1}


def norm(square: str, end: str, axis: str = "last", more: str = "") -> str:
    return (
        f"f (float[N,3,4] x) => (float[N,3,4] y{more}) <{DATA}> "
        f"{{ {square} m = ReduceMean(q, {axis}) n = Add(m, e) r = Sqrt(n) {end} }}"
    )


FUSED = [
    (norm("q = Pow(x, two)", "i = Reciprocal(r) y = Mul(x, i)"), SLN),
    (norm("q = Mul(x, x)", "d = Div(x, r) y = Mul(g, d)"), SLN),
    (norm("q = Pow(x, two)", "i = Div(one, r) d = Mul(i, x) y = Mul(d, g)"), SLN),
    (norm("q = Pow(x, two)", "i = Reciprocal(r) d = Mul(x, i) y = Tanh(d)"), {**SLN, "Tanh": 1}),
]
REFUSED = [
    norm("q = Pow(x, two)", "y = Div(x, r)", "mid"),
    norm("q = Pow(x, e)", "y = Div(x, r)"),
    norm("q = Mul(x, g)", "y = Div(x, r)"),
    norm("q = Pow(x, two)", "y = Div(q, r)"),
    norm("q = Pow(x, two)", "y = Div(x, r)", more=", float[N,3,1] r"),
    norm("q = Pow(x, two)", "i = Div(two, r) y = Mul(x, i)"),
]


def run(artifact: Artifact) -> Artifact:
    model = artifact.model.clone()
    for pass_ in PassPipeline.parse("infer-shapes,fuse-rms-norm,remove-unused-nodes").passes:
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
