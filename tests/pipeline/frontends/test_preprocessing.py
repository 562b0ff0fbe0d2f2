"""Preprocessing that becomes part of the graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import UsageError
from onnxsmith.pipeline.frontends.preprocessing import Preprocessing, build_in
from onnxsmith.runtime.session import Session

Load = Callable[..., Artifact]

NCHW = "g (float[batch, 3, h, w] x) => (float[batch, 3, h, w] y) { y = Neg(x) }"
NHWC = "g (float[batch, h, w, 3] x) => (float[batch, h, w, 3] y) { y = Neg(x) }"


def run(artifact: Artifact, **feeds: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    with Session(artifact, optimize=False) as session:
        return next(iter(session.run(feeds).values()))


def image(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def test_raw_bytes_in_the_other_layout_and_color_order(load_text: Load) -> None:
    wanted = Preprocessing.parse(
        "scale=1/255&mean=0.485,0.456,0.406&std=0.229,0.224,0.225&layout=NHWC&swap=1&dtype=uint8"
    )
    result = build_in(load_text(NCHW), [wanted], {})
    raw = image(2, 5, 7, 3)
    rgb = raw[..., ::-1].astype(np.float64) / 255
    expected = (rgb - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(
        run(result, x=raw), -expected.transpose(0, 3, 1, 2), rtol=2e-5, atol=2e-6
    )
    (spec,) = result.spec.inputs
    assert str(spec) == "x: uint8[batch,h,w,3]"
    assert [node.op_type for node in result.model.graph] == [
        "Cast",
        "Transpose",
        "Gather",
        "Mul",
        "Add",
        "Neg",
    ]
    assert result.history[-1].options["scale"] == pytest.approx(1 / 255)
    onnx.checker.check_model(result.to_proto(), full_check=True)


def test_channels_last_models_take_one_value_a_channel(load_text: Load) -> None:
    result = build_in(load_text(NHWC), [Preprocessing.parse("x?mean=1,2,3&layout=NHWC")], {})
    raw = np.ones((1, 2, 2, 3), np.float32)
    np.testing.assert_array_equal(run(result, x=raw)[0, 0, 0], [0, 1, 2])
    assert [node.op_type for node in result.model.graph] == ["Add", "Neg"]


def test_channels_first_images_for_a_channels_last_model(load_text: Load) -> None:
    result = build_in(load_text(NHWC), [Preprocessing.parse("layout=NCHW&std=2")], {})
    raw = np.random.default_rng(0).normal(size=(1, 3, 4, 5)).astype(np.float32)
    np.testing.assert_allclose(run(result, x=raw), -raw.transpose(0, 2, 3, 1) / 2, rtol=1e-6)


def test_each_input_may_have_its_own(load_text: Load) -> None:
    model = load_text("g (float[2] a, float[2] b) => (float[2] y) { y = Sub(a, b) }")
    wanted = [Preprocessing.parse("a?scale=2"), Preprocessing.parse("b?mean=1&dtype=int32")]
    result = build_in(model, wanted, {})
    found = run(result, a=np.array([1, 2], np.float32), b=np.array([10, 20], np.int32))
    np.testing.assert_array_equal(found, [2 - 9, 4 - 19])
    assert [step.options["input"] for step in result.history] == ["a", "b"]


def test_an_input_has_one_preprocessing(load_text: Load) -> None:
    with pytest.raises(UsageError, match="preprocessing of the input 'x' is given twice"):
        build_in(load_text(NCHW), [Preprocessing.parse(t) for t in ("scale=2", "x?scale=3")], {})


def test_the_input_may_be_an_output_too(load_text: Load) -> None:
    model = load_text("g (float[2] x) => (float[2] y, float[2] z) { y = Neg(x) z = Identity(x) }")
    result = build_in(model, [Preprocessing.parse("scale=3")], {})
    np.testing.assert_array_equal(run(result, x=np.ones(2, np.float32)), [-3, -3])


def test_the_model_given_stays_as_it_was(load_text: Load) -> None:
    model = load_text(NCHW)
    before = model.to_proto().SerializeToString()
    build_in(model, [Preprocessing.parse("scale=2")], {})
    assert model.to_proto().SerializeToString() == before


@pytest.mark.parametrize(
    ("model", "text", "message"),
    [
        (NCHW, "y?scale=2", "the model has no input 'y'"),
        (NCHW, "mean=1,2", "mean has 2 values"),
        ("g (float[a, b] x) => (float[a, b] y) { y = Neg(x) }", "layout=NHWC", "not clear which"),
        (
            "g (float[a, 3, 3, 3] x) => (float[a, 3, 3, 3] y) { y = Neg(x) }",
            "layout=NHWC",
            "not clear which",
        ),
        (
            "g (float[a, 1, 8, 8] x) => (float[a, 1, 8, 8] y) { y = Neg(x) }",
            "swap=1",
            "cannot be swapped",
        ),
        ("g (int64[2] x) => (int64[2] y) { y = Neg(x) }", "scale=2", "no floating-point tensor"),
        (
            "g (float[2] a, float[2] b) => (float[2] y) { y = Sub(a, b) }",
            "scale=2",
            "the preprocessing names none",
        ),
    ],
)
def test_what_does_not_fit_is_refused(load_text: Load, model: str, text: str, message: str) -> None:
    artifact = load_text(model)
    with pytest.raises(Exception, match=message) as caught:
        build_in(artifact, [Preprocessing.parse(text)], {})
    assert caught.type.__name__ in {"UsageError", "SmithError"}


@pytest.mark.parametrize("text", ["", "x?", "bogus=1", "scale=", "dtype=float8", "swap=maybe"])
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Preprocessing.parse(text)
