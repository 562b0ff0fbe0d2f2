"""Clipped sums against the gradients of one example after the other."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.autodiff.gradients import gradients
from onnxsmith.passes.autodiff.per_example.clipped import clipped_gradients
from onnxsmith.passes.autodiff.prepare import prepare
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.cleanup.remove_unused_nodes import RemoveUnusedNodes
from onnxsmith.runtime.session import Session

Array = np.ndarray[Any, Any]
BATCH = 5


def random(*shape: int, seed: int = 0) -> Array:
    generator = np.random.default_rng([seed, *shape])
    return generator.standard_normal(shape).astype(np.float32)


# Each: the graph from x (and other inputs) to y, the parameters, the inputs of one example.
CASES: dict[str, tuple[str, dict[str, Array], dict[str, Array]]] = {
    "dense": (
        "float[N,4] x | h = Gemm(x, w, b) r = Relu(h) m = MatMul(r, v) y = Add(m, c)",
        {"w": random(4, 6), "b": random(6), "v": random(6, 3), "c": random(3)},
        {"x": random(BATCH, 4)},
    ),
    "gemm with factors": (
        "float[N,4] x | y = Gemm<alpha=0.5, beta=2.0, transB=1>(x, w, b)",
        {"w": random(3, 4), "b": random(3)},
        {"x": random(BATCH, 4)},
    ),
    "sequences, long": (
        "float[N,9,2] x | m = MatMul(x, w) y = Add(m, b)",
        {"w": random(2, 3), "b": random(3)},
        {"x": random(BATCH, 9, 2)},
    ),
    "sequences, short": (
        "float[N,2,7] x | m = MatMul(x, w) y = Tanh(m)",
        {"w": random(7, 8)},
        {"x": random(BATCH, 2, 7)},
    ),
    "convolutions": (
        """float[N,3,6,7] x |
           c = Conv<pads=[1,1,1,1], strides=[2,1]>(x, w, b)
           r = Relu(c)
           y = Conv<dilations=[1,2]>(r, v)""",
        {"w": random(4, 3, 3, 3), "b": random(4), "v": random(2, 4, 2, 2)},
        {"x": random(BATCH, 3, 6, 7)},
    ),
    "grouped convolutions": (
        "float[N,4,8] x | c = Conv<group=2>(x, w) y = Conv<group=6>(c, v, b)",
        {"w": random(6, 2, 3), "v": random(6, 1, 2), "b": random(6)},
        {"x": random(BATCH, 4, 8)},
    ),
    "embedding": (
        "int64[N,6] x | e = Gather(t, x) p = Add(e, q) m = MatMul(p, w) y = Tanh(m)",
        {"t": random(4, 5), "q": random(6, 5), "w": random(5, 2)},
        {"x": np.random.default_rng(1).integers(0, 4, (BATCH, 6))},
    ),
    "layer normalization": (
        """float[N,4,6] x |
           m = MatMul(x, w)
           n = LayerNormalization<axis=-1, epsilon=1e-3>(m, g, b)
           y = Sigmoid(n)""",
        {"w": random(6, 6), "g": random(6), "b": random(6, seed=1)},
        {"x": random(BATCH, 4, 6)},
    ),
    "group normalization": (
        "float[N,4,5] x | n = GroupNormalization<num_groups=2>(x, g, b) y = Tanh(n)",
        {"g": random(4), "b": random(4, seed=1)},
        {"x": random(BATCH, 4, 5)},
    ),
    "parameters that are moved": (
        """float[N,4] x |
           t = Transpose<perm=[1,0]>(w)
           h = MatMul(x, t)
           f = Unsqueeze(s, zero)
           k = Mul(h, f)
           y = Sub(b, k)""",
        {"w": random(3, 4), "s": random(3), "b": random(1, 3)},
        {"x": random(BATCH, 4)},
    ),
}
CONSTANTS = {"zero": np.array([0])}


def build(load_text: Callable[..., Artifact], text: str, weights: dict[str, Array]) -> Artifact:
    """Return a model whose ``loss`` is the mean over examples of ``sum y^2``."""
    head, _, body = text.partition("|")
    graph = f"""g ({head}) => (float loss) {{
        {body}
        sq = Mul(y, y)
        flat = Flatten<axis=1>(sq)
        each = ReduceSum<keepdims=0>(flat, one)
        loss = ReduceMean<keepdims=0>(each)
    }}"""
    used = {name: array for name, array in CONSTANTS.items() if name in body}
    return load_text(graph, {**weights, **used, "one": np.array([1])}, opset=21)


def clipped(
    artifact: Artifact, weights: dict[str, Array], inputs: dict[str, Array], limit: float
) -> dict[str, Array]:
    """Run the clipped sums of all parameters."""
    model = prepare(artifact.model.clone(), weights)
    by_name = {v.name: v for v in model.graph.inputs}
    wrt = [by_name[name] for name in weights]
    loss = model.graph.outputs[0]
    found = clipped_gradients(model, loss, wrt, by_name["x"], limit)
    for name, value in zip(weights, found, strict=True):
        assert value is not None
        node = ir.node("Identity", [value])
        model.graph.append(node)
        node.outputs[0].name, node.outputs[0].type = f"{name}_sum", value.type
        model.graph.outputs.append(node.outputs[0])
    RemoveUnusedNodes().apply(model, PassContext())
    with Session(Artifact(model), optimize=False) as session:
        results = session.run({**inputs, **weights})
    return {name: results[f"{name}_sum"] for name in weights}


def one_by_one(
    artifact: Artifact, weights: dict[str, Array], inputs: dict[str, Array]
) -> list[dict[str, Array]]:
    """Return the gradients of each example alone."""
    slopes = gradients(artifact, of="loss", wrt=list(weights))
    with Session(slopes, optimize=False) as session:
        rows = [
            session.run({name: array[i : i + 1] for name, array in inputs.items()})
            for i in range(BATCH)
        ]
    return [{name: row[f"{name}_gradient"] for name in weights} for row in rows]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("share", [1.0, 1e6])
def test_each_example_is_cut_to_the_limit(
    load_text: Callable[..., Artifact], name: str, share: float
) -> None:
    text, weights, inputs = CASES[name]
    artifact = build(load_text, text, weights)
    rows = one_by_one(artifact, weights, inputs)
    lengths = [float(np.sqrt(sum(float((g**2).sum()) for g in row.values()))) for row in rows]
    # About half of the examples are cut with the median, none with the other limit.
    limit = float(np.median(lengths)) * share
    found = clipped(artifact, weights, inputs, limit)
    for key in weights:
        expected = sum(
            row[key].astype(np.float64) * min(1, limit / length)
            for row, length in zip(rows, lengths, strict=True)
        )
        np.testing.assert_allclose(
            found[key], expected, rtol=2e-4, atol=2e-5 * np.abs(expected).max()
        )


def test_a_gradient_of_zero_is_no_division_by_zero(load_text: Callable[..., Artifact]) -> None:
    text, weights, inputs = CASES["dense"]
    still = {**weights, "v": np.zeros_like(weights["v"]), "c": np.zeros_like(weights["c"])}
    found = clipped(build(load_text, text, still), still, inputs, 1.0)
    assert all((array == 0).all() for array in found.values())


@pytest.mark.parametrize(
    ("text", "weights", "reason"),
    [
        (
            "float[N,4] x | h = MatMul(x, w) y = MatMul(h, w)",
            {"w": random(4, 4)},
            "the parameter 'w' is used at 2 places",
        ),
        (
            "float[N,4] x | t = Transpose<perm=[1,0]>(x) y = MatMul(w, t)",
            {"w": random(3, 4)},
            "first axis of its result is not that of the examples",
        ),
        (
            "float[N,4] x | y = Div(x, w)",
            {"w": random(4)},
            "the gradients of single examples are not known",
        ),
        (
            "float[N,3,4] x | y = BatchNormalization<training_mode=0>(x, w, w2, w2, w2)",
            {"w": random(3), "w2": random(3)},
            "used at 3 places",
        ),
    ],
)
def test_what_is_refused(
    load_text: Callable[..., Artifact], text: str, weights: dict[str, Array], reason: str
) -> None:
    artifact = build(load_text, text, weights)
    with pytest.raises(SmithError, match=reason):
        clipped(artifact, weights, {}, 1.0)
