# ruff: noqa: E501 - a graph is easier read in one line
"""Transposed convolutions as convolutions and a shuffle."""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.quantization.quantize_static import QuantizeStatic
from onnxsmith.passes.quantization.shuffle_conv_transposes import ShuffleConvTransposes
from onnxsmith.runtime.session import Session

RNG = np.random.default_rng(9)
B = RNG.standard_normal(4).astype(np.float32)


def model(body: str, kernel: tuple[int, ...] = (4, 4), opset: int = 20, **extra: str) -> ir.Model:
    shape = extra.get("shape", "N,3,H,W")
    weight = RNG.standard_normal((3, 4, *kernel)).astype(np.float32)
    tensors = {"w": weight, "b": B, "zero": np.array(0, np.float32), "one": np.array(1, np.float32)}
    return ir.from_onnx_text(
        f'<ir_version: 10, opset_import: ["" : {opset}]> g (float[{shape}] x{extra.get("inputs", "")}) => (float[] y) {{ {body} }}',
        [ir.tensor(a, name=n) for n, a in tensors.items() if f" {n}" in body],
    )


def rewritten(before: ir.Model, **options: object) -> ir.Model:
    return ShuffleConvTransposes(**options).apply(before.clone(), PassContext()).model  # type: ignore[arg-type]


def run(which: ir.Model, x: np.ndarray) -> np.ndarray:
    with Session(Artifact(which), optimize=False) as session:
        return session.run({"x": x})["y"]


def ops(which: ir.Model) -> list[str]:
    return [node.op_type for node in which.graph]


@pytest.mark.parametrize("bias", ["", ", b"])
@pytest.mark.parametrize(
    ("kernel", "attributes"),
    [
        ((4, 4), "strides = [2, 2], pads = [1, 1, 1, 1]"),
        ((3, 3), "strides = [2, 2], pads = [1, 1, 1, 1], output_padding = [1, 1]"),
        ((3, 5), "strides = [2, 2], pads = [0, 1, 1, 2]"),
        ((7, 5), "strides = [3, 3], pads = [2, 0, 1, 3], output_padding = [0, 2]"),
        ((16, 16), "strides = [8, 8], pads = [4, 4, 4, 4]"),
    ],
)
def test_the_numbers_stay_the_same(kernel: tuple[int, int], attributes: str, bias: str) -> None:
    before = model(f"y = ConvTranspose<{attributes}>(x, w{bias})", kernel)
    after = rewritten(before)
    assert ops(after) == ["Conv", "DepthToSpace", "Slice"]
    for size in ((5, 6), (1, 2)):
        x = RNG.standard_normal((2, 3, *size)).astype(np.float32)
        wanted = run(before, x)
        np.testing.assert_allclose(run(after, x), wanted, atol=2e-6 * np.abs(wanted).max())


def test_as_text() -> None:
    after = rewritten(model("y = ConvTranspose<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w, b)"))
    assert [
        (node.op_type, {a.name: a.value for a in node.attributes.values()}) for node in after.graph
    ] == [
        ("Conv", {"pads": (1, 1, 1, 1)}),
        ("DepthToSpace", {"blocksize": 2, "mode": "DCR"}),
        ("Slice", {}),
    ]
    constants = {n: v.const_value.numpy() for n, v in after.graph.initializers.items()}
    assert constants["y_weight"].shape == (16, 3, 2, 2)
    np.testing.assert_array_equal(constants["y_bias"], np.tile(B, 4))
    assert constants["y_begin"].tolist() == [1, 1]
    assert constants["y_end"].tolist() == [-1, -1]
    assert "w" not in constants


def test_nothing_is_cut_where_nothing_is_over() -> None:
    before = model("y = ConvTranspose<strides = [2, 2]>(x, w)", (2, 2))
    after = rewritten(before, smallest=1.0)
    assert ops(after) == ["Conv", "DepthToSpace"]
    x = RNG.standard_normal((1, 3, 3, 4)).astype(np.float32)
    np.testing.assert_allclose(run(after, x), run(before, x), atol=1e-6)


@pytest.mark.parametrize("single", ["Relu(t)", "Clip(t, zero, one)", "LeakyRelu<alpha = 0.3>(t)"])
def test_what_alone_reads_the_result_goes_before_the_shuffle(single: str) -> None:
    before = model(f"t = ConvTranspose<strides = [2, 2]>(x, w, b) y = {single}", (4, 4))
    after = rewritten(before)
    assert ops(after) == ["Conv", single.split("(")[0].split("<")[0], "DepthToSpace"]
    x = RNG.standard_normal((1, 3, 4, 4)).astype(np.float32)
    np.testing.assert_allclose(run(after, x), run(before, x), atol=1e-5)


def test_what_reads_it_beside_others_stays_behind() -> None:
    body = "t = ConvTranspose<strides = [2, 2]>(x, w, b) r = Relu(t) y = Add(r, t)"
    assert ops(rewritten(model(body))) == ["Conv", "DepthToSpace", "Relu", "Add"]


@pytest.mark.parametrize(
    ("attributes", "arguments", "extra"),
    [
        ("strides = [2, 2], group = 3", "x, w", {}),
        ("strides = [2, 2], dilations = [2, 2]", "x, w", {}),
        ("strides = [2, 1]", "x, w", {}),
        ("strides = [1, 1]", "x, w", {}),
        ('strides = [2, 2], auto_pad = "SAME_UPPER"', "x, w", {}),
        ("strides = [2, 2], output_shape = [9, 9]", "x, w", {}),
        ("strides = [2, 2], output_padding = [1, 1]", "x, w", {}),  # beyond the kernel
        ("strides = [2, 2]", "x, v", {"inputs": ", float[3,4,4,4] v"}),
        ("strides = [2, 2]", "x, w, c", {"inputs": ", float[4] c"}),
        ("strides = [2]", "x, w", {"kernel": (4,), "shape": "N,3,H"}),
        ("strides = [2, 2]", "x, w", {"opset": 11}),
        ("strides = [3, 3]", "x, w", {}),  # the kernel is hardly larger than the stride
    ],
)
def test_what_is_left_alone(attributes: str, arguments: str, extra: dict[str, object]) -> None:
    before = model(f"y = ConvTranspose<{attributes}>({arguments})", **extra)  # type: ignore[arg-type]
    result = ShuffleConvTransposes().apply(before, PassContext())
    assert not result.modified
    assert ops(result.model) == ["ConvTranspose"]


def test_what_the_user_excludes_stays() -> None:
    before = model("y = ConvTranspose<strides = [2, 2]>(x, w)")
    assert ops(rewritten(before, exclude=("y",))) == ["ConvTranspose"]
    assert ops(rewritten(before, only=("Gemm",))) == ["ConvTranspose"]
    assert ops(rewritten(before, only=("y",)))[0] == "Conv"
    # The convolution would not be among the only ones, and stay in float.
    assert ops(rewritten(before, only=("ConvTranspose",))) == ["ConvTranspose"]


def test_the_whole_chain_is_in_integers() -> None:
    body = "t = ConvTranspose<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w, b) r = Relu(t) y = Conv(r, q)"
    before = model(body, shape="N,3,6,6")
    last = ir.tensor(RNG.standard_normal((2, 4, 1, 1)).astype(np.float32), name="q")
    before.graph.register_initializer(
        ir.Value(
            name="q", const_value=last, shape=last.shape, type=ir.TensorType(ir.DataType.FLOAT)
        )
    )
    before.graph[-1].replace_input_with(1, before.graph.initializers["q"])
    x = RNG.standard_normal((40, 3, 6, 6)).astype(np.float32)

    def samples() -> Iterator[dict[str, np.ndarray]]:
        yield {"x": x}

    after = QuantizeStatic().apply(rewritten(before), PassContext(samples=samples))
    assert after.details["left_float"] == []
    pairs = [n.outputs[0].name for n in after.model.graph if n.op_type == "QuantizeLinear"]
    assert len(pairs) == 5  # x, behind the Relu, the shuffle and the cut, and y
    got, wanted = run(after.model, x), run(before, x)
    assert 10 * np.log10(np.square(wanted).sum() / np.square(got - wanted).sum()) > 30
