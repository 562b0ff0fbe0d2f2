"""Swish and the quick Gelu in their primitives become one operator."""

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

DATA = "float k = {1.702}"
QUICK = {"com.microsoft.QuickGelu": 1}


def graph(body: str, more: str = "") -> str:
    return f"f (float[N,4] x) => (float[N,4] y{more}) <{DATA}> {{ {body} }}"


FUSED = [
    (graph("s = Sigmoid(x) y = Mul(x, s)"), QUICK),
    (graph("a = Mul(k, x) s = Sigmoid(a) y = Mul(s, x)"), QUICK),
]
REFUSED = [
    graph("s = Sigmoid(x) y = Mul(x, s)", ", float[N,4] s"),
    graph("a = Mul(x, b) s = Sigmoid(a) y = Mul(x, s)"),
    graph("a = Neg(x) s = Sigmoid(x) y = Mul(a, s)"),
    "f (double[N,4] x) => (double[N,4] y) { s = Sigmoid(x) y = Mul(x, s) }",
]


def run(artifact: Artifact) -> Artifact:
    model = artifact.model.clone()
    for pass_ in PassPipeline.parse("infer-shapes,fuse-swish,remove-unused-nodes").passes:
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
