# ruff: noqa: E501 - a graph is easier read in one line
"""Reshapes and transposes around products with weights meet and cancel."""

from collections.abc import Callable

import numpy as np
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.observers import census
from onnxsmith.passes.pipeline import PassPipeline
from onnxsmith.runtime.probe import probe_inputs
from onnxsmith.runtime.session import Session

RNG = np.random.default_rng(7)
WEIGHTS = {
    "w": RNG.standard_normal((4, 6)).astype(np.float32),
    "u": RNG.standard_normal((4, 6)).astype(np.float32),  # turned: 6 by 4
    "q": RNG.standard_normal((4, 4)).astype(np.float32),
    "b": RNG.standard_normal(6).astype(np.float32),
    "c": RNG.standard_normal(4).astype(np.float32),
}
SHAPES = "int64[2] flat = {-1, 4}, int64[3] rows = {-1, 3, 6}, int64[3] same = {-1, 3, 4}"


def case(body: str, result: str = "float[N,3,6] y", given: str = "float[N,3,4] x") -> str:
    return f"g ({given}) => ({result}) <{SHAPES}> {{ {body} }}"


RAISED = [
    (case("f = Reshape(x, flat) p = Gemm(f, w, b) y = Reshape(p, rows)"), {"MatMul": 1, "Add": 1}),
    (case("f = Reshape(x, flat) p = MatMul(f, w) y = Reshape(p, rows)"), {"MatMul": 1}),
    (
        case(
            "f = Reshape(x, flat) p = Gemm(f, w, b) h = Gelu(p) o = Gemm<transB = 1>(h, u, c) y = Reshape(o, same)",
            "float[N,3,4] y",
        ),
        {"MatMul": 2, "Add": 2, "Gelu": 1},
    ),
    # Another shape behind it than in front of it: one reshape is left, in front.
    (
        case(
            "f = Reshape(x, flat) p = Gemm(f, w, b) y = Reshape(p, rows)",
            given="float[N,3,2,2] x",
        ),
        {"Reshape": 1, "MatMul": 1, "Add": 1},
    ),
    (
        case(
            "t = Transpose<perm = [1, 0, 2]>(x) p = MatMul(t, w) s = Add(p, b) y = Transpose<perm = [1, 0, 2]>(s)"
        ),
        {"MatMul": 1, "Add": 1},
    ),
]
KEPT = [
    # Something else reads the product.
    case(
        "f = Reshape(x, flat) p = Gemm(f, w, b) y = Reshape(p, rows)",
        "float[N,3,6] y, float[M,6] p",
    ),
    # Factors, a turned left operand, weights or a bias that are inputs.
    case("f = Reshape(x, flat) p = Gemm<alpha = 2.0>(f, w, b) y = Reshape(p, rows)"),
    case("f = Reshape(x, flat) p = Gemm<beta = 0.5>(f, w, b) y = Reshape(p, rows)"),
    case("f = Reshape(x, flat) p = Gemm<transA = 1>(f, q) y = Reshape(p, same)", "float[1,3,4] y", "float[1,4,3] x").replace("{-1, 4}", "{4, 3}", 1).replace("q)", "r)"),
    case("f = Reshape(x, flat) p = MatMul(f, v) y = Reshape(p, rows)", given="float[N,3,4] x, float[4,6] v"),
    # Rows of sums, which are not alike in every row.
    case("f = Reshape(x, flat) p = MatMul(f, w) s = Add(p, m) y = Reshape(s, rows)", "float[1,3,6] y", "float[1,3,4] x"),
    # No view at the start, and no product on the way.
    case("p = Gemm(x, w, b) y = Reshape(p, rows)", given="float[M,4] x"),
    case("f = Reshape(x, flat) p = Relu(f) y = Reshape(p, same)", "float[N,3,4] y", "float[N,3,2,2] x"),
    # The last dimension is split or moved.
    case("f = Reshape(x, flat) p = Gemm(f, w, b) y = Reshape(p, split)", "float[N,3,2,3] y"),
    case("t = Transpose<perm = [1, 0, 2]>(x) p = MatMul(t, w) y = Transpose<perm = [0, 2, 1]>(p)", "float[3,6,N] y"),
]  # fmt: skip
MORE = {
    "m": RNG.standard_normal((3, 6)).astype(np.float32),
    "r": RNG.standard_normal((4, 4)).astype(np.float32),
    "split": np.array([-1, 3, 2, 3]),
}


def run(artifact: Artifact) -> Artifact:
    passes = "infer-shapes,raise-views,merge-views,remove-no-op-shapes,remove-unused-nodes"
    model = artifact.model.clone()
    for pass_ in PassPipeline.parse(passes).passes:
        model = pass_.apply(model, PassContext()).model
    return Artifact(model)


@pytest.mark.parametrize(("text", "after"), RAISED)
def test_views_meet_and_cancel(
    text: str, after: dict[str, int], load_text: Callable[..., Artifact]
) -> None:
    artifact = load_text(text, WEIGHTS, opset=20)
    found = run(artifact)
    assert census(found.model) == after
    feeds = probe_inputs(artifact.model, artifact.spec, {"N": 2}, seed=1, default=3)
    with Session(artifact, optimize=False) as session:
        expected = session.run(feeds)["y"]
    with Session(found, optimize=False) as session:
        np.testing.assert_allclose(session.run(feeds)["y"], expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("text", KEPT)
def test_what_is_not_alike_in_every_row_stays(
    text: str, load_text: Callable[..., Artifact]
) -> None:
    artifact = load_text(text, WEIGHTS | MORE, opset=20)
    model = artifact.model.clone()
    for pass_ in PassPipeline.parse("infer-shapes,raise-views").passes:
        model = pass_.apply(model, PassContext()).model
    assert census(model) == census(artifact.model)
