"""Whole networks: phases, old forms, names, inputs, and an open batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.runtime.session import Session

INPUT = 'input: "data" input_dim: 1 input_dim: 2 input_dim: 6 input_dim: 6\n'


def relu(name: str, bottom: str, top: str, more: str = "") -> str:
    return f'layer {{ name: "{name}" type: "ReLU" bottom: "{bottom}" top: "{top}" {more} }}\n'


def names(artifact: Any) -> tuple[list[str], list[str]]:
    return [v.name for v in artifact.spec.inputs], [v.name for v in artifact.spec.outputs]


def test_nodes_and_values_are_called_after_layers_and_blobs(caffe: Any, rng: Any) -> None:
    text = INPUT + (
        'layer { name: "conv" type: "Convolution" bottom: "data" top: "c"'
        " convolution_param { num_output: 3 kernel_size: 3 } }\n"
    )
    text += relu("act", "c", "c") + relu("out", "c", "prob")
    graph = caffe.artifact(text, {"conv": [rng.normal(size=(3, 2, 3, 3)), np.zeros(3)]}).model.graph
    assert [node.name for node in graph] == ["conv", "act", "out"]
    assert [node.outputs[0].name for node in graph] == ["c/conv", "c", "prob"]
    assert list(graph.initializers) == ["conv/weight", "conv/bias"]


def test_in_place_layers_over_the_input(caffe: Any) -> None:
    artifact = caffe.artifact(INPUT + relu("a", "data", "data") + relu("b", "data", "y"))
    assert names(artifact) == (["data"], ["y"])
    artifact = caffe.artifact(INPUT + relu("a", "data", "data"))
    assert names(artifact) == (["data"], ["data/a"])


def test_outputs_are_what_nothing_reads(caffe: Any) -> None:
    text = INPUT + relu("a", "data", "x") + relu("b", "x", "y") + relu("c", "x", "z")
    assert names(caffe.artifact(text)) == (["data"], ["y", "z"])
    text += 'layer { name: "s" type: "Silence" bottom: "z" }'
    artifact = caffe.artifact(text)
    assert names(artifact) == (["data"], ["y"])
    assert len(artifact.model.graph) == 2  # what only Silence reads is gone


def test_outputs_that_are_only_other_names(caffe: Any, rng: Any) -> None:
    """A Split's tops, and a Dropout at the end, keep their names."""
    text = INPUT + relu("a", "data", "x")
    text += 'layer { name: "s" type: "Split" bottom: "x" top: "p" top: "q" }\n'
    text += 'layer { name: "d" type: "Dropout" bottom: "p" top: "r" }\n'
    x = rng.normal(size=(2, 2, 6, 6))
    found = caffe.run(text, None, {"data": x})
    assert set(found) == {"q", "r"}
    for array in found.values():
        np.testing.assert_array_equal(array, np.maximum(x, 0).astype(np.float32))
    assert len(caffe.artifact(text).model.graph) == 2
    text = INPUT + relu("a", "data", "x")
    text += 'layer { name: "d" type: "Dropout" bottom: "x" top: "r" }\n'
    assert [n.outputs[0].name for n in caffe.artifact(text).model.graph] == ["r"]


def test_layer_and_blob_names_that_collide(caffe: Any, rng: Any) -> None:
    text = INPUT + relu("a/relu", "data", "a") + relu("a", "a", "a") + relu("a", "a", "a/relu")
    x = rng.normal(size=(1, 2, 6, 6))
    (found,) = caffe.run(text, None, {"data": x}).values()
    np.testing.assert_array_equal(found, np.maximum(x, 0).astype(np.float32))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "describes no network: it has no layers"),
        ("net: 'x' base_lr: 0.1", "describes no network"),
        (INPUT, "it has no layers"),
        (
            relu("a", "data", "x"),
            "layer 'a' \\(ReLU\\) reads 'data', which nothing before it makes",
        ),
        (INPUT + relu("a", "z", "x"), "reads 'z'"),
        (
            INPUT + 'layer { name: "it" type: "Python" bottom: "data" top: "y" }',
            "layer 'it' \\(Python\\): this type of layer is not supported",
        ),
        (
            INPUT + 'layer { name: "it" type: "Im2col" bottom: "data" top: "y" }',
            "Im2col.*not supported",
        ),
        (INPUT + 'layer { name: "it" bottom: "data" top: "y" }', "layer 'it' \\(\\)"),
        (
            INPUT + 'layer { name: "it" type: "ReLU" bottom: "data" top: "y" top: "z" }',
            "has 2 tops, and 1 are supported",
        ),
        ('input: "data" ' + relu("a", "data", "x"), "does not tell the size of the input 'data'"),
        ('input: "data" input_dim: 0 ' + relu("a", "data", "x"), "does not tell the size"),
        ('input: "data" input: "b" input_dim: 1 ' + relu("a", "data", "x"), "names 2 inputs"),
        (
            'input: "data" input: "data" input_shape { dim: 1 } input_shape { dim: 1 } '
            + relu("a", "data", "x"),
            "declared twice",
        ),
        (
            'input: "data" input_shape { dim: 2000000000 dim: 2000000000 }'
            + relu("a", "data", "x"),
            "has the size 2000000000x2000000000",
        ),
        (INPUT + 'layer { name: "s" type: "Silence" bottom: "data" }', "computes nothing"),
        (
            INPUT + relu("a", "data", "x") + 'layer { name: "s" type: "Silence" bottom: "x" }',
            "nothing comes out",
        ),
        (INPUT + relu("a", "data", "x") * 10_001, "more than 10,000 layers"),
        (INPUT + relu("a", "data", ""), "a top of layer 'a' .* has no name"),
        ('input: "" input_dim: 1 ' + relu("a", "", "x"), "an input has no name"),
        ("layer: 5", "layer should be a message in braces"),
    ],
)
def test_networks_that_are_wrong(caffe: Any, text: str, message: str) -> None:
    with pytest.raises(SmithError, match=message):
        caffe.artifact(text)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("other:float32[1,2,6,6]", "no input 'other'"),
        ("data:float16[1,2,6,6]", "cannot be float16"),
        ("data:float32[1,2,?,6]", "is not complete"),
        ("data:float32[0,2,6,6]", "is 0"),
    ],
)
def test_given_inputs_that_do_not_fit(caffe: Any, given: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        caffe.artifact(INPUT + relu("a", "data", "x"), inputs=[given])


def test_settings_that_are_unknown_are_named(caffe: Any) -> None:
    text = INPUT + relu(
        "a", "data", "x", "relu_param { engine: CUDNN wobble: 3 } foo_param { b: 1 }"
    )
    warnings = caffe.convert(text).warnings
    assert any(
        "layer 'a' (ReLU): relu_param.wobble, foo_param was left out of account" in warning
        for warning in warnings
    )
    assert not any("engine" in warning for warning in warnings)


def test_layers_may_share_weights(caffe: Any, rng: Any) -> None:
    text = INPUT + "".join(
        f'layer {{ name: "{name}" type: "Convolution" bottom: "data" top: "{name}" '
        'param { name: "w" } param { name: "b" } '
        "convolution_param { num_output: 3 kernel_size: 3 } }\n"
        for name in ("one", "two")
    )
    arrays = {"one": [rng.normal(size=(3, 2, 3, 3)), rng.normal(size=3)]}
    found = caffe.run(text, arrays, {"data": rng.normal(size=(1, 2, 6, 6))})
    np.testing.assert_array_equal(found["one"], found["two"])
    assert len(caffe.artifact(text, arrays).model.graph.initializers) == 2


RESHAPE = (
    INPUT
    + """layer { name: "r" type: "Reshape" bottom: "data" top: "y"
                     reshape_param { shape { %s } } }"""
)


@pytest.mark.parametrize(
    ("dims", "shape"),
    [
        ("dim: 1 dim: -1", (1, 72)),
        ("dim: 0 dim: -1 dim: 4", (1, 18, 4)),
        ("dim: 1 dim: 8 dim: 9", (1, 8, 9)),
        ("dim: -1 dim: 72", (1, 72)),
        ("dim: -1 dim: 6", (12, 6)),
    ],
)
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_a_batch_baked_into_a_reshape_stays_open(
    caffe: Any, rng: Any, dims: str, shape: Any, batch: int
) -> None:
    """Each sample gives what it gives alone."""
    artifact = caffe.artifact(RESHAPE % dims)
    x = rng.normal(size=(batch, 2, 6, 6)).astype(np.float32)
    with Session(artifact, optimize=False) as session:
        found = session.run({"data": x})["y"]
        alone = [session.run({"data": one[None]})["y"] for one in x]
    assert all(one.shape == shape for one in alone)
    np.testing.assert_array_equal(found, np.concatenate(alone))


def test_a_batch_that_cannot_stay_open_is_fixed_with_a_warning(caffe: Any, rng: Any) -> None:
    result = caffe.convert(RESHAPE % "dim: 2 dim: 36")
    assert [str(v) for v in result.artifact.spec.inputs] == ["data: float32[1,2,6,6]"]
    (warning,) = [w for w in result.warnings if "batch" in w]
    assert warning == "the batch is fixed at 1: layer 'r' (Reshape) needs the size batch"
    with pytest.raises(SmithError, match="needs the size N"):
        caffe.artifact(RESHAPE % "dim: 2 dim: 36", inputs=["data:float32[N,2,6,6]"])


def test_a_batch_that_is_asked_for_by_name_is_as_open(caffe: Any) -> None:
    text = RESHAPE % "dim: 1 dim: 8 dim: 9"
    artifact = caffe.artifact(text, inputs=["data:float32[N,2,6,6]"])
    assert [str(v) for v in artifact.spec.outputs] == ["y: float32[N,8,9]"]


def test_a_declared_batch_of_ten_is_open_too(caffe: Any, rng: Any) -> None:
    text = INPUT.replace("input_dim: 1", "input_dim: 10", 1)
    text += 'layer { name: "r" type: "Reshape" bottom: "data" top: "y"'
    text += " reshape_param { shape { dim: 10 dim: -1 } } }"
    artifact = caffe.artifact(text)
    assert [str(v) for v in artifact.spec.outputs] == ["y: float32[batch,72]"]


def test_height_and_width_may_stay_open(caffe: Any, rng: Any) -> None:
    text = (
        INPUT
        + """
    layer { name: "c" type: "Convolution" bottom: "data" top: "c"
            convolution_param { num_output: 3 kernel_size: 3 pad: 1 stride: 2 } }
    layer { name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param { global_pooling: true } }
    layer { name: "f" type: "InnerProduct" bottom: "p" top: "f"
            inner_product_param { num_output: 2 } }"""
    )
    arrays = {
        "c": [rng.normal(size=(3, 2, 3, 3)), rng.normal(size=3)],
        "f": [rng.normal(size=(2, 3)), rng.normal(size=2)],
    }
    artifact = caffe.artifact(text, arrays, inputs=["data:float32[batch,2,height,width]"])
    with Session(artifact, optimize=False) as session:
        for shape in [(1, 2, 6, 6), (3, 2, 9, 14)]:
            assert session.run({"data": np.zeros(shape, np.float32)})["f"].shape == (shape[0], 2)


@pytest.mark.parametrize("opset", [13, 17, 20, 23])
def test_opsets(caffe: Any, rng: Any, opset: int) -> None:
    text = (
        INPUT
        + """
    layer { name: "n" type: "MVN" bottom: "data" top: "n" }
    layer { name: "s" type: "Slice" bottom: "n" top: "a" top: "b" }
    layer { name: "e" type: "Eltwise" bottom: "a" bottom: "b" top: "e" }
    layer { name: "r" type: "Reduction" bottom: "e" top: "r" reduction_param { axis: 1 } }"""
    )
    x = rng.normal(size=(2, 2, 6, 6))
    artifact = caffe.artifact(text, None, opset=opset)
    assert artifact.model.opset_imports[""] == opset
    with Session(artifact, optimize=False) as session:
        found = session.run({"data": x.astype(np.float32)})["r"]
    expected = (x - x.mean((2, 3), keepdims=True)) / x.std((2, 3), keepdims=True)
    np.testing.assert_allclose(found, expected.sum((1, 2, 3)), rtol=1e-3, atol=1e-3)


def test_dummy_data_is_the_input_where_there_is_no_other(caffe: Any) -> None:
    text = """layer { name: "d" type: "DummyData" top: "x"
                      dummy_data_param { num: 4 channels: 3 height: 5 width: 6 } }"""
    artifact = caffe.artifact(text + relu("r", "x", "y"))
    assert [str(v) for v in artifact.spec.inputs] == ["x: float32[batch,3,5,6]"]


def test_parameter_and_constant_dummy_data(caffe: Any, rng: Any) -> None:
    text = (
        INPUT
        + """
    layer { name: "p" type: "Parameter" top: "p" parameter_param { shape { dim: 2 } } }
    layer { name: "d" type: "DummyData" top: "d"
            dummy_data_param { shape { dim: 2 } data_filler { type: "constant" value: 3 } } }
    layer { name: "s" type: "Scale" bottom: "data" bottom: "p" top: "s" }
    layer { name: "b" type: "Bias" bottom: "s" bottom: "d" top: "y" }"""
    )
    p, x = rng.normal(size=2), rng.normal(size=(1, 2, 6, 6))
    found = caffe.run(text, {"p": [p]}, {"data": x})["y"]
    np.testing.assert_allclose(found, x * p[:, None, None] + 3, rtol=1e-5)


def test_a_constant_that_comes_out(caffe: Any) -> None:
    """ONNX has no outputs without a node."""
    text = (
        'input: "x" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8\n'
        + """
    layer { name: "p" type: "PriorBox" bottom: "x" bottom: "x" top: "p"
            prior_box_param { min_size: 2 } }"""
        + relu("r", "x", "y")
    )
    artifact = caffe.artifact(text)
    assert sorted(node.op_type for node in artifact.model.graph) == ["Constant", "Relu"]
    assert names(artifact)[1] == ["p", "y"]
