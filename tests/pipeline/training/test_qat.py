"""Quantization-aware training: better than rounding afterwards, in the format of quantize."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.cli.main import run
from onnxsmith.errors import SmithError, UsageError
from onnxsmith.passes.quantization.fake_quantize import make_trainable
from onnxsmith.pipeline.data import open_data
from onnxsmith.pipeline.evaluation import evaluate
from onnxsmith.pipeline.frontends.layers.description import Network, build
from onnxsmith.pipeline.quantization.request import QuantizeRequest
from onnxsmith.pipeline.quantization.run import quantize
from onnxsmith.pipeline.training.request import TrainRequest
from onnxsmith.pipeline.training.train import train
from onnxsmith.runtime.session import Session

LAYOUT = "scale=1/16&layout=NCHW"
TRAIN, TEST = f"digits?split=train&{LAYOUT}", f"digits?split=test&{LAYOUT}"
REQUEST = TrainRequest(TRAIN, TEST, qat=True, rate=1e-3, epochs=2, metrics=("accuracy",), threads=1)


@pytest.fixture(scope="module")
def model() -> Artifact:
    layers = [
        {"type": "conv", "filters": 8, "padding": "same", "name": "conv"},
        {"type": "norm", "name": "norm"},
        {"type": "activation", "function": "relu"},
        {"type": "pool"},
        {"type": "flatten"},
        {"type": "dense", "units": 10, "name": "last"},
    ]
    network = Network.model_validate({"inputs": ["x:float32[batch,1,8,8]"], "layers": layers})
    request = dataclasses.replace(REQUEST, qat=False, rate=5e-3, epochs=3)
    return train(build(network), request).artifact


@pytest.fixture(scope="module")
def coarse(model: Artifact) -> Artifact:
    """The model in int8 with steps so large that little is left of it."""
    made = quantize(model, QuantizeRequest(mode="static", data=TRAIN)).artifact
    for name, value in made.model.graph.initializers.items():
        if name.endswith("weight_scale") or name == "conv_scale":
            scale = value.const_value.numpy()
            weight = made.model.graph.initializers[name.replace("_scale", "_quantized")]
            rounded = np.rint(weight.const_value.numpy() / 50).astype(np.int8)
            weight.const_value = ir.Tensor(rounded, name=weight.name)
            value.const_value = ir.Tensor((scale * 50).astype(np.float32), name=name)
    return made


def accuracy(artifact: Artifact) -> float:
    with Session(artifact, threads=1) as session:
        data = open_data(TEST, artifact.spec)
        return float(evaluate(session, data, ["accuracy"], 256).metrics["accuracy"])


def types(artifact: Artifact) -> list[tuple[str, tuple[ir.DataType | None, ...]]]:
    return [
        (node.op_type, tuple(v.dtype for v in node.inputs if v is not None and v.is_initializer()))
        for node in artifact.model.graph
    ]


def test_the_result_has_the_form_that_quantize_gives_and_keeps_its_accuracy(
    model: Artifact,
) -> None:
    result = train(model, REQUEST)
    plain = quantize(model, QuantizeRequest(mode="static", data=TRAIN)).artifact
    assert types(result.artifact) == types(plain)
    assert set(result.artifact.model.graph.initializers) == set(plain.model.graph.initializers)
    assert result.epochs[-1].metrics["accuracy"] == accuracy(result.artifact) > 0.9
    kinds = [step.name for step in result.artifact.history]
    assert kinds.index("quantize-static") < len(kinds) - 1
    assert kinds[-1] == "train"
    before, after = (a.model.graph.initializers for a in (plain, result.artifact))
    scales = [name for name in before if name.endswith("_scale")]
    moved = [
        name for name in scales
        if (before[name].const_value.numpy() != after[name].const_value.numpy()).any()
    ]  # fmt: skip
    assert len(moved) > len(scales) / 2


def test_training_recovers_what_coarse_steps_lost(coarse: Artifact) -> None:
    start = accuracy(coarse)
    result = train(coarse, dataclasses.replace(REQUEST, epochs=4, rate=3e-3))
    assert start < 0.85
    assert result.epochs[-1].metrics["accuracy"] > start + 0.08


def test_the_trained_graph_and_the_written_one_agree(model: Artifact) -> None:
    result = train(model, dataclasses.replace(REQUEST, epochs=1)).artifact
    made = result.clone()
    make_trainable(made.model)
    batch = next(open_data(TEST, result.spec).batches(200))
    with Session(made, optimize=False) as session:
        (wanted,) = session.run(batch.inputs).values()
    with Session(result, optimize=False) as session:
        (found,) = session.run(batch.inputs).values()
    assert (found.argmax(1) == wanted.argmax(1)).mean() > 0.99
    assert np.abs(found - wanted).mean() < 0.02 * np.abs(wanted).max()


def test_resuming_is_bit_identical_to_an_unbroken_run(model: Artifact, tmp_path: Path) -> None:
    request = dataclasses.replace(REQUEST, epochs=2, checkpoint=tmp_path / "whole")
    whole = train(model, request).artifact
    broken = dataclasses.replace(request, checkpoint=tmp_path / "broken", resume=True)
    train(model, dataclasses.replace(broken, epochs=1))
    resumed = train(model, broken).artifact
    for name, value in whole.model.graph.initializers.items():
        other = resumed.model.graph.initializers[name]
        np.testing.assert_array_equal(value.const_value.numpy(), other.const_value.numpy())
    with pytest.raises(SmithError, match="of another run"):
        train(quantize(model, QuantizeRequest(mode="static", data=TRAIN)).artifact,
              dataclasses.replace(broken, qat=False))  # fmt: skip


def test_scales_can_be_frozen_and_pruned_weights_stay(model: Artifact) -> None:
    pruned = model.clone()
    last = pruned.model.graph.initializers["last.weight"]
    array = last.const_value.numpy().copy()
    array[:, ::2][np.abs(array[:, ::2]) < 0.2] = 0
    last.const_value = ir.Tensor(array, name="last.weight")
    request = dataclasses.replace(REQUEST, epochs=1, freeze=("*_scale",), keep_zeros=True)
    made = train(pruned, request).artifact
    plain = quantize(pruned, QuantizeRequest(mode="static", data=TRAIN)).artifact
    held, before = made.model.graph.initializers, plain.model.graph.initializers
    for name in before:
        if name.endswith("_scale") and "bias" not in name:
            np.testing.assert_array_equal(
                held[name].const_value.numpy(), before[name].const_value.numpy()
            )
    integers = held["last.weight_quantized"].const_value.numpy()
    assert (integers[array == 0] == 0).all()
    assert (integers != before["last.weight_quantized"].const_value.numpy()).any()


def test_from_the_command_line(model: Artifact, tmp_path: Path) -> None:
    source, out = tmp_path / "in.onnx", tmp_path / "out.onnx"
    model.clone().save(source)
    options = ["--data", TRAIN, "--epochs", "1", "--threads", "1", "--qat"]
    assert run(["train", str(source), "-o", str(out), *options]) == 0
    assert "DequantizeLinear" in {n.op_type for n in Artifact.load(out).model.graph}
    assert run(["train", str(source), "-o", str(out), *options, "--lora", "rank=1"]) == 2
    with pytest.raises(UsageError, match="--qat trains all weights"):
        train(model, dataclasses.replace(REQUEST, lora="rank=1"))
