# ruff: noqa: E501 - a graph is easier read in one line
"""Attention in its primitives becomes the standard operator, with equal numbers."""

from collections.abc import Callable

import numpy as np
import pytest
from tests.passes.fusion.test_packed_attention import DIMS, FUSED, WEIGHTS

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.observers import census
from onnxsmith.passes.pipeline import PassPipeline
from onnxsmith.runtime.probe import probe_inputs
from onnxsmith.runtime.session import Session
from onnxsmith.target import TARGETS

PLAIN = {
    "three, heads, size": {"Split": 1, "MatMul": 1, "Add": 1},
    "split": {"MatMul": 1, "Add": 1, "Split": 1},
    "cross": {"MatMul": 2, "Split": 1},
    # Keys and values keep their two heads.
    "grouped": {"MatMul": 2, "Tanh": 1},
}


def run(artifact: Artifact, passes: str = "fuse-standard-attention") -> Artifact:
    passes = f"infer-shapes,{passes},merge-common-subexpressions,remove-unused-nodes"
    model = artifact.model.clone()
    for pass_ in PassPipeline.parse(passes).passes:
        model = pass_.apply(model, PassContext()).model
    return Artifact(model)


def only(artifact: Artifact) -> dict[str, object]:
    (node,) = (node for node in artifact.model.graph if node.op_type == "Attention")
    return {name: attribute.value for name, attribute in node.attributes.items()}


@pytest.mark.parametrize("name", sorted(set(FUSED) - {"one head"}))
def test_it_is_one_operator_with_equal_numbers(
    name: str, load_text: Callable[..., Artifact]
) -> None:
    artifact = load_text(FUSED[name][0], WEIGHTS, opset=23)
    found = run(artifact)
    after = census(found.model)
    assert after["Attention"] == 1
    assert "Softmax" not in after
    if name in PLAIN:
        assert after == {"Attention": 1, **PLAIN[name]}
    feeds = probe_inputs(artifact.model, artifact.spec, DIMS, seed=1, default=3)
    with Session(artifact, optimize=False) as session:
        expected = session.run(feeds)["y"]
    with Session(found, optimize=False) as session:
        np.testing.assert_allclose(session.run(feeds)["y"], expected, rtol=2e-5, atol=5e-6)


def test_heads_and_masks_are_said_by_attributes(load_text: Callable[..., Artifact]) -> None:
    grouped = only(run(load_text(FUSED["grouped"][0], WEIGHTS, opset=23)))
    assert grouped == {"scale": 0.5, "q_num_heads": 4, "kv_num_heads": 2}
    split = only(run(load_text(FUSED["split"][0], WEIGHTS, opset=23)))
    assert split["is_causal"] == 1


def test_a_mask_that_is_not_quite_causal_stays_a_mask(load_text: Callable[..., Artifact]) -> None:
    holed = WEIGHTS["causal"].copy()
    holed[0, 0, 2, 1] = False
    artifact = load_text(FUSED["split"][0], WEIGHTS | {"causal": holed}, opset=23)
    found = run(artifact)
    assert "is_causal" not in only(found)
    feeds = probe_inputs(artifact.model, artifact.spec, DIMS, seed=1, default=3)
    with Session(artifact, optimize=False) as session:
        expected = session.run(feeds)["y"]
    with Session(found, optimize=False) as session:
        np.testing.assert_allclose(session.run(feeds)["y"], expected, rtol=2e-5, atol=5e-6)


def test_only_grouped_heads_on_request(load_text: Callable[..., Artifact]) -> None:
    for name, count in (("grouped", 1), ("split", 0)):
        artifact = load_text(FUSED[name][0], WEIGHTS, opset=23)
        found = run(artifact, "fuse-standard-attention:grouped=true")
        assert census(found.model).get("Attention", 0) == count


@pytest.mark.parametrize(("opset", "target"), [(22, "cpu"), (23, "edge-cpu")])
def test_older_opsets_and_targets_have_no_such_operator(
    opset: int, target: str, load_text: Callable[..., Artifact]
) -> None:
    artifact = load_text(FUSED["split"][0], WEIGHTS, opset=opset)
    passes = "infer-shapes,fuse-standard-attention,fuse-rotary-embedding:standard=true,fuse-rms-norm:standard=true"
    model = artifact.model.clone()
    for pass_ in PassPipeline.parse(passes).passes:
        result = pass_.apply(model, PassContext(target=TARGETS[target]))
        assert pass_.name == "infer-shapes" or result.details == {"refused": "it needs opset 23"}
    assert census(model) == census(artifact.model)
