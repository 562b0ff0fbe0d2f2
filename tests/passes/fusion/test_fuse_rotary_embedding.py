# ruff: noqa: E501 - a graph is easier read in one line
"""Rotary position embedding in its primitives becomes one operator, with equal numbers."""

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

RNG = np.random.default_rng(13)
HALF = RNG.standard_normal((1, 1, 3, 2)).astype(np.float32)
PAIR = RNG.standard_normal((2, 1, 3, 2)).astype(np.float32)
LONG = RNG.standard_normal((9, 2)).astype(np.float32)
WEIGHTS: dict[str, np.ndarray[Any, Any]] = {
    "cos": np.concatenate([np.cos(HALF)] * 2, axis=-1),
    "sin": np.concatenate([np.sin(HALF)] * 2, axis=-1),
    "lcos": np.concatenate([np.cos(LONG)] * 2, axis=-1),
    "lsin": np.concatenate([np.sin(LONG)] * 2, axis=-1),
    "cos2": np.concatenate([np.cos(PAIR)] * 2, axis=-1),
    "sin2": np.concatenate([np.sin(PAIR)] * 2, axis=-1),
    "odd": RNG.standard_normal((1, 1, 3, 4)).astype(np.float32),
    "heads": np.array([0, 0, 2, 4]),
    "flat": np.array([0, 0, 8]),
    "a": np.array([0]),
    "h": np.array([2]),
    "e": np.array([2**63 - 1]),
    "l": np.array([3]),
    "one": np.array([1]),
    "scale": np.array(1.5, np.float32),
}
OWN = "com.microsoft.RotaryEmbedding"
SLICES = "u = Slice(x, a, h, l) v = Slice(x, h, e, l)"
HEADS = "r = Reshape(f, heads) x = Transpose<perm = [0, 2, 1, 3]>(r)"
END = "t = Transpose<perm = [0, 2, 1, 3]>(o) y = Reshape(t, flat)"


def rotation(cos: str = "cos", sin: str = "sin", halves: str = SLICES) -> str:
    return f"{halves} n = Neg(v) c = Concat<axis = -1>(n, u) p = Mul(x, {cos}) q = Mul(c, {sin}) o = Add(p, q)"


def graph(body: str, given: str = "float[N,3,8] f", result: str = "float[N,3,8] y") -> str:
    return f"g ({given}) => ({result}) {{ {body} }}"


PLAIN = graph(rotation() + " y = Relu(o)", "float[N,2,3,4] x", "float[N,2,3,4] y")
FLAT = graph(f"{HEADS} {rotation()} {END}")
SPLIT = graph(
    f"{HEADS} {rotation(halves='u, v = Split<axis = -1, num_outputs = 2>(x)')} {END}",
)
# Cosines that are computed from angles, as Hugging Face's decoders do, for all items alike.
ANGLES = (
    "d = Concat<axis = -1>(w, w) ca = Cos(d) cs = Mul(ca, scale) cos1 = Unsqueeze(cs, one) "
    "sa = Sin(d) ss = Mul(sa, scale) sin1 = Unsqueeze(ss, one)"
)
COMPUTED = graph(
    f"{ANGLES} {HEADS} {rotation('cos1', 'sin1')} {END}", "float[N,3,8] f, float[1,3,2] w"
)
EACH = graph(f"{ANGLES} {HEADS} {rotation('cos1', 'sin1')} {END}", "float[N,3,8] f, float[N,3,2] w")
GATHERED = graph(
    f"cg = Gather(lcos, z) cos1 = Unsqueeze(cg, one) sg = Gather(lsin, z) sin1 = Unsqueeze(sg, one) {HEADS} {rotation('cos1', 'sin1')} {END}",
    "float[N,3,8] f, int64[N,3] z",
)
FUSED = [
    (20, PLAIN, {OWN: 1, "Relu": 1}),
    (20, FLAT, {OWN: 1}),
    (20, SPLIT, {OWN: 1}),
    (20, COMPUTED, {OWN: 1, "Concat": 1, "Cos": 1, "Sin": 1, "Mul": 2, "Slice": 2, "Reshape": 2}),
    (20, GATHERED, {OWN: 1}),
    (23, PLAIN, {"RotaryEmbedding": 1, "Relu": 1, "Shape": 1, "Concat": 1, "Expand": 1}),
    (23, FLAT.replace("[N,", "[2,"), {"RotaryEmbedding": 1, "Expand": 1}),
    (
        23,
        EACH,
        {"RotaryEmbedding": 1, "Concat": 1, "Cos": 1, "Sin": 1, "Mul": 2, "Slice": 2},
    ),
    (23, GATHERED, {"RotaryEmbedding": 1}),
    (
        23,
        graph(rotation("cos2", "sin2") + " y = Relu(o)", "float[2,2,3,4] x", "float[2,2,3,4] y"),
        {"RotaryEmbedding": 1, "Relu": 1},
    ),
]
REFUSED = [
    # Cosines that differ in the two halves, or that nothing tells are alike.
    (20, graph(f"{HEADS} {rotation(cos='odd')} {END}")),
    (20, graph(f"{HEADS} {rotation(sin='odd')} {END}")),
    (20, graph(f"{HEADS} {rotation(cos='k')} {END}", "float[N,3,8] f, float[1,1,3,4] k")),
    # Each item of the batch has cosines of its own.
    (20, EACH),
    # Halves that are swapped, a Neg in the other place, another operator in between.
    (20, graph(f"{HEADS} {rotation(halves='v = Slice(x, a, h, l) u = Slice(x, h, e, l)')} {END}")),
    (20, graph(f"{HEADS} {rotation().replace('(n, u)', '(u, n)')} {END}")),
    (20, graph(f"{HEADS} {rotation().replace('Mul(x', 'Mul(c')} {END}")),
    (20, graph(f"{HEADS} {rotation().replace('Add', 'Sub')} {END}")),
    # A quarter, not a half.
    (20, graph(f"{HEADS} {rotation(halves='u = Slice(x, a, h, l) v = Slice(x, one, l, l)')} {END}")),
    # Inner values that are read; element types without a kernel; old opsets.
    (20, graph(f"{HEADS} {rotation()} {END}", result="float[N,3,8] y, float[N,2,3,4] c")),
    (20, graph(f"{HEADS} {rotation()} {END}").replace("float", "double")),
    (12, graph(f"{HEADS} {rotation()} {END}")),
]  # fmt: skip


def run(artifact: Artifact) -> Artifact:
    passes = "infer-shapes,fuse-rotary-embedding,merge-views,merge-common-subexpressions,remove-unused-nodes"
    model = artifact.model.clone()
    for pass_ in PassPipeline.parse(passes).passes:
        model = pass_.apply(model, PassContext()).model
    return Artifact(model)


@pytest.mark.parametrize(("opset", "text", "after"), FUSED)
def test_it_is_one_operator_with_equal_numbers(
    opset: int, text: str, after: dict[str, int], load_text: Callable[..., Artifact]
) -> None:
    artifact = load_text(text, WEIGHTS, opset=opset)
    found = run(artifact)
    assert census(found.model) == after
    feeds = probe_inputs(artifact.model, artifact.spec, {"N": 2}, seed=1, default=3)
    with Session(artifact, optimize=False) as session:
        expected = session.run(feeds)["y"]
    with Session(found, optimize=False) as session:
        np.testing.assert_allclose(session.run(feeds)["y"], expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(("opset", "text"), REFUSED)
def test_what_does_not_fit_stays(opset: int, text: str, load_text: Callable[..., Artifact]) -> None:
    weights = WEIGHTS
    if "double" in text:
        weights = {
            k: v.astype(np.float64) if v.dtype.kind == "f" else v for k, v in WEIGHTS.items()
        }
    artifact = load_text(text, weights, opset=opset)
    model = artifact.model.clone()
    for pass_ in PassPipeline.parse("infer-shapes,fuse-rotary-embedding").passes:
        model = pass_.apply(model, PassContext()).model
    assert census(model) == census(artifact.model)


def test_layers_share_their_tables(load_text: Callable[..., Artifact]) -> None:
    second = "u2 = Slice(o, a, h, l) v2 = Slice(o, h, e, l) n2 = Neg(v2) c2 = Concat<axis = -1>(n2, u2) p2 = Mul(o, cos) q2 = Mul(c2, sin) y = Add(p2, q2)"
    text = graph(f"{rotation()} {second}", "float[N,2,3,4] x", "float[N,2,3,4] y")
    found = run(load_text(text, WEIGHTS, opset=20))
    nodes = [node for node in found.model.graph if node.op_type == "RotaryEmbedding"]
    assert len(nodes) == 2
    assert nodes[0].inputs[2:] == nodes[1].inputs[2:]
