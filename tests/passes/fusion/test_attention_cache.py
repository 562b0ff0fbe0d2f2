# ruff: noqa: E501 - a graph is easier read in one line
"""Keys and values of earlier steps are the operator's past, and all of them its present."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.observers import census
from onnxsmith.passes.pipeline import PassPipeline
from onnxsmith.runtime.probe import probe_inputs
from onnxsmith.runtime.session import Session

RNG = np.random.default_rng(29)
WEIGHTS: dict[str, np.ndarray[Any, Any]] = {
    **{f"w{p}": RNG.standard_normal((8, 8)).astype(np.float32) for p in "qkv"},
    "heads": np.array([0, 0, 2, 4]),
    "flat": np.array([0, 0, 8]),
    "s": np.array(0.5, np.float32),
}
TURN = "Transpose<perm = [0, 2, 1, 3]>"
OWN = "com.microsoft.MultiHeadAttention"


def graph(presents: bool = True, end: str = "", more: str = "") -> str:
    given = "float[N,3,8] x, float[N,2,5,4] k0, float[N,2,5,4] v0, float[N,1,3,8] m"
    result = "float[N,3,8] y" + (", float[N,2,8,4] kc, float[N,2,8,4] vc" if presents else "")
    return (
        f"g ({given}) => ({result}{more}) {{ qm = MatMul(x, wq) qr = Reshape(qm, heads) q = {TURN}(qr) "
        f"km = MatMul(x, wk) kr = Reshape(km, heads) k = {TURN}(kr) vm = MatMul(x, wv) vr = Reshape(vm, heads) v = {TURN}(vr) "
        f"kc = Concat<axis = -2>(k0, k) vc = Concat<axis = 2>(v0, v) qs = Mul(q, s) t = Transpose<perm = [0, 1, 3, 2]>(kc) "
        f"a = MatMul(qs, t) b = Add(a, m) p = Softmax(b) o = MatMul(p, vc) ot = {TURN}(o) y = Reshape(ot, flat) {end} }}"
    )


def run(artifact: Artifact, passes: str = "fuse-attention") -> Artifact:
    model = artifact.model.clone()
    for pass_ in PassPipeline.parse(f"infer-shapes,{passes},remove-unused-nodes").passes:
        model = pass_.apply(model, PassContext()).model
    return Artifact(model)


def assert_equal(first: Artifact, second: Artifact) -> None:
    feeds = probe_inputs(first.model, first.spec, {"N": 2}, seed=1, default=3)
    with Session(first, optimize=False) as session:
        expected = session.run(feeds)
    with Session(second, optimize=False) as session:
        found = session.run(feeds)
    assert list(found) == list(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=2e-5, atol=5e-6)


@pytest.mark.parametrize("presents", [True, False])
def test_caches_are_past_and_present(presents: bool, load_text: Callable[..., Artifact]) -> None:
    artifact = load_text(graph(presents), WEIGHTS, opset=20)
    found = run(artifact)
    assert census(found.model) == {OWN: 1, "MatMul": 3}
    (node,) = (node for node in found.model.graph if node.op_type == "MultiHeadAttention")
    assert [value.name for value in node.inputs[6:] if value is not None] == ["k0", "v0"]
    assert_equal(artifact, found)


def test_caches_that_are_read_stay_concats(load_text: Callable[..., Artifact]) -> None:
    artifact = load_text(graph(end="z = Neg(kc)", more=", float[N,2,8,4] z"), WEIGHTS, opset=20)
    found = run(artifact)
    assert census(found.model)["Concat"] == 2
    assert census(found.model)[OWN] == 1
    assert_equal(artifact, found)


def test_it_can_be_undone(load_text: Callable[..., Artifact]) -> None:
    artifact = load_text(graph(), WEIGHTS, opset=20)
    found = run(artifact, "fuse-attention,infer-shapes,decompose")
    assert OWN not in census(found.model)
    assert_equal(artifact, found)
