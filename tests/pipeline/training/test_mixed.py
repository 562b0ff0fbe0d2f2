"""Half precision with float32 parameters, and a loss that is scaled."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from onnxsmith.artifact import Artifact
from onnxsmith.errors import UsageError
from onnxsmith.pipeline.frontends.layers.description import Network, build
from onnxsmith.pipeline.training import stepper as steppers
from onnxsmith.pipeline.training.graphs import GradientOptions, gradient_graph
from onnxsmith.pipeline.training.losses.table import make_loss
from onnxsmith.pipeline.training.mixed import LossScale
from onnxsmith.pipeline.training.request import TrainRequest
from onnxsmith.pipeline.training.train import train
from onnxsmith.runtime.session import Session

TRAIN, TEST = "digits?split=train&scale=1/16", "digits?split=test&scale=1/16"
REQUEST = TrainRequest(TRAIN, TEST, rate=3e-3, epochs=3, metrics=("accuracy",), threads=1)
NAMES = ["a.weight", "a.bias", "b.weight", "b.bias"]


@pytest.fixture(scope="module")
def model() -> Artifact:
    layers = [
        {"type": "dense", "units": 32, "activation": "relu", "name": "a"},
        {"type": "dense", "units": 10, "name": "b"},
    ]
    return build(Network.model_validate({"inputs": ["x:float32[batch,64]"], "layers": layers}))


def weights(artifact: Artifact) -> dict[str, np.ndarray]:
    held = artifact.model.graph.initializers
    return {name: value.const_value.numpy() for name, value in held.items()}


def gradients(
    model: Artifact, scale: float | None, options: GradientOptions
) -> tuple[float, dict[str, np.ndarray]]:
    graph = gradient_graph(model.clone(), NAMES, make_loss("cross-entropy"), options=options)
    rng = np.random.default_rng(0)
    feeds = {"x": rng.random((16, 64), np.float32), "labels": rng.integers(0, 10, 16)}
    feeds |= {name: array for name, array in weights(model).items() if name in NAMES}
    feeds |= {} if scale is None else {"loss_scale": np.float32(scale)}
    fed = {name: np.asarray(array) for name, array in feeds.items()}
    if options.precision is not None:
        # The runtime's CPU kernels compute in float32 and leave the casts out; ONNX's do not.
        evaluator = ReferenceEvaluator(graph.artifact.to_proto())
        found = dict(zip(evaluator.output_names, evaluator.run(None, fed), strict=True))
    else:
        with Session(graph.artifact) as session:
            found = session.run(fed)
    return float(found["loss"]), {n: found[out] for n, out in graph.gradients.items()}


def test_a_scale_multiplies_gradients_and_not_the_loss(model: Artifact) -> None:
    loss, plain = gradients(model, None, GradientOptions())
    same, scaled = gradients(model, 1024.0, GradientOptions(scaled=True))
    assert same == pytest.approx(loss, rel=1e-6)
    for name, array in plain.items():
        np.testing.assert_allclose(scaled[name], 1024 * array, rtol=1e-4, atol=1e-3)


def test_products_are_halved_and_parameters_stay(model: Artifact) -> None:
    options = GradientOptions(precision="float16", scaled=True)
    graph = gradient_graph(model.clone(), NAMES, make_loss("cross-entropy"), options=options)
    types = {v.name: v.dtype for v in graph.artifact.model.graph.inputs}
    assert {types[name] for name in NAMES} == {ir.DataType.FLOAT}
    products = [n for n in graph.artifact.model.graph if n.op_type in ("Gemm", "MatMul")]
    assert {n.outputs[0].dtype for n in products} == {ir.DataType.FLOAT16}
    outputs = {v.dtype for v in graph.artifact.model.graph.outputs}
    assert outputs == {ir.DataType.FLOAT}
    loss, full = gradients(model, None, GradientOptions())
    near, half = gradients(model, 256.0, options)
    assert near == pytest.approx(loss, rel=5e-3)
    assert near != loss
    for name, array in full.items():
        limit = 0.02 * np.abs(array).max()
        np.testing.assert_allclose(half[name] / 256, array, atol=limit)


def test_scaled_training_is_plain_training(model: Artifact) -> None:
    plain = train(model, REQUEST)
    scaled = train(model, dataclasses.replace(REQUEST, loss_scale="64"))
    for name, array in weights(plain.artifact).items():
        np.testing.assert_allclose(weights(scaled.artifact)[name], array, atol=1e-3)
    accumulated = dataclasses.replace(REQUEST, optimizer="sgd", rate=0.1, accumulate=2, clip=0.5)
    first, second = (
        train(model, dataclasses.replace(accumulated, loss_scale=scale)).epochs
        for scale in (None, "8")
    )
    assert [e.loss for e in second] == pytest.approx([e.loss for e in first], rel=1e-5)


def test_half_precision_learns_and_leaves_out_what_overflows(
    model: Artifact, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kept: list[LossScale] = []
    real = steppers.StepOptions

    def watched(*values: object, **options: object) -> object:
        kept.append(options["loss_scale"])  # type: ignore[arg-type]
        options["loss_scale"].value = 2.0**70  # type: ignore[attr-defined]
        return real(*values, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("onnxsmith.pipeline.training.train.StepOptions", watched)
    request = dataclasses.replace(REQUEST, precision="float16", checkpoint=tmp_path)
    result = train(model, request)
    assert result.epochs[-1].metrics["accuracy"] > 0.9
    (scale,) = kept
    assert scale.skipped >= 4
    assert scale.value == 2.0 ** (70 - scale.skipped)
    assert result.epochs[-1].updates == 3 * 43 - scale.skipped
    assert weights(result.artifact)["a.weight"].dtype == np.float32
    kept.clear()
    train(model, dataclasses.replace(request, resume=True, epochs=4))
    assert kept[0].skipped == scale.skipped  # what was learned of the scale is kept


def test_a_scale_grows_after_many_good_updates_and_shrinks_at_once() -> None:
    scale = LossScale.parse("dynamic")
    assert scale.value == 65536
    for _ in range(1999):
        scale.went_well()
    assert scale.value == 65536
    scale.went_well()
    assert scale.value == 131072
    scale.overflowed()
    assert (scale.value, scale.skipped) == (65536, 1)
    fixed = LossScale.parse("100")
    fixed.overflowed()
    assert fixed.value == 100


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"loss_scale": "0"}, "no number above zero"),
        ({"loss_scale": "big"}, "no number above zero"),
        ({"loss_scale": "nan"}, "no number above zero"),
        ({"private": "noise=1", "loss_scale": "2"}, "as they are"),
        ({"private": "noise=1", "precision": "float16"}, "as they are"),
    ],
)
def test_wrong_requests(model: Artifact, change: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        train(model, dataclasses.replace(REQUEST, **change))
