"""Gradients of transposed convolutions, of pooling and of resizing."""

from __future__ import annotations

import numpy as np
import pytest
from tests.passes.autodiff.checking import check_gradients, check_repeats, close, model_of

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.autodiff.gradients import gradients
from onnxsmith.runtime.session import Session

RNG = np.random.default_rng(43)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def apart(*shape: int) -> np.ndarray:
    """Values of which no two are near, so that a maximum has no rival."""
    size = int(np.prod(shape))
    return (RNG.permutation(size).reshape(shape) / size - 0.4).astype(np.float32)


def sizes(shape: tuple[int, ...], dynamic: bool) -> str:
    """Return dimensions; behind the channels they are known, or known when it runs alone."""
    tail = [f"s{i}" if dynamic else str(size) for i, size in enumerate(shape[2:])]
    return ", ".join(["n", str(shape[1]), *tail])


def result_shape(call: str, feeds: dict[str, np.ndarray], inputs: str) -> tuple[int, ...]:
    """Return the shape of what the runtime makes of the inputs."""
    text = f"g ({inputs}) => (float[] y) {{ y = {call} }}"
    proto = model_of(text)
    del proto.graph.output[0].type.tensor_type.shape.dim[:]
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    with Session(Artifact.from_proto(proto)) as session:
        return tuple(session.run(feeds)["y"].shape)


@pytest.mark.parametrize(
    ("x", "weight", "attributes"),
    [
        ((2, 3, 4, 4), (3, 2, 3, 3), "pads = [1, 1, 1, 1]"),
        ((2, 3, 3, 4), (3, 5, 3, 2), "strides = [2, 1], pads = [1, 0, 0, 1]"),
        ((2, 6, 3, 3), (6, 2, 2, 2), "group = 3, strides = [2, 2]"),
        ((2, 4, 3, 3), (4, 1, 3, 3), "group = 4, dilations = [2, 1]"),
        ((2, 3, 3, 3), (3, 2, 3, 3), "strides = [2, 2], output_padding = [1, 0]"),
        ((2, 3, 3, 3), (3, 6, 1, 1), ""),
        ((2, 3, 5), (3, 2, 4), "strides = [3]"),
        ((1, 2, 2, 3, 2), (2, 2, 2, 2, 2), "pads = [0, 1, 0, 0, 0, 0]"),
        ((2, 3, 4, 4), (3, 2, 3, 3), 'auto_pad = "SAME_UPPER", strides = [2, 2]'),
        ((2, 3, 4, 4), (3, 2, 3, 3), 'auto_pad = "SAME_LOWER", strides = [2, 2]'),
        ((2, 3, 4, 4), (3, 2, 3, 3), 'auto_pad = "VALID"'),
        ((2, 3, 4, 4), (3, 2, 3, 3), "output_shape = [8, 7], strides = [2, 2]"),
    ],
)
@pytest.mark.parametrize("dynamic", [False, True])
def test_transposed_convolutions(
    x: tuple[int, ...], weight: tuple[int, ...], attributes: str, dynamic: bool
) -> None:
    group = int(attributes.split("group = ")[1][0]) if "group" in attributes else 1
    out = weight[1] * group
    if dynamic and ("SAME" in attributes or "output_shape" in attributes):
        return  # its padding is not known before it runs; refused, see below
    inputs = f"float[{sizes(x, dynamic)}] x, float{list(weight)} w, float[{out}] b"
    call = f"ConvTranspose <{attributes}> (x, w, b)".replace(" <>", "")
    feeds = {"x": normal(*x), "w": normal(*weight), "b": normal(out)}
    shape = result_shape(call, feeds, inputs)
    factors = normal(*shape)
    kind = ", ".join(["n", str(out), *(str(size) for size in shape[2:])])
    text = f"g ({inputs}, float[{kind}] k) => (float[{kind}] y) {{ t = {call} y = Mul(t, k) }}"
    made = gradients(Artifact.from_proto(model_of(text)), "y", ["x", "w", "b"])
    for threads in (1, 4):
        with Session(made, threads=threads) as session:
            found = session.run({**feeds, "k": factors})
        # It is linear in each: what the gradient says of a step is what the step does.
        for name in "xwb":
            step = normal(*feeds[name].shape)
            moved = _value(text, {**feeds, name: feeds[name] + step, "k": factors})
            change = moved - _value(text, {**feeds, "k": factors})
            slope = float((found[f"{name}_gradient"].astype(np.float64) * step).sum())
            assert abs(change - slope) < 1e-4 * max(1, abs(slope)), name


def _value(text: str, feeds: dict[str, np.ndarray]) -> float:
    with Session(Artifact.from_proto(model_of(text)), threads=1) as session:
        return float(session.run(feeds)["y"].astype(np.float64).sum())


def test_transposed_padding_that_depends_on_unknown_sizes_is_refused() -> None:
    text = (
        "g (float[n, 2, h] x, float[2, 3, 3] w) => (float[n, 3, p] y)"
        '{ y = ConvTranspose <auto_pad = "SAME_UPPER", strides = [2]> (x, w) }'
    )
    with pytest.raises(SmithError, match=r"'y' \(ConvTranspose\).*sizes unknown"):
        gradients(Artifact.from_proto(model_of(text)), "y", ["x"])


@pytest.mark.parametrize(
    ("call", "shape"),
    [
        ("MaxPool <kernel_shape = [3, 2], strides = [1, 1], dilations = [2, 1]>", (2, 3, 6, 5)),
        ("MaxPool <kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1>", (2, 3, 6, 6)),
        ("MaxPool <kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1>", (2, 3, 5, 5)),
        ("MaxPool <kernel_shape = [3], strides = [2]>", (2, 3, 7)),
        ("MaxPool <kernel_shape = [2, 2, 2]>", (1, 2, 3, 3, 3)),
        (
            'MaxPool <kernel_shape = [3, 3], strides = [2, 2], auto_pad = "SAME_UPPER">',
            (2, 3, 5, 5),
        ),
        ("AveragePool <kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1>", (2, 3, 6, 6)),
        (
            "AveragePool <kernel_shape = [3, 2], strides = [2, 2], ceil_mode = 1,"
            "pads = [1, 0, 1, 1]>",
            (2, 3, 6, 5),
        ),
        (
            "AveragePool <kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1,"
            "pads = [1, 1, 1, 1], count_include_pad = 1>",
            (2, 3, 6, 6),
        ),
        (
            "AveragePool <kernel_shape = [2, 2], dilations = [2, 1], pads = [1, 0, 1, 0]>",
            (2, 3, 5, 4),
        ),
        ("AveragePool <kernel_shape = [3], strides = [2], pads = [1, 1]>", (2, 3, 7)),
        ("LpPool <kernel_shape = [3, 2], strides = [2, 1], pads = [1, 0, 1, 0]>", (2, 3, 6, 5)),
        ("LpPool <kernel_shape = [2, 2], p = 3>", (2, 2, 4, 4)),
        ("LpPool <kernel_shape = [2, 2], p = 1>", (2, 2, 4, 4)),
        ("GlobalLpPool <p = 3>", (2, 3, 2, 2)),
        ("GlobalLpPool", (2, 3, 4)),
    ],
)
@pytest.mark.parametrize("dynamic", [False, True])
def test_pooling(call: str, shape: tuple[int, ...], dynamic: bool) -> None:
    feeds = {"x": apart(*shape)}
    after = result_shape(f"{call}(x)", feeds, f"float{list(shape)} x")
    inner = ", ".join(["n", *(f"q{i}" if dynamic else str(s) for i, s in enumerate(shape[1:]))])
    outer = ", ".join(["n", *(f"r{i}" if dynamic else str(s) for i, s in enumerate(after[1:]))])
    text = (
        f"g (float[{inner}] x, float[{outer}] k) => (float[{outer}] y)"
        f"{{ t = {call} (x) y = Mul(t, k) }}"
    )
    check_gradients(model_of(text), {**feeds, "k": normal(*after)}, ["x"])


@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
def test_automatic_padding_is_as_if_it_was_written_out(kind: str) -> None:
    found = []
    x, k = apart(2, 3, 5, 5), normal(2, 3, 3, 3)
    for padding in ('auto_pad = "SAME_LOWER"', "pads = [1, 1, 0, 0]"):
        text = (
            "g (float[n, 3, 5, 5] x, float[n, 3, 3, 3] k) => (float[n, 3, 3, 3] y) {"
            f"t = {kind} <kernel_shape = [2, 2], strides = [2, 2], {padding}> (x) y = Mul(t, k) }}"
        )
        with Session(gradients(Artifact.from_proto(model_of(text)), "y", ["x"])) as session:
            found.append(session.run({"x": x, "k": k})["x_gradient"])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)


def test_what_was_pooled_and_put_back() -> None:
    text = (
        "g (float[1, 2, 4, 4] x, float[1, 2, 4, 4] k) => (float[1, 2, 4, 4] y) {"
        "p, i = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x) e = Exp(p)"
        "u = MaxUnpool <kernel_shape = [2, 2], strides = [2, 2]> (e, i) y = Mul(u, k) }"
    )
    check_gradients(model_of(text), {"x": apart(1, 2, 4, 4), "k": normal(1, 2, 4, 4)}, ["x"])


def test_overlapping_pooling_is_the_same_every_time() -> None:
    text = (
        "g (float[4, 8, 32, 32] x, float[4, 8, 16, 16] k) => (float[4, 8, 16, 16] y) { t = MaxPool"
        "<kernel_shape = [5, 5], strides = [2, 2], pads = [2, 2, 2, 2]> (x) y = Mul(t, k) }"
    )
    made = gradients(Artifact.from_proto(model_of(text)), "y", ["x"])
    check_repeats(made, {"x": normal(4, 8, 32, 32), "k": normal(4, 8, 16, 16)})


@pytest.mark.parametrize(
    ("options", "scales", "shape"),
    [
        ("", [1, 1, 2, 3], (2, 3, 3, 2)),
        (
            'nearest_mode = "floor", coordinate_transformation_mode = "asymmetric"',
            [1, 1, 2, 2],
            (1, 2, 3, 3),
        ),
        ('nearest_mode = "ceil"', [1, 1, 1.5, 2], (1, 2, 4, 3)),
        ('coordinate_transformation_mode = "align_corners"', [1, 1, 2, 1.7], (1, 2, 3, 4)),
        ("", [1, 1, 0.5, 0.6], (1, 2, 6, 5)),
        ('mode = "linear"', [1, 1, 2, 1.6], (2, 2, 3, 4)),
        (
            'mode = "linear", coordinate_transformation_mode = "align_corners"',
            [1, 1, 2, 2],
            (1, 2, 3, 3),
        ),
        (
            'mode = "linear", coordinate_transformation_mode = "pytorch_half_pixel"',
            [1, 1, 0.6, 2],
            (1, 2, 5, 3),
        ),
        ('mode = "linear", antialias = 1', [1, 1, 0.5, 0.7], (1, 2, 6, 5)),
        ('mode = "cubic"', [1, 1, 2, 1.5], (1, 2, 4, 4)),
        ('mode = "cubic", cubic_coeff_a = -0.5, exclude_outside = 1', [1, 1, 0.7, 2], (1, 2, 5, 4)),
        ('mode = "linear"', [1, 1, 2], (2, 3, 4)),
        ('mode = "linear"', [1, 1, 2, 1, 1.5], (1, 2, 2, 3, 2)),
        ("", [2, 1, 3], (2, 3, 2)),
    ],
)
@pytest.mark.parametrize("form", ["scales", "dynamic scales", "sizes"])
def test_resizing(options: str, scales: list[float], shape: tuple[int, ...], form: str) -> None:
    """It is linear: what the gradient says of a step is what the step does."""
    after = tuple(int(np.floor(size * scale)) for size, scale in zip(shape, scales, strict=True))
    names = [f"d{i}" if form == "dynamic scales" else str(s) for i, s in enumerate(shape)]
    outer = [f"r{i}" if form == "dynamic scales" else str(s) for i, s in enumerate(after)]
    given = (
        f"s = Constant <value_ints = {list(after)}> () t = Resize <{options}> (x, , , s)"
        if form == "sizes"
        else f"s = Constant <value_floats = {[float(v) for v in scales]}> ()"
        f"t = Resize <{options}> (x, , s)"
    ).replace(" <>", "")
    text = (
        f"g (float[{', '.join(names)}] x, float[{', '.join(outer)}] k) =>"
        f"(float[{', '.join(outer)}] y) {{ {given} y = Mul(t, k) }}"
    )
    factors = normal(*after)
    made = gradients(Artifact.from_proto(model_of(text)), "y", ["x"])
    x, ends = normal(*shape), []
    for threads in (1, 4):
        with Session(made, threads=threads) as session:
            found = session.run({"x": x, "k": factors})["x_gradient"]
    with Session(Artifact.from_proto(model_of(text))) as session:
        for index in np.ndindex(shape):
            one = np.zeros(shape, np.float32)
            one[index] = 1
            ends.append(session.run({"x": one, "k": factors})["y"].astype(np.float64).sum())
    close(found, np.reshape(ends, shape), 1e-5, "x")


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("form", ["scales", "sizes", "axes"])
@pytest.mark.parametrize("fixed", [True, False])
def test_resizing_that_crops(mode: str, form: str, fixed: bool) -> None:
    """Linear but for what lies outside, which is a number that must not count."""
    roi = [0.0, 0.0, 0.1, 0.3, 1.0, 1.0, 0.7, 1.4]
    if form == "axes":
        roi = [0.1, 0.3, 0.7, 1.4]
    options = 'coordinate_transformation_mode = "tf_crop_and_resize", extrapolation_value = 3.0'
    options += f', mode = "{mode}"' + (", axes = [2, 3]" if form == "axes" else "")
    sizes = {
        "scales": "s = Constant <value_floats = [1.0, 1.0, 1.5, 1.2]> () t = Resize",
        "sizes": "s = Constant <value_ints = [1, 2, 6, 6]> () t = Resize",
        "axes": "s = Constant <value_ints = [6, 6]> () t = Resize",
    }[form]
    operands = "(x, r, s)" if form == "scales" else "(x, r, , s)"
    given = f"r = Constant <value_floats = {roi}> ()" if fixed else ""
    text = (
        f"g (float[1, 2, 4, 5] x, float[1, 2, 6, 6] k{'' if fixed else ', float[n] r'}) =>"
        f"(float[1, 2, 6, 6] y) {{ {given} {sizes} <{options}> {operands} y = Mul(t, k) }}"
    )
    feeds = {"x": normal(1, 2, 4, 5), "k": normal(1, 2, 6, 6)}
    if not fixed:
        feeds["r"] = np.array(roi, np.float32)
    made = gradients(Artifact.from_proto(model_of(text)), "y", ["x"])
    with Session(made) as session:
        found = session.run(feeds)["x_gradient"]
    ends = []
    with Session(Artifact.from_proto(model_of(text))) as session:
        for index in np.ndindex(found.shape):
            pair = [np.zeros_like(found), np.zeros_like(found)]
            pair[0][index] = 1
            one, none = (session.run({**feeds, "x": x})["y"].astype(np.float64) for x in pair)
            ends.append((one - none).sum())
    close(found, np.reshape(ends, found.shape), 1e-5, "x")


def test_whole_factors_are_summed_and_need_no_matrix() -> None:
    text = (
        "g (float[n, 2, h, w] x) => (float[n, 2, p, q] y) {"
        "s = Constant <value_floats = [1.0, 1.0, 2.0, 2.0]> () y = Resize(x, , s) }"
    )
    made = gradients(Artifact.from_proto(model_of(text)), "y", ["x"])
    assert not any(node.op_type == "MatMul" for node in made.model.graph)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ('keep_aspect_ratio_policy = "not_larger"', "depend on each other"),
    ],
)
def test_resizing_that_keeps_a_ratio_is_refused(options: str, reason: str) -> None:
    text = (
        "g (float[1, 2, 3, 3] x, float[8] r, int64[4] s) => (float[a, b, c, d] y)"
        f"{{ y = Resize <{options}> (x, r, , s) }}"
    )
    with pytest.raises(SmithError, match=rf"'y' \(Resize\).*{reason}"):
        gradients(Artifact.from_proto(model_of(text)), "y", ["x"])
