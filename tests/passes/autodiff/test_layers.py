"""Gradients of the operators that layers are made of, against central differences."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest
from tests.passes.autodiff.checking import check_gradients, close, model_of

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.autodiff.gradients import gradients
from onnxsmith.runtime.session import Session

RNG = np.random.default_rng(3)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def apart(*shape: int) -> np.ndarray:
    """Values of which no two are near, so that a maximum has no rival."""
    size = int(np.prod(shape))
    return (RNG.permutation(size).reshape(shape) / size).astype(np.float32)


@pytest.mark.parametrize(
    ("x", "weight", "attributes"),
    [
        ((2, 5, 6, 6), (3, 5, 3, 3), "pads = [1, 1, 1, 1]"),
        ((2, 5, 7, 6), (3, 5, 3, 2), "strides = [2, 1], pads = [1, 0, 0, 1]"),
        ((2, 6, 7, 7), (4, 3, 3, 3), "group = 2, dilations = [2, 1]"),
        ((2, 6, 5, 5), (6, 1, 3, 3), "group = 6, strides = [2, 2], pads = [1, 1, 1, 1]"),
        ((2, 6, 5, 5), (12, 1, 3, 3), "group = 6"),
        ((2, 5, 4, 4), (3, 5, 1, 1), "strides = [2, 2]"),
        ((2, 5, 4, 4), (3, 5, 1, 1), ""),
        ((2, 2, 7, 7), (3, 2, 3, 3), "strides = [2, 2]"),
        ((2, 2, 8, 7), (3, 2, 4, 3), "strides = [3, 2], pads = [1, 1, 1, 1]"),
        ((2, 5, 7), (3, 5, 3), 'auto_pad = "SAME_UPPER", strides = [2]'),
        ((1, 2, 4, 4, 4), (3, 2, 2, 2, 2), 'auto_pad = "SAME_LOWER"'),
    ],
)
@pytest.mark.parametrize("dynamic", [False, True])
def test_convolutions(
    x: tuple[int, ...], weight: tuple[int, ...], attributes: str, dynamic: bool
) -> None:
    if dynamic and "auto_pad" in attributes and "strides" in attributes:
        return  # its padding is not known before it runs; refused, see below
    rank = len(x) - 2
    shape = ", ".join(["n", str(x[1]), *("hwd"[:rank] if dynamic else map(str, x[2:]))])
    result = ", ".join(["n", str(weight[0]), *"pqr"[:rank]])
    text = (
        f"g (float[{shape}] x, float{list(weight)} w, float[{weight[0]}] b) => (float[{result}] y)"
        f"{{ t = Conv <{attributes}> (x, w, b) y = Mul(t, t) }}"
    ).replace(" <>", "")
    feeds = {"x": normal(*x), "w": normal(*weight), "b": normal(weight[0])}
    check_gradients(model_of(text), feeds, ["x", "w", "b"])


@pytest.mark.parametrize(
    ("x", "weight", "attributes", "turned"),
    [
        ((2, 5, 6, 6), (3, 5, 3, 3), "pads = [1, 1, 1, 1]", True),
        ((2, 5, 7, 6), (3, 5, 3, 2), "pads = [2, 0, 1, 1]", True),
        ((2, 3, 7, 8), (4, 3, 3, 2), "dilations = [2, 3], pads = [1, 2, 0, 3]", True),
        ((2, 5, 7), (3, 5, 4), "", True),
        ((1, 2, 4, 4, 4), (3, 2, 2, 2, 2), "pads = [1, 0, 0, 0, 1, 1]", True),
        ((2, 5, 6, 6), (3, 5, 3, 3), "strides = [1, 2]", False),
        ((2, 6, 6, 6), (4, 3, 3, 3), "group = 2", False),
        ((2, 2, 3, 3), (3, 2, 1, 1), "pads = [1, 1, 1, 1]", False),
    ],
)
def test_kernels_of_many_channels_are_turned_around(
    monkeypatch: pytest.MonkeyPatch,
    x: tuple[int, ...],
    weight: tuple[int, ...],
    attributes: str,
    turned: bool,
) -> None:
    monkeypatch.setattr("onnxsmith.passes.autodiff.rules.conv._MANY_CHANNELS", 2)
    sizes = [f"float[{', '.join(map(str, size))}]" for size in (x, weight)]
    result = ", ".join(["n", str(weight[0]), *"pqr"[: len(x) - 2]])
    text = (
        f"g ({sizes[0]} x, {sizes[1]} w) => (float[{result}] y)"
        f"{{ t = Conv <{attributes}> (x, w) y = Mul(t, t) }}"
    ).replace(" <>", "")
    feeds = {"x": normal(*x), "w": normal(*weight)}
    check_gradients(model_of(text), feeds, ["x", "w"])
    made = gradients(Artifact.from_proto(model_of(text)), "y", ["x"])
    kinds = [node.op_type for node in made.model.graph]
    assert ("ConvTranspose" not in kinds) is turned


def test_padding_that_depends_on_unknown_sizes_is_refused() -> None:
    text = (
        "g (float[n, 2, h] x, float[3, 2, 3] w) => (float[n, 3, p] y)"
        '{ y = Conv <auto_pad = "SAME_UPPER", strides = [2]> (x, w) }'
    )
    with pytest.raises(SmithError, match="depends on sizes unknown"):
        gradients(Artifact.from_proto(model_of(text)), "y", ["x"])


@pytest.mark.parametrize(
    "call",
    [
        "MaxPool <kernel_shape = [2, 2], strides = [2, 2]>",
        "MaxPool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>",
        "MaxPool <kernel_shape = [2, 3], strides = [1, 1]>",
        "AveragePool <kernel_shape = [2, 2], strides = [2, 2]>",
        "AveragePool <kernel_shape = [3, 3], strides = [1, 2], pads = [1, 1, 1, 1]>",
        "AveragePool <kernel_shape = [3, 2], pads = [1, 1, 1, 0], count_include_pad = 1>",
        "GlobalAveragePool",
        "GlobalMaxPool",
    ],
)
@pytest.mark.parametrize("shape", ["2, 3, 6, 6", "n, c, h, w"])
def test_pooling(call: str, shape: str) -> None:
    text = f"g (float[{shape}] x) => (float[n, c, p, q] y) {{ t = {call} (x) y = Exp(t) }}"
    check_gradients(model_of(text), {"x": apart(2, 3, 6, 6)}, ["x"])


@pytest.mark.parametrize("left", [0, 1])
@pytest.mark.parametrize("right", [0, 1])
def test_gemm(left: int, right: int) -> None:
    a, b = ((3, 2) if left else (2, 3)), ((4, 3) if right else (3, 4))
    text = (
        f"g (float{list(a)} a, float{list(b)} b, float[4] c) => (float[2, 4] y) {{ t = Gemm"
        f"<alpha = 0.5, beta = 2.0, transA = {left}, transB = {right}> (a, b, c) y = Mul(t, t) }}"
    )
    feeds = {"a": normal(*a), "b": normal(*b), "c": normal(4)}
    check_gradients(model_of(text), feeds, ["a", "b", "c"])


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((2, 3), (3, 4)),
        ((2, 5, 3), (3, 4)),
        ((2, 1, 5, 3), (4, 3, 2)),
        ((3,), (3, 4)),
        ((2, 3), (3,)),
        ((3,), (3,)),
        ((3,), (2, 3, 4)),
        ((2, 4, 3), (3,)),
    ],
)
def test_matmul(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    shape = np.matmul(np.zeros(a), np.zeros(b)).shape
    text = (
        f"g (float{list(a)} a, float{list(b)} b) => (float{list(shape)} y)"
        "{ t = MatMul(a, b) y = Mul(t, t) }"
    ).replace("float[] ", "float ")
    check_gradients(model_of(text), {"a": normal(*a), "b": normal(*b)}, ["a", "b"])


@pytest.mark.parametrize(
    "body",
    [
        "t = Softmax <axis = 1> (x)",
        "t = LogSoftmax <axis = -1> (x)",
        "t = Transpose <perm = [2, 0, 1]> (x)",
        "s = Constant <value_ints = [4, -1]> () t = Reshape(x, s)",
        "s = Constant <value_ints = [1]> () t = Unsqueeze(x, s)",
        "t = Flatten <axis = 2> (x)",
        "t = Concat <axis = 1> (x, x)",
        "p, t = Split <axis = 1, num_outputs = 2> (x)",
        "a = Constant <value_ints = [1]> () b = Constant <value_ints = [-1]> ()"
        "d = Constant <value_ints = [2]> () t = Slice(x, a, b, d)",
        "a = Constant <value_ints = [3, 1]> () b = Constant <value_ints = [-9, 0]> ()"
        "d = Constant <value_ints = [2, 1]> () e = Constant <value_ints = [-2, -1]> ()"
        "t = Slice(x, a, b, d, e)",
        "i = Constant <value_ints = [1, 0, -1, 1]> () t = Gather <axis = 1> (x, i)",
        "i = Constant <value_int = -1> () t = Gather <axis = 2> (x, i)",
        "s = Constant <value_ints = [5, 2, 3, 4]> () t = Expand(x, s)",
        "a = Constant <value_ints = [0, 2]> () t = ReduceMean(x, a)",
        "t = ReduceMean <keepdims = 0> (x)",
        "a = Constant <value_ints = [1]> () t = ReduceSum <keepdims = 0> (x, a)",
        "lo = Constant <value_float = -0.5> () hi = Constant <value_float = 0.5> ()"
        "t = Clip(x, lo, hi)",
        "t = Cast <to = 11> (x)",
        "a = Constant <value_ints = [1]> () t = ReduceMax(x, a)",
        "t = ReduceMin <keepdims = 0> (x)",
        "a = Constant <value_ints = [0, 2]> () t = ReduceLogSumExp(x, a)",
        "a = Constant <value_ints = [2]> () t = ReduceL2(x, a)",
        "e = Exp(x) t = Max(x, e)",
        "s = Neg(x) t = Min(x, s)",
        "e = Exp(x) t = Mean(x, e)",
        "a = Constant <value_int = 1> () t = CumSum <exclusive = 1> (x, a)",
        "a = Constant <value_int = 2> () t = CumSum <reverse = 1> (x, a)",
        "p = Constant <value_ints = [1, 0, 2, 0, 3, 1]> () t = Pad(x, p)",
        "r = Constant <value_ints = [2, 1, 3]> () t = Tile(x, r)",
        "t = Trilu <upper = 0> (x)",
        "t = Softplus(x)",
        "t = Softsign(x)",
        "t = HardSwish(x)",
        "t = Selu(x)",
        "t = Mish(x)",
    ],
)
@pytest.mark.parametrize("shape", ["2, 3, 4", "n, 3, m"])
def test_what_moves_and_reduces(body: str, shape: str) -> None:
    tail = "u = Mul(t, t) y = ReduceSum <keepdims = 0> (u) z = Cast <to = 1> (y)"
    text = f"g (float[{shape}] x) => (float z) {{ {body} {tail} }}"
    check_gradients(model_of(text), {"x": normal(2, 3, 4)}, ["x"])


def test_padding_by_less_than_nothing_cuts() -> None:
    text = (
        "g (float[2, 4] x) => (float[2, 5] y) { p = Constant <value_ints = [-1, 2]> ()"
        "v = Constant <value_float = 3.0> () a = Constant <value_ints = [-1]> ()"
        "t = Pad(x, p, v, a) y = Mul(t, t) }"
    )
    x = normal(2, 4)
    expected = 2 * x
    expected[:, 0] = 0
    with Session(gradients(Artifact.from_proto(model_of(text)), "y", ["x"])) as session:
        close(session.run({"x": x})["x_gradient"], expected, 1e-6, "x")


@pytest.mark.parametrize(
    "call",
    [
        "DepthToSpace <blocksize = 2>",
        'DepthToSpace <blocksize = 2, mode = "CRD">',
        "SpaceToDepth <blocksize = 2>",
    ],
)
def test_blocks(call: str) -> None:
    text = (
        "g (float[n, 8, 2, 4] x, float[n, c, h, w] k) => (float[n, c, h, w] y)"
        f"{{ t = {call} (x) y = Mul(t, k) }}"
    )
    shape = (2, 32, 1, 2) if call.startswith("Space") else (2, 2, 4, 8)
    check_gradients(model_of(text), {"x": normal(2, 8, 2, 4), "k": normal(*shape)}, ["x"])


def test_elements_picked_twice_are_added_up() -> None:
    text = (
        "g (float[3, 4] x, int64[3, 5] i, float[3, 5] k) => (float[3, 5] y)"
        "{ t = GatherElements <axis = 1> (x, i) y = Mul(t, k) }"
    )
    indices = np.array([[0, 0, 3, -1, 1], [2, 2, 2, 0, 1], [1, 3, 3, 0, 0]])
    feeds = {"x": normal(3, 4), "i": indices, "k": normal(3, 5)}
    check_gradients(model_of(text), feeds, ["x"])


def test_operators_of_the_runtime_are_written_plainly_first() -> None:
    head = '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>'
    fused = "y = com.microsoft.QuickGelu <alpha = 1.702> (x)"
    plain = "a = Constant <value_float = 1.702> () b = Mul(x, a) c = Sigmoid(b) y = Mul(x, c)"
    found = []
    for body in (fused, plain):
        proto = onnx.parser.parse_model(f"{head} g (float[2, 4] x) => (float[2, 4] y) {{ {body} }}")
        with Session(gradients(Artifact.from_proto(proto), "y", ["x"])) as session:
            x = np.linspace(-3, 3, 8, dtype=np.float32).reshape(2, 4)
            found.append(session.run({"x": x})["x_gradient"])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)


def test_instance_normalization() -> None:
    text = (
        "g (float[2, 3, 4] x, float[3] s, float[3] b, float[2, 3, 4] k) => (float[2, 3, 4] y)"
        "{ t = InstanceNormalization <epsilon = 0.001> (x, s, b) y = Mul(t, k) }"
    )
    feeds = {"x": normal(2, 3, 4), "s": normal(3), "b": normal(3), "k": normal(2, 3, 4)}
    check_gradients(model_of(text), feeds, ["x", "s", "b"])


def test_layer_normalization() -> None:
    text = (
        "g (float[2, 3, 4] x, float[4] s, float[4] b, float[2, 3, 4] k) => (float[2, 3, 4] y)"
        "{ t = LayerNormalization <epsilon = 0.001> (x, s, b) y = Mul(t, k) }"
    )
    feeds = {"x": normal(2, 3, 4), "s": normal(4), "b": normal(4), "k": normal(2, 3, 4)}
    check_gradients(model_of(text), feeds, ["x", "s", "b"])


@pytest.mark.parametrize("training", [0, 1])
def test_batch_normalization(training: int) -> None:
    outputs = "t, rm, rv" if training else "t"
    text = (
        "g (float[4, 3, 2] x, float[3] s, float[3] b, float[3] m, float[3] v, float[4, 3, 2] k)"
        f"=> (float[4, 3, 2] y) {{ {outputs} = BatchNormalization"
        f"<training_mode = {training}, epsilon = 0.001> (x, s, b, m, v) y = Mul(t, k) }}"
    )
    feeds = {name: normal(3) for name in "sbm"}
    feeds |= {"x": normal(4, 3, 2), "k": normal(4, 3, 2), "v": np.abs(normal(3)) + 0.5}
    check_gradients(model_of(text), feeds, ["x", "s", "b"])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss"])
def test_losses(kind: str, reduction: str, weighted: bool) -> None:
    given = "x, l, w" if weighted else "x, l"
    result = "[4, 2]" if reduction == "none" else ""
    text = (
        f"g (float[4, 3, 2] x, int64[4, 2] l, float[3] w) => (float{result} y) {{"
        f'y = {kind} <reduction = "{reduction}", ignore_index = 2> ({given}) }}'
    )
    feeds = {
        "x": normal(4, 3, 2),
        "l": np.array([[0, 1], [2, 1], [1, 1], [0, 2]]),
        "w": np.array([0.5, 2.0, 1.0], np.float32),
    }
    check_gradients(model_of(text), feeds, ["x", "w"] if weighted else ["x"])


@pytest.mark.parametrize(("low", "high"), [(-0.4, 0.6), (0.6, -0.4)])
def test_limits_get_what_they_cut(low: float, high: float) -> None:
    text = (
        "g (float[3, 4] x, float a, float b, float[3, 4] k) => (float[3, 4] y)"
        "{ t = Clip(x, a, b) y = Mul(t, k) }"
    )
    feeds = {"x": normal(3, 4), "k": normal(3, 4)}
    feeds |= {"a": np.array(low, np.float32), "b": np.array(high, np.float32)}
    check_gradients(model_of(text), feeds, ["x", "a", "b"])


def test_a_gradient_that_is_not_known_is_refused_not_zero() -> None:
    text = (
        "g (float[3] x, float r) => (float[3] y)"
        "{ one = Constant <value_int = 1> () on = Cast <to = 9> (one) y = Dropout(x, r, on) }"
    )
    artifact = Artifact.from_proto(model_of(text))
    gradients(artifact, "y", ["x"])
    with pytest.raises(SmithError, match=r"Dropout.*its gradient by input 1 is not known"):
        gradients(artifact, "y", ["r"])


def test_rows_that_are_picked_often_are_added_up_every_time() -> None:
    text = (
        "g (float[2048, 8] x, int64[n] i, float[n, 8] k) => (float[n, 8] y)"
        "{ t = Gather(x, i) y = Mul(t, k) }"
    )
    made = gradients(Artifact.from_proto(model_of(text)), "y", ["x"])
    indices, factors = RNG.integers(0, 40, 4096), normal(4096, 8)
    expected = np.zeros((2048, 8))
    np.add.at(expected, indices, factors.astype(np.float64))
    with Session(made, threads=4) as session:
        for _ in range(50):
            feeds = {"x": normal(2048, 8), "i": indices, "k": factors}
            close(session.run(feeds)["x_gradient"], expected, 1e-5, "x")


def test_what_does_not_depend_gets_zeros_and_names_are_checked() -> None:
    text = "g (float[2] x, float[3] z) => (float[2] y) { y = Exp(x) }"
    artifact = Artifact.from_proto(model_of(text))
    with Session(gradients(artifact, "y", ["z"])) as session:
        assert (session.run({"x": normal(2), "z": normal(3)})["z_gradient"] == 0).all()
    with pytest.raises(SmithError, match="no input or initializer 'q'"):
        gradients(artifact, "y", ["q"])
    with pytest.raises(SmithError, match="no output 'x'"):
        gradients(artifact, "x", ["x"])


def test_a_node_without_a_derivative_is_named() -> None:
    text = "g (float[4] x) => (float[4] y) { y = Det(x) }"
    with pytest.raises(SmithError, match=r"'y' \(Det\).*inverse of a matrix"):
        gradients(Artifact.from_proto(model_of(text)), "y", ["x"])
