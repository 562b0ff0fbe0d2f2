# ruff: noqa: E501 - a graph is easier read in one line
"""Weights of bodies move out where the body sees what is outside."""

from collections.abc import Callable

import numpy as np

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.cleanup.lift_subgraph_initializers import LiftSubgraphInitializers
from onnxsmith.runtime.session import Session

BRANCHES = """g (bool c, float[2] x) => (float[2] y) <float[2] k = {5, 6}> {
    s = Mul(x, k)
    y = If(c) <then_branch = t () => (float[2] p) <float[2] w = {1, 2}> { k_1 = Neg(s) p = Add(k_1, w) },
               else_branch = e () => (float[2] q) <float[2] w = {3, 4}> { q = Sub(s, w) }> }"""


def test_equal_names_stay_apart(load_text: Callable[..., Artifact]) -> None:
    artifact = load_text(BRANCHES)
    model = artifact.model.clone()
    assert LiftSubgraphInitializers().apply(model, PassContext()).modified
    assert sorted(model.graph.initializers) == ["k", "w", "w_1"]
    for condition in (True, False):
        feeds = {"c": np.array(condition), "x": np.array([1, 2], np.float32)}
        with Session(artifact, optimize=False) as session:
            expected = session.run(feeds)["y"]
        with Session(Artifact(model), optimize=False) as session:
            np.testing.assert_array_equal(session.run(feeds)["y"], expected)


def test_a_body_of_another_operator_keeps_its_weights(load_text: Callable[..., Artifact]) -> None:
    text = """g (float[2] x) => (float[2] y) {
        y = own.Search <decoder = d () => (float[2] p) <float[2] w = {1, 2}> { p = Neg(w) }>(x) }"""
    header = '<ir_version: 10, opset_import: ["": 18, "own": 1]>'
    model = load_text(text, header=header).model
    assert not LiftSubgraphInitializers().apply(model, PassContext()).modified
    assert not model.graph.initializers


def test_a_weight_that_a_branch_returns_stays(load_text: Callable[..., Artifact]) -> None:
    text = """g (bool c, float[2] x) => (float[2] y) {
        y = If(c) <then_branch = t () => (float[2] p) <float[2] p = {1, 2}> { },
                   else_branch = e () => (float[2] q) { q = Exp(x) }> }"""
    model = load_text(text).model
    assert not LiftSubgraphInitializers().apply(model, PassContext()).modified
