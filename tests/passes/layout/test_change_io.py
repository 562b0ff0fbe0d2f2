# ruff: noqa: E501 - a graph is easier read in one line
"""Types and layouts of inputs and outputs: nodes, signature, numbers, and what is refused."""

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.observers import census
from onnxsmith.passes.pipeline import PassPipeline
from onnxsmith.pipeline.optimize import OptimizeRequest, OptimizeResult, optimize
from onnxsmith.runtime.session import Session

RNG = np.random.default_rng(5)
W = {"w": RNG.standard_normal((4, 3, 3, 3)).astype(np.float32)}
NET = (
    "g (float[N,3,6,5] x) => (float[N,4,4,3] y, float[N,4,4,3] z) { y = Conv(x, w) z = Sigmoid(y) }"
)
BRANCHES = (
    "g (float[N,3,2,2] x, bool b) => (float[N,3,2,2] y) { y = If(b) <then_branch = t () => (t1)"
    " { t1 = Exp(x) }, else_branch = e () => (e1) { e1 = Neg(x) }> }"
)


def change(artifact: Artifact, spec: str, more: str = "") -> OptimizeResult:
    result = optimize(artifact, OptimizeRequest(passes=f"change-io:{spec}{more}"))
    assert result.dropped == ()
    assert result.pipeline.verified
    return result


def run(artifact: Artifact, **feeds: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    with Session(artifact, optimize=False) as session:
        return session.run(feeds)


def test_an_image_comes_as_cameras_give_it(load_text: Callable[..., Artifact]) -> None:
    artifact = load_text(NET, W, opset=17)
    found = change(artifact, "inputs=x=uint8+x=nhwc:outputs=z=float16").artifact
    assert census(found.model) == {"Transpose": 1, "Cast": 2, "Conv": 1, "Sigmoid": 1}
    assert [str(v) for v in (*found.spec.inputs, *found.spec.outputs)] == [
        "x: uint8[N,6,5,3]", "y: float32[N,4,4,3]", "z: float16[N,4,4,3]",
    ]  # fmt: skip
    image = RNG.integers(0, 256, (2, 6, 5, 3)).astype(np.uint8)
    expected = run(artifact, x=image.transpose(0, 3, 1, 2).astype(np.float32))
    results = run(found, x=image)
    np.testing.assert_allclose(results["y"], expected["y"], rtol=1e-5)
    np.testing.assert_array_equal(results["z"], expected["z"].astype(np.float16))


def test_values_without_a_name_change_where_it_fits(load_text: Callable[..., Artifact]) -> None:
    text = "g (float[N,4] x, int64[N,4] i, float[1,2,3,4] k) => (float[1,2,3,4] y, int64[N,4] j, float[N,4] r) { y = Exp(k) j = Neg(i) r = Neg(x) }"
    found = change(load_text(text, {}, opset=17), "inputs=bfloat16+nchw:outputs=nhwc").artifact
    assert [str(v) for v in (*found.spec.inputs, *found.spec.outputs)] == [
        "x: bfloat16[N,4]", "i: int64[N,4]", "k: bfloat16[1,4,2,3]",
        "y: float32[1,3,4,2]", "j: int64[N,4]", "r: float32[N,4]",
    ]  # fmt: skip
    k = RNG.standard_normal((1, 4, 2, 3)).astype(ml_dtypes.bfloat16)
    x = np.zeros((1, 4), ml_dtypes.bfloat16)
    got = run(found, x=x, i=np.zeros((1, 4), np.int64), k=k)["y"]
    expected = np.exp(k.astype(np.float32)).transpose(0, 2, 3, 1).transpose(0, 2, 3, 1)
    assert got.shape == (1, 3, 4, 2)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_a_cleanup_cancels_what_the_model_has_of_the_kind(
    load_text: Callable[..., Artifact],
) -> None:
    text = (
        "g (float[N,6,5,3] x) => (float[N,4,3,4] y) { a = Transpose<perm = [0, 3, 1, 2]>(x)"
        " b = Conv(a, w) c = Relu(b) y = Transpose<perm = [0, 2, 3, 1]>(c) }"
    )
    artifact = load_text(text, W, opset=17)
    more = f",{PassPipeline.preset('safe')}"
    found = change(artifact, "inputs=nchw:outputs=nchw", more).artifact
    assert census(found.model) == {"Conv": 1, "Relu": 1}
    assert [v.shape for v in found.spec.inputs] == [("N", 3, 6, 5)]
    text = (
        "g (float[N,4] x) => (float[N,4] y) { a = Cast<to = 10>(x) b = Exp(a) y = Cast<to = 1>(b) }"
    )
    half = change(load_text(text, {}, opset=17), "inputs=float16:outputs=float16", more).artifact
    assert census(half.model) == {"Exp": 1}


def test_inputs_that_subgraphs_read(load_text: Callable[..., Artifact]) -> None:
    artifact = load_text(BRANCHES, {}, opset=17)
    found = change(artifact, "inputs=nhwc+float16").artifact
    x = RNG.standard_normal((2, 2, 2, 3)).astype(np.float16)
    for b in (True, False):
        wide = x.transpose(0, 3, 1, 2).astype(np.float32)
        expected = run(artifact, x=wide, b=np.array(b))["y"]
        np.testing.assert_allclose(run(found, x=x, b=np.array(b))["y"], expected, rtol=1e-5)


def test_an_output_that_is_read_on_or_is_a_weight(load_text: Callable[..., Artifact]) -> None:
    text = "g (float[3] x) => (float[3] k, float[3] y) <float[3] k = {1, 2, 3}> { y = Add(x, k) }"
    artifact = load_text(text, {}, opset=17)
    found = change(artifact, "outputs=float16").artifact
    results = run(found, x=np.ones(3, np.float32))
    assert {k: (v.dtype.name, v.tolist()) for k, v in results.items()} == {
        "k": ("float16", [1, 2, 3]),
        "y": ("float16", [2, 3, 4]),
    }


def test_changes_follow_each_other(load_text: Callable[..., Artifact]) -> None:
    artifact = load_text(NET, W, opset=17)
    more = ",set-shapes:dims=N=2,to-float16,change-io:inputs=nchw:outputs=nhwc"
    found = change(artifact, "inputs=nhwc+float16", more).artifact
    assert [str(v) for v in (*found.spec.inputs, *found.spec.outputs)] == [
        "x: float16[2,3,6,5]", "y: float32[2,4,3,4]", "z: float32[2,4,3,4]",
    ]  # fmt: skip


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    dtype=st.sampled_from(["float16", "float64", "int32", "uint8"]),
    layout=st.sampled_from(["", "+nhwc", "+nchw"]),
    output=st.sampled_from(["float16", "float64", "nhwc", "nchw"]),
)
def test_any_change_is_checked_and_holds(
    dtype: str, layout: str, output: str, load_text: Callable[..., Artifact]
) -> None:
    result = change(load_text(NET, W, opset=17), f"inputs={dtype}{layout}:outputs={output}")
    assert all(difference.ok for difference in result.pipeline.differences)


REFUSED = [
    ("inputs=q=uint8", "no input 'q'"),
    ("outputs=x=float16", "no output 'x'"),
    ("inputs=huge", "neither an element type nor a layout"),
    ("inputs=s=float16", "cannot become float16"),
    ("inputs=v=nhwc", "cannot become nhwc"),
    ("inputs=p=float16", "'p' is an output as well"),
    ("outputs=p=float16", "'p' is an input as well"),
    ("outputs=y=uint8", "lose its fraction"),
    ("inputs=v=bfloat16", "opset 12 has no bfloat16"),
]


@pytest.mark.parametrize(("spec", "words"), REFUSED)
def test_what_cannot_be_changed_is_refused(
    spec: str, words: str, load_text: Callable[..., Artifact]
) -> None:
    text = "g (float[3] v, string[2] s, float[2] p) => (float[3] y, float[2] p, string[2] t) { y = Exp(v) t = Identity(s) }"
    with pytest.raises(SmithError, match=words):
        optimize(load_text(text, {}, opset=12), OptimizeRequest(passes=f"change-io:{spec}"))


def test_nothing_to_change(load_text: Callable[..., Artifact]) -> None:
    result = change(load_text(NET, W, opset=17), "inputs=float32:outputs=float32")
    assert not any(run_.modified for run_ in result.pipeline.runs)
