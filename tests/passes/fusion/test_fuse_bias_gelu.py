# ruff: noqa: E501 - a graph is easier read in one line
"""A bias goes into the Gelu that follows it."""

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

X = "float[N,3,4] x"
Y = "float[N,3,4] y"
FUSED = [
    (f"f ({X}) => ({Y}) {{ a = Add(x, b) y = Gelu(a) }}", {"com.microsoft.BiasGelu": 1}),
    (
        f'f ({X}) => ({Y}) {{ a = Add(b, x) y = Gelu<approximate = "tanh">(a) }}',
        {"com.microsoft.FastGelu": 1},
    ),
    (
        f"f ({X}, bool k) => ({Y}) {{ y = If(k) <then_branch = t () => (u) {{ a = Add(x, b) u = Gelu(a) }},"
        " else_branch = e () => (w) { w = Neg(x) }> }",
        {"If": 1, "com.microsoft.BiasGelu": 1, "Neg": 1},
    ),
]
REFUSED = [
    f"f ({X}, float[1,3,4] z) => ({Y}) {{ a = Add(x, z) y = Gelu(a) }}",
    f"f ({X}) => ({Y}, float[N,3,4] a) {{ a = Add(x, b) y = Gelu(a) }}",
    f"f ({X}) => ({Y}) {{ a = Add(x, b) h = Gelu(a) y = Add(h, a) }}",
    "f (float[N,3,1] x) => (float[N,3,4] y) { a = Add(x, b) y = Gelu(a) }",
    "f (double[N,4] x, double[4] z) => (double[N,4] y) { a = Add(x, z) y = Gelu(a) }",
]


def run(artifact: Artifact) -> Artifact:
    model = artifact.model.clone()
    for pass_ in PassPipeline.parse("infer-shapes,fuse-bias-gelu,remove-unused-nodes").passes:
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


ERF = "d = Div(a, r) e = Erf(d) s = Add(e, o) m = Mul(a, s) y = Mul(m, h)"
TANH = (
    "p = Pow(a, t) q = Mul(p, k) u = Add(a, q) v = Mul(u, z) w = Tanh(v) s = Add(w, o) "
    "m = Mul(a, h) y = Mul(m, s)"
)
NUMBERS = "float r = {1.41421356}, float o = {1}, float h = {0.5}, float t = {3}, float k = {0.044715}, float z = {0.79788456}"


@pytest.mark.parametrize(
    ("steps", "after"), [(ERF, "com.microsoft.BiasGelu"), (TANH, "com.microsoft.FastGelu")]
)
def test_below_opset_20_the_runtimes_own_will_do(
    steps: str, after: str, load_text: Callable[..., Artifact]
) -> None:
    artifact = load_text(f"f ({X}) => ({Y}) <{NUMBERS}> {{ a = Add(x, b) {steps} }}", WEIGHTS)
    found = artifact.model.clone()
    passes = "infer-shapes,fuse-gelu:runtime=true,fuse-bias-gelu,remove-unused-nodes"
    for pass_ in PassPipeline.parse(passes).passes:
        found = pass_.apply(found, PassContext()).model
    assert census(found) == {after: 1}
    feeds = probe_inputs(artifact.model, artifact.spec, {"N": 3}, seed=1, default=3)
    with Session(artifact, optimize=False) as session:
        expected = session.run(feeds)["y"]
    with Session(Artifact(found), optimize=False) as session:
        np.testing.assert_allclose(session.run(feeds)["y"], expected, rtol=2e-5, atol=2e-6)


def test_below_opset_20_there_is_no_standard_gelu(load_text: Callable[..., Artifact]) -> None:
    double = "f (double[N,4] x) => (double[N,4] y) <double r = {1.41421356}, double o = {1}, double h = {0.5}> { a = Identity(x) STEPS }"
    for passes, text in (
        ("fuse-gelu", f"f ({X}) => ({Y}) <{NUMBERS}> {{ a = Identity(x) {ERF} }}"),
        ("fuse-gelu:runtime=true", double.replace("STEPS", ERF)),
    ):
        artifact = load_text(text, opset=18)
        model = artifact.model.clone()
        for pass_ in PassPipeline.parse(f"infer-shapes,{passes}").passes:
            model = pass_.apply(model, PassContext()).model
        assert census(model) == census(artifact.model)
