# ruff: noqa: E501 - a graph is easier read in one line
"""Sizes that are set, batches that are freed, and versions of the operators."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.base import PassContext, PassResult
from onnxsmith.passes.observers import census
from onnxsmith.passes.pipeline import PassPipeline
from onnxsmith.pipeline.optimize import OptimizeRequest, optimize
from onnxsmith.runtime.session import Session

W = np.random.default_rng(4).standard_normal((4, 6)).astype(np.float32)
NET = "g (float[{n},2,4] x) => (float[{n},12] y) <int64[2] t = {{{t}, 12}}> {{ a = MatMul(x, w) r = Relu(a) y = Reshape(r, t) }}"


def apply(artifact: Artifact, spec: str) -> PassResult:
    (pass_,) = PassPipeline.parse(spec).passes
    return pass_.apply(artifact.model.clone(), PassContext())


def run(artifact: Artifact, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    with Session(artifact, optimize=False) as session:
        return session.run({"x": x})["y"]


def test_a_size_takes_the_place_of_its_name_everywhere(load_text: Callable[..., Artifact]) -> None:
    artifact = load_text(NET.format(n="N", t=-1), {"w": W}, opset=18)
    result = optimize(artifact, OptimizeRequest(passes="set-shapes:dims=N=3,fold-shapes"))
    assert result.dropped == ()
    assert result.pipeline.verified
    spec = result.artifact.spec
    assert [v.shape for v in (*spec.inputs, *spec.outputs)] == [(3, 2, 4), (3, 12)]
    shapes = [tuple(v.shape) for n in result.artifact.model.graph for v in n.outputs if v.shape]
    assert shapes == [(3, 2, 6), (3, 2, 6), (3, 12)]


def test_an_unknown_name_is_refused_with_those_there_are(
    load_text: Callable[..., Artifact],
) -> None:
    artifact = load_text(NET.format(n="N", t=-1), {"w": W}, opset=18)
    with pytest.raises(SmithError, match="no dimension 'M'") as caught:
        optimize(artifact, OptimizeRequest(passes="set-shapes:dims=M=3"))
    assert "N" in caught.value.hint


@pytest.mark.parametrize("size", [1, 2])
def test_a_fixed_batch_becomes_free(load_text: Callable[..., Artifact], size: int) -> None:
    artifact = load_text(NET.format(n=size, t=size), {"w": W}, opset=18)
    result = optimize(artifact, OptimizeRequest(passes="free-batch:dim=items"))
    assert result.dropped == ()
    assert [v.shape for v in result.artifact.spec.inputs] == [("items", 2, 4)]
    assert [v.shape for v in result.artifact.spec.outputs] == [("items", 12)]
    x = np.random.default_rng(1).standard_normal((5 * size, 2, 4)).astype(np.float32)
    found = run(result.artifact, x)
    for i in range(5):
        np.testing.assert_allclose(
            found[i * size : (i + 1) * size], run(artifact, x[i * size : (i + 1) * size]), rtol=1e-6
        )


MIXED = [
    # A softmax over the batch, a weight of the batch's size, a target that something else fixes.
    ("g (float[2,4] x) => (float[2,4] y) { y = Softmax<axis = 0>(x) }", "depend on each other"),
    (
        "g (float[2,4] x) => (float[2,4] y) <float[2,1] k = {1, 2}> { y = Mul(x, k) }",
        "holds the batch size",
    ),
    (
        "g (float[2,4] x) => (float[4,2] y) <int64[2] t = {4, 2}> { a = Relu(x) y = Reshape(a, t) }",
        "batch",
    ),
    (
        "g (float[2,4] x, float[3,4] z) => (float[5,4] y) { y = Concat<axis = 0>(x, z) }",
        "same fixed dimension",
    ),
    ("g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }", "same fixed dimension"),
]


@pytest.mark.parametrize(("text", "words"), MIXED)
def test_a_batch_that_cannot_be_freed_is_refused(
    text: str, words: str, load_text: Callable[..., Artifact]
) -> None:
    artifact = load_text(text, {}, opset=18)
    with pytest.raises(SmithError) as caught:
        optimize(artifact, OptimizeRequest(passes="free-batch"))
    assert words in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize("opset", [9, 13, 21])
def test_versions_up_and_down_give_equal_numbers(
    load_text: Callable[..., Artifact], opset: int
) -> None:
    weights = {"w": np.random.default_rng(0).standard_normal((64, 512)).astype(np.float32)}
    text = "g (float[2,64] x) => (float[2,512] y) { a = MatMul(x, w) b = Exp(a) y = Relu(b) }"
    artifact = load_text(text, weights, opset=17)
    result = apply(artifact, f"convert-opset:opset={opset}")
    converted = Artifact(result.model)
    assert result.details == {"from": 17, "to": opset}
    assert converted.model.opset_imports[""] == opset
    x = np.random.default_rng(1).standard_normal((2, 64)).astype(np.float32)
    np.testing.assert_allclose(run(converted, x), run(artifact, x), rtol=1e-6)
    weight = artifact.model.graph.initializers["w"].const_value
    assert converted.model.graph.initializers["w"].const_value is weight  # not a copy


def test_softmax_below_13_takes_the_rest_as_one_axis(load_text: Callable[..., Artifact]) -> None:
    # onnx's converter keeps the number of the axis, and so changes what is computed.
    text = "g (float[2,3,4] x) => (float[2,3,4] y) {{ y = Softmax{}(x) }}"
    with pytest.raises(SmithError, match="Softmax 'y' takes axis 1"):
        apply(load_text(text.format("<axis = 1>"), {}, opset=13), "convert-opset:opset=12")
    x = np.random.default_rng(1).standard_normal((2, 3, 4)).astype(np.float32)
    for attribute in ("", "<axis = 2>", "<axis = -1>"):
        artifact = load_text(text.format(attribute), {}, opset=13)
        for opset in (12, 10):
            converted = Artifact(apply(artifact, f"convert-opset:opset={opset}").model)
            np.testing.assert_allclose(run(converted, x), run(artifact, x), rtol=1e-6)


def test_an_operator_without_that_version_is_named(load_text: Callable[..., Artifact]) -> None:
    text = "g (float[2,6] x) => (float[2,6] y) { y = Gelu(x) }"
    with pytest.raises(SmithError, match="opset 13") as caught:
        apply(load_text(text, {}, opset=20), "convert-opset:opset=13")
    assert "Gelu" in caught.value.message


def test_a_scan_over_batches_is_refused(load_text: Callable[..., Artifact]) -> None:
    text = """g (float[1,2] s, float[1,3,2] x) => (float[1,2] y, float[1,3,2] z) {
        y, z = Scan<num_scan_inputs = 1, body = b (float[2] a, float[2] e) => (float[2] c, float[2] d)
            { c = Add(a, e) d = Identity(c) }>(, s, x) }"""
    with pytest.raises(SmithError, match="Scan of opset 8"):
        apply(load_text(text, {}, opset=8), "convert-opset:opset=13")


def test_weights_of_the_oldest_files_need_not_be_inputs(load_text: Callable[..., Artifact]) -> None:
    text = "g (float[N,4] x) => (float[N,6] y) { y = MatMul(x, w) }"
    artifact = load_text(text, {"w": W}, opset=9, ir_version=3)
    assert [v.name for v in artifact.spec.inputs] == ["x"]
    converted = Artifact(apply(artifact, "convert-opset:opset=18").model)
    assert [v.name for v in converted.spec.inputs] == ["x"]
    x = np.ones((2, 4), np.float32)
    np.testing.assert_allclose(run(converted, x), x @ W, rtol=1e-5)


def test_what_the_converter_cannot_read_is_said(load_text: Callable[..., Artifact]) -> None:
    text = "g (float[N,4] x) => (float[N,4] y) { a = Relu(x) y = com.microsoft.Gelu(a) }"
    head = '<ir_version: 10, opset_import: ["": 18, "com.microsoft": 1]>'
    artifact = load_text(text, {}, header=head)
    artifact.model.opset_imports.pop("com.microsoft")
    with pytest.raises(SmithError, match="cannot be written in opset 20"):
        apply(artifact, "convert-opset:opset=20")


def test_unknown_versions_are_refused(load_text: Callable[..., Artifact]) -> None:
    artifact = load_text(NET.format(n=1, t=1), {"w": W}, opset=18)
    with pytest.raises(SmithError, match="opset 999"):
        apply(artifact, "convert-opset:opset=999")
    assert not apply(artifact, "convert-opset:opset=18").modified
    assert census(artifact.model) == {"MatMul": 1, "Relu": 1, "Reshape": 1}
