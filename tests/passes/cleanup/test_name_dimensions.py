# ruff: noqa: E501 - a graph is easier read in one line
"""Sizes are followed by name through shapes, views, products and pointwise operators."""

from collections.abc import Callable

import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.pipeline import PassPipeline

BATCH = "s = Shape(x) b = Gather(s, zero) c = Unsqueeze(b, axis)"
NUMBERS = (
    "int64 zero = {0}, int64 one = {1}, int64[1] axis = {0}, int64[1] minus = {-1}, int64[1] four = {4}, "
    "int64[4] heads = {0, 3, 2, 2}, int64[3] ones = {1, 1, 1}, int64[1] three = {3}"
)
NAMED = {
    # What TorchScript writes where -1 may stand for a size that stays.
    "expand": (
        f"{BATCH} t = Concat<axis = 0>(c, minus, four) e = Equal(t, m1) w = Where(e, ones, t) y = Expand(k, w)",
        "float[1,3,4] k",
        "y",
        ["N", 3, 4],
    ),
    "reshape with a rest": (
        f"{BATCH} t = Concat<axis = 0>(c, three, minus) y = Reshape(x, t)",
        "",
        "y",
        ["N", 3, 4],
    ),
    "the rest is a name": ("t = Concat<axis = 0>(minus, four) y = Reshape(x, t)", "", "y", None),
    "range": (
        f"{BATCH} y = Range(zero, b, one)",
        "",
        "y",
        ["N"],
    ),
    "pointwise": (
        f"{BATCH} r = Range(zero, b, one) u = Unsqueeze(r, axis) f = Cast<to = 1>(u) t = Transpose<perm = [1, 0]>(f) y = Add(t, k)",
        "float[1,3] k",
        "y",
        ["N", 3],
    ),
    "products": (
        f"{BATCH} t = Concat<axis = 0>(c, three, minus) r = Reshape(x, t) y = MatMul(r, k)",
        "float[4,5] k",
        "y",
        ["N", 3, 5],
    ),
    "another input": (
        "s = Shape(k) b = Gather(s, zero) c = Unsqueeze(b, axis) t = Concat<axis = 0>(c, three, four) y = Expand(x1, t)",
        "float[M,2] k, float[1,1,4] x1",
        "y",
        ["M", 3, 4],
    ),
    "squeezed": (
        f"{BATCH} t = Concat<axis = 0>(c, axis1, four) r = Expand(k, t) y = Squeeze(r, axis1)",
        "float[1,1,4] k",
        "y",
        ["N", 4],
    ),
    # Two names that broadcast may be 1 and anything.
    "two names": (
        f"{BATCH} r = Range(zero, b, one) f = Cast<to = 1>(r) y = Mul(f, k)",
        "float[M] k",
        "y",
        None,
    ),
}


@pytest.mark.parametrize("name", NAMED)
def test_sizes_are_named(name: str, load_text: Callable[..., Artifact]) -> None:
    body, more, result, wanted = NAMED[name]
    given = ", ".join(["float[N,3,4] x", more] if more else ["float[N,3,4] x"])
    text = (
        f"g ({given}) => (float[] z) <{NUMBERS}, int64[3] m1 = {{-1, -1, -1}}, int64[1] axis1 = {{1}}> "
        f"{{ {body} i = Cast<to = 1>({result}) z = ReduceSum<keepdims = 0>(i) }}"
    )
    artifact = load_text(text, opset=18)
    model = artifact.model.clone()
    for pass_ in PassPipeline.parse("infer-shapes,name-dimensions").passes:
        model = pass_.apply(model, PassContext()).model
    value = next(v for node in model.graph for v in node.outputs if v.name == result)
    assert value.shape is not None
    found = [size if isinstance(size, int) else size.value for size in value.shape]
    if wanted is None:
        assert not {"N", "M"} & set(found)
    else:
        assert found == wanted


def test_named_sizes_are_written_once(load_text: Callable[..., Artifact]) -> None:
    text = (
        f"g (float[N,3,4] x) => (float[A,4,3] y) <{NUMBERS}> "
        f"{{ {BATCH} t = Concat<axis = 0>(c, four, minus) r = Reshape(x, t) y = Neg(r) }}"
    )
    artifact = load_text(text, opset=18)
    model = artifact.model.clone()
    (infer, name) = PassPipeline.parse("infer-shapes,name-dimensions").passes
    model = infer.apply(model, PassContext()).model
    assert name.apply(model, PassContext()).modified
    assert not name.apply(model, PassContext()).modified
