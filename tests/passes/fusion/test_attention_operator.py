# ruff: noqa: E501 - a graph is easier read in one line
"""The standard Attention takes its operands side by side, or becomes the runtime's own."""

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

RNG = np.random.default_rng(17)
WEIGHTS: dict[str, np.ndarray[Any, Any]] = {
    name: RNG.standard_normal((8, 8)).astype(np.float32) for name in ("wq", "wk", "wv")
} | {
    "wf": RNG.standard_normal((8, 4)).astype(np.float32),
    "four": np.array([0, 0, 4, 2]),
    "two": np.array([0, 0, 2, 2]),
    "flat": np.array([0, 0, 8]),
}
TURN = "Transpose<perm = [0, 2, 1, 3]>"


def graph(attention: str, more: str = "", few: bool = False) -> str:
    keys, heads = ("wf", "two") if few else ("wk", "four")
    values = "wf" if few else "wv"
    return (
        f"g (float[N,3,8] x{more}) => (float[N,3,8] y) {{ qm = MatMul(x, wq) qr = Reshape(qm, four) q = {TURN}(qr) "
        f"km = MatMul(x, {keys}) kr = Reshape(km, {heads}) k = {TURN}(kr) vm = MatMul(x, {values}) vr = Reshape(vm, {heads}) v = {TURN}(vr) "
        f"o = {attention} ot = {TURN}(o) y = Reshape(ot, flat) }}"
    )


MASK = ", float[N,1,3,3] m"
SEEN = ", bool[N,1,3,3] m"
OWN = "com.microsoft.Attention"
CASES = {
    "plain": (graph("Attention(q, k, v)"), {OWN: 1}),
    "scaled": (graph("Attention<scale = 0.3>(q, k, v, m)", MASK), {OWN: 1}),
    "causal": (graph("Attention<is_causal = 1>(q, k, v)"), {OWN: 1}),
    "truth": (graph("Attention(q, k, v, m)", SEEN), {OWN: 1, "Where": 2, "Cast": 2, "ReduceMax": 1, "Squeeze": 1}),
    "grouped": (
        graph("Attention(q, k, v)", few=True),
        {"com.microsoft.MultiHeadAttention": 1, "MatMul": 3, "Gather": 2, "Reshape": 2, "Transpose": 2},
    ),
}  # fmt: skip
EACH_HEAD = graph("Attention(q, k, v, m)", ", bool[N,4,3,3] m")
KEPT = [
    graph("Attention<softcap = 2.0>(q, k, v)"),
    graph("Attention(q, k, v, , pk, pv)", ", float[N,4,2,2] pk, float[N,4,2,2] pv").replace(
        "o = ", "o, ko, vo = "
    ),
    graph("Attention(q, k, v)").replace("o = ", "o, ko = ").replace("y)", "y, float[N,4,3,2] ko)", 1),
]  # fmt: skip


def run(artifact: Artifact, passes: str) -> Artifact:
    model = artifact.model.clone()
    for pass_ in PassPipeline.parse(f"infer-shapes,{passes},remove-unused-nodes").passes:
        model = pass_.apply(model, PassContext()).model
    return Artifact(model)


def assert_equal(first: Artifact, second: Artifact) -> None:
    feeds = probe_inputs(first.model, first.spec, {"N": 2}, seed=1, default=3)
    with Session(first, optimize=False) as session:
        expected = session.run(feeds)["y"]
    with Session(second, optimize=False) as session:
        np.testing.assert_allclose(session.run(feeds)["y"], expected, rtol=2e-5, atol=5e-6)


@pytest.mark.parametrize("name", CASES)
def test_it_becomes_the_runtimes_own(name: str, load_text: Callable[..., Artifact]) -> None:
    text, after = CASES[name]
    artifact = load_text(text, WEIGHTS, opset=23)
    found = run(artifact, "fuse-attention")
    assert census(found.model) == after
    assert_equal(artifact, found)


@pytest.mark.parametrize("name", CASES)
def test_it_takes_its_operands_side_by_side(name: str, load_text: Callable[..., Artifact]) -> None:
    artifact = load_text(CASES[name][0], WEIGHTS, opset=23)
    found = run(artifact, "fuse-standard-attention")
    assert census(found.model) == {"MatMul": 3, "Attention": 1}
    assert_equal(artifact, found)
    assert census(run(found, "fuse-standard-attention").model) == census(found.model)


@pytest.mark.parametrize("text", KEPT)
@pytest.mark.parametrize("passes", ["fuse-attention", "fuse-standard-attention"])
def test_a_past_bounds_and_other_results_stay(
    text: str, passes: str, load_text: Callable[..., Artifact]
) -> None:
    artifact = load_text(text, WEIGHTS, opset=23)
    assert census(run(artifact, passes).model) == census(artifact.model)


def test_truth_values_of_each_head_stay(load_text: Callable[..., Artifact]) -> None:
    artifact = load_text(EACH_HEAD, WEIGHTS, opset=23)
    assert census(run(artifact, "fuse-attention").model) == census(artifact.model)


@pytest.mark.parametrize("shape", [(3, 3), (1, 3, 3), (2, 1, 3, 3)])
def test_truth_values_of_lower_rank_count_for_all(
    shape: tuple[int, ...], load_text: Callable[..., Artifact]
) -> None:
    seen = np.ones(shape, np.bool_)
    seen[..., 1, :] = False  # a query that sees no key
    dims = ",".join(map(str, shape))
    text = graph("Attention(q, k, v, m)", f", bool[{dims}] m").replace("N", "2")
    artifact = load_text(text, WEIGHTS, opset=23)
    found = run(artifact, "fuse-attention")
    assert census(found.model)[OWN] == 1
    feeds = probe_inputs(artifact.model, artifact.spec, {}, seed=3) | {"m": seen}
    with Session(artifact, optimize=False) as session:
        expected = session.run(feeds)["y"]
    assert not expected[:, 1].any()
    with Session(found, optimize=False) as session:
        np.testing.assert_allclose(session.run(feeds)["y"], expected, rtol=2e-5, atol=5e-6)


def test_keys_and_values_of_other_sizes_with_heads_stay(load_text: Callable[..., Artifact]) -> None:
    text = """g (float[2,3,4,8] q, float[2,3,6,8] k, float[2,3,6,SIZE] v) => (float[2,3,4,SIZE] y) {
        y = Attention(q, k, v) }"""
    for size, kept in (("10", True), ("8", False)):
        artifact = load_text(text.replace("SIZE", size), opset=23)
        found = run(artifact, "fuse-attention")
        assert ("Attention" in census(found.model)) is kept
        assert_equal(artifact, found)
