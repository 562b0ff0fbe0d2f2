"""What a network is at inference: phases and stages, losses left out, forms of 2013 and 2014."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.convert import convert
from onnxsmith.runtime.session import Session

INPUT = 'input: "data" input_dim: 1 input_dim: 2 input_dim: 6 input_dim: 6\n'


def relu(name: str, bottom: str, top: str, more: str = "") -> str:
    return f'layer {{ name: "{name}" type: "ReLU" bottom: "{bottom}" top: "{top}" {more} }}\n'


def outputs(artifact: Any) -> list[str]:
    return [value.name for value in artifact.spec.outputs]


TRAIN = """
name: "train"
layer { name: "mnist" type: "Data" top: "data" top: "label" include { phase: TRAIN }
        transform_param { scale: 0.00390625 crop_size: 6 } data_param { batch_size: 64 } }
layer { name: "mnist" type: "Data" top: "data" top: "label" include { phase: TEST }
        transform_param { crop_size: 6 } data_param { batch_size: 100 backend: LMDB } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "drop" type: "Dropout" bottom: "conv" top: "conv" }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
        inner_product_param { num_output: 5 } }
layer { name: "half" type: "Power" bottom: "label" top: "half" power_param { scale: 0.5 } }
layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy"
        include { phase: TEST } }
layer { name: "loss" type: "%s" bottom: "ip" bottom: "label" top: "loss" }
"""


@pytest.fixture
def trained(rng: Any) -> Any:
    return {
        "conv": [rng.normal(size=(4, 3, 3, 3)), rng.normal(size=4)],
        "ip": [rng.normal(size=(5, 64)), rng.normal(size=5)],
    }


@pytest.mark.parametrize(
    ("loss", "output", "kinds"),
    [
        ("SoftmaxWithLoss", "loss", ["Conv", "Flatten", "Gemm", "Softmax"]),
        ("SigmoidCrossEntropyLoss", "loss", ["Conv", "Flatten", "Gemm", "Sigmoid"]),
        ("EuclideanLoss", "ip", ["Conv", "Flatten", "Gemm"]),
    ],
)
def test_networks_for_training_lose_data_labels_and_losses(
    caffe: Any, trained: Any, loss: str, output: str, kinds: Any
) -> None:
    """The channels of the input come from the first convolution's weights."""
    artifact = caffe.artifact(TRAIN % loss, trained)
    assert [str(v) for v in artifact.spec.inputs] == ["data: float32[batch,3,6,6]"]
    assert [str(v) for v in artifact.spec.outputs] == [f"{output}: float32[batch,5]"]
    assert [node.op_type for node in artifact.model.graph] == kinds


def test_what_a_data_layer_does_to_images_is_named(caffe: Any, trained: Any) -> None:
    text = (TRAIN % "SoftmaxWithLoss").replace(
        "{ crop_size: 6 }", "{ crop_size: 6 scale: 0.5 mean_value: 104 mean_value: 117 }"
    )
    assert any(
        "trained on 'data' minus 104.0, 117.0 times 0.5: feed it so" in warning
        for warning in caffe.convert(text, trained).warnings
    )


def test_a_loss_beside_its_softmax_is_dropped(caffe: Any, trained: Any) -> None:
    text = TRAIN % "SoftmaxWithLoss"
    text += 'layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }'
    assert outputs(caffe.artifact(text, trained)) == ["prob"]


def test_the_size_of_a_data_layer_may_have_to_be_given(caffe: Any, trained: Any) -> None:
    text = (TRAIN % "SoftmaxWithLoss").replace("crop_size: 6", "")
    with pytest.raises(SmithError, match="does not tell the size of the input 'data'") as caught:
        caffe.artifact(text, trained)
    assert "--input 'data:float32[batch,3,224,224]'" in caught.value.hint
    artifact = caffe.artifact(text, trained, inputs=["data:float32[N,3,6,6]"])
    assert [str(v) for v in artifact.spec.inputs] == ["data: float32[N,3,6,6]"]


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        ("include { phase: TEST }", True),
        ("include { phase: TRAIN }", False),
        ("exclude { phase: TRAIN }", True),
        ("exclude { phase: TEST }", False),
        ("include { phase: TRAIN } include { phase: TEST }", True),
        ("include { min_level: 1 }", False),
        ("include { max_level: 0 }", True),
        ("include { stage: 'other' }", False),
        ("include { not_stage: 'other' }", True),
        ("exclude { stage: 'other' }", True),
        ("include { stage: 'deploy' }", True),
        ("exclude { stage: 'deploy' }", False),
        ("include { }", True),
        ("phase: TRAIN", True),
    ],
)
def test_rules(caffe: Any, rule: str, kept: bool) -> None:
    text = INPUT + relu("a", "data", "x") + relu("b", "x", "y", rule)
    assert outputs(caffe.artifact(text)) == (["y"] if kept else ["x"])


def test_stages_are_parts(caffe: Any) -> None:
    text = INPUT + relu("a", "data", "x") + relu("b", "x", "y", "include { stage: 'fine' }")
    assert outputs(caffe.artifact(text, part="fine")) == ["y"]
    with pytest.raises(SmithError, match="no stage 'coarse'") as caught:
        caffe.artifact(text, part="coarse")
    assert caught.value.hint == "its stages: fine"
    with pytest.raises(SmithError, match="both include and exclude"):
        caffe.artifact(INPUT + relu("a", "data", "x", "include { } exclude { }"))


V1 = """name: "v1" input: "data" input_dim: 1 input_dim: 2 input_dim: 6 input_dim: 6
layers { bottom: "data" top: "c" name: "c" type: CONVOLUTION blobs_lr: 1 blobs_lr: 2
         convolution_param { num_output: 4 kernel_size: 3 } }
layers { bottom: "c" top: "c" name: "r" type: 18 }
layers { bottom: "c" top: "ip" name: "ip" type: INNER_PRODUCT
         inner_product_param { num_output: 5 } }
layers { bottom: "ip" bottom: "label" top: "loss" name: "loss" type: SOFTMAX_LOSS
         include { phase: TRAIN } }
layers { bottom: "ip" top: "prob" name: "prob" type: SOFTMAX }"""
V0 = """name: "v0" input: "data" input_dim: 1 input_dim: 2 input_dim: 4 input_dim: 4
layers { layer { name: "pad" type: "padding" pad: 1 } bottom: "data" top: "pad" }
layers { layer { name: "c" type: "conv" num_output: 4 kernelsize: 3 biasterm: true }
         bottom: "pad" top: "c" }
layers { layer { name: "r" type: "relu" } bottom: "c" top: "c" }
layers { layer { name: "ip" type: "innerproduct" num_output: 5 } bottom: "c" top: "ip" }
layers { layer { name: "prob" type: "softmax" } bottom: "ip" top: "prob" }"""


@pytest.mark.parametrize(("text", "form", "size"), [(V1, "v1", 6), (V0, "v0", 4)])
def test_old_forms(caffe: Any, rng: Any, weights: Any, text: str, form: str, size: int) -> None:
    arrays = {
        "c": [rng.normal(size=(4, 2, 3, 3)), rng.normal(size=4)],
        "ip": [rng.normal(size=(5, 64)), rng.normal(size=5)],
    }
    path = caffe.write(text)
    path.with_suffix(".caffemodel").write_bytes(weights(arrays, form, "legacy"))
    today = """input: "data" input_dim: 1 input_dim: 2 input_dim: %d input_dim: %d
    layer { name: "c" type: "Convolution" bottom: "data" top: "c"
            convolution_param { num_output: 4 kernel_size: 3 pad: %d } }
    layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
    layer { name: "ip" type: "InnerProduct" bottom: "c" top: "ip"
            inner_product_param { num_output: 5 } }
    layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }"""
    x = rng.normal(size=(3, 2, size, size)).astype(np.float32)
    expected = caffe.run(today % (size, size, form == "v0"), arrays, {"data": x})["prob"]
    with Session(convert(path, verify=False).artifact, optimize=False) as session:
        found = session.run({"data": x})["prob"]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("layers { name: 'a' type: WARP bottom: 'data' top: 'y' }", "type should be one of"),
        ("layers { name: 'a' bottom: 'data' top: 'y' }", "the layer 'a' has no type"),
        (
            "layers { layer { name: 'a' type: 'warp' } bottom: 'data' top: 'y' }",
            "unknown type 'warp'",
        ),
        ("layers { type: RELU } layer { type: 'ReLU' }", "mixes layers of the old and the current"),
        (
            "layers { layer { type: 'padding' pad: 1 } bottom: 'data' top: 'p' } "
            "layers { layer { name: 'r' type: 'relu' } bottom: 'p' top: 'r' }",
            "cannot be part of it",
        ),
    ],
)
def test_old_forms_that_are_wrong(caffe: Any, text: str, message: str) -> None:
    with pytest.raises(SmithError, match=message):
        caffe.artifact(INPUT + text)
