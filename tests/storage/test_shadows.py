# ruff: noqa: E501 - a graph is easier read in one line
"""Inner names that hide outer ones are told apart, so that rewrites may cross bodies."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.pipeline.optimize import OptimizeRequest, optimize
from onnxsmith.runtime.session import Session

Parse = Callable[..., onnx.ModelProto]
X = np.array([1, 2], np.float32)
CASES = {
    "a body's input": """g (float[2] x, int64 n) => (float[2] y) { e = Identity(x)
        y = Loop(n, , e) <body = b (int64 i, bool k, float[2] x) => (bool ko, float[2] so) {
            ko = Identity(k) so = Add(x, e) }> }""",
    "a body's weight": """g (float[2] x, int64 n) => (float[2] y) <float[2] w = {5, 6}> { e = Identity(w) a = Add(x, w)
        y = Loop(n, , a) <body = b (int64 i, bool k, float[2] s) => (bool ko, float[2] so) <float[2] w = {1, 3}> {
            ko = Identity(k) t = Mul(s, w) so = Add(t, e) }> }""",
    "in a body of a body": """g (float[2] x, int64 n) => (float[2] y) { e = Identity(x)
        y = Loop(n, , e) <body = b (int64 i, bool k, float[2] s) => (bool ko, float[2] so) { ko = Identity(k)
            so = Loop(n, , s) <body = d (int64 i, bool k, float[2] x) => (bool lo, float[2] to) {
                lo = Identity(k) to = Add(x, e) }> }> }""",
}  # fmt: skip


def run(artifact: Artifact) -> np.ndarray:
    with Session(artifact, optimize=False) as session:
        return session.run({"x": X, "n": np.array(2)})["y"]


@pytest.mark.parametrize("text", CASES.values(), ids=CASES)
def test_a_rewrite_reads_the_right_one(parse_model: Parse, text: str) -> None:
    artifact = Artifact.from_proto(parse_model(text))
    expected = run(artifact)
    result = optimize(artifact, OptimizeRequest(preset="safe", verify="off"))
    np.testing.assert_array_equal(run(result.artifact), expected)


def test_names_that_hide_nothing_stay(parse_model: Parse) -> None:
    text = """g (bool c, float[2] x) => (float[2] y) {
        y = If(c) <then_branch = a () => (float[2] p) { t = Neg(x) p = Abs(t) },
                   else_branch = b () => (float[2] p) { t = Abs(x) p = Neg(t) }> }"""
    written = Artifact.from_proto(parse_model(text)).to_proto()
    for attribute in written.graph.node[0].attribute:
        assert [node.output[0] for node in attribute.g.node] == ["t", "p"]


def test_bodies_of_other_operators_keep_their_names(parse_model: Parse) -> None:
    """The runtime's searches find the inputs of their decoders by name."""
    text = """g (float[2] x) => (float[2] y) {
        y = com.microsoft.Search(x) <decoder = b (float[2] x) => (float[2] q) { q = Neg(x) }> }"""
    header = '<ir_version: 10, opset_import: ["": 18, "com.microsoft": 1]>'
    model = Artifact.from_proto(parse_model(text, header=header)).model
    assert model.graph[0].attributes["decoder"].as_graph().inputs[0].name == "x"
