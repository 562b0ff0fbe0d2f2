"""Training with adapters: only they change, resuming is exact, the file is small and enough."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.cli.main import run
from onnxsmith.errors import SmithError, UsageError
from onnxsmith.passes.lora.adapter import Adapter
from onnxsmith.pipeline.frontends.layers.description import Network, build
from onnxsmith.pipeline.training.request import TrainRequest
from onnxsmith.pipeline.training.train import train

TRAIN, TEST = "digits?split=train&scale=1/16", "digits?split=test&scale=1/16"
REQUEST = TrainRequest(
    TRAIN, TEST, lora="rank=4:alpha=8:target=first*+last*", rate=5e-3, epochs=2,
    metrics=("accuracy",), threads=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def model() -> Artifact:
    layers = [
        {"type": "dense", "units": 128, "activation": "relu", "name": "first"},
        {"type": "norm", "name": "norm"},
        {"type": "dense", "units": 64, "activation": "relu", "name": "middle"},
        {"type": "dense", "units": 10, "name": "last"},
    ]
    return build(Network.model_validate({"inputs": ["x:float32[batch,64]"], "layers": layers}))


def weights(artifact: Artifact) -> dict[str, np.ndarray]:
    held = artifact.model.graph.initializers
    return {name: value.const_value.numpy() for name, value in held.items()}


def test_only_the_adapted_weights_change_and_by_a_low_rank(model: Artifact) -> None:
    result = train(model, REQUEST)
    before, after = weights(model), weights(result.artifact)
    assert result.parameters == 4 * (64 + 128) + 4 * (64 + 10)
    changed = {name for name in before if (before[name] != after[name]).any()}
    assert changed == {"first.weight", "last.weight"}
    for name in changed:
        sizes = np.linalg.svd(after[name].astype(np.float64) - before[name], compute_uv=False)
        assert sizes[3] > 1e-3 > 1e2 * sizes[4]
    assert result.epochs[-1].metrics["accuracy"] > 0.6
    assert [n.op_type for n in result.artifact.model.graph] == [
        n.op_type for n in model.model.graph
    ]


def test_the_adapter_alone_makes_the_same_model(model: Artifact) -> None:
    result = train(model, dataclasses.replace(REQUEST, epochs=1))
    assert result.adapter is not None
    assert result.adapter.scale == 2.0
    merged = model.clone()
    result.adapter.merge(merged.model)
    for name, array in weights(result.artifact).items():
        np.testing.assert_array_equal(weights(merged)[name], array)


def test_resuming_is_bit_identical_to_an_unbroken_run(model: Artifact, tmp_path: Path) -> None:
    request = dataclasses.replace(REQUEST, epochs=3, checkpoint=tmp_path / "whole")
    whole = train(model, request)
    broken = dataclasses.replace(request, checkpoint=tmp_path / "broken", resume=True)
    train(model, dataclasses.replace(broken, epochs=1))
    resumed = train(model, broken)
    for name, array in weights(whole.artifact).items():
        np.testing.assert_array_equal(weights(resumed.artifact)[name], array)
    with pytest.raises(SmithError, match="another run: lora differs"):
        train(model, dataclasses.replace(broken, lora="rank=4:alpha=9:target=first*+last*"))


def test_the_command_writes_both_and_the_pass_merges(
    model: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model.clone().save("in.onnx")
    options = ["--data", TRAIN, "--epochs", "1", "--threads", "1", "--lora", "rank=1:target=last*"]
    assert run(["train", "in.onnx", "-o", "out.onnx", *options, "--adapter", "a.npz"]) == 0
    assert Path("a.npz").stat().st_size < Path("out.onnx").stat().st_size / 20
    assert list(Adapter.load(Path("a.npz")).factors) == ["last.weight"]
    passes = ["--passes", "merge-adapter:file=a.npz", "--allow-slower"]
    assert run(["optimize", "in.onnx", "-o", "merged.onnx", *passes]) == 0
    merged, out = weights(Artifact.load("merged.onnx")), weights(Artifact.load("out.onnx"))
    np.testing.assert_array_equal(merged["last.weight"], out["last.weight"])
    assert run(["train", "in.onnx", "-o", "out.onnx", *options[:-2], "--adapter", "a.npz"]) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lora": "rank=0"}, "rank=0 is not positive"),
        ({"lora": "rnk=2"}, "no option 'rnk'"),
        ({"lora": "target=nothing"}, "called nothing"),
        ({"freeze": ("first*",)}, "trains adapters"),
    ],
)
def test_wrong_requests(model: Artifact, change: dict[str, object], words: str) -> None:
    with pytest.raises((SmithError, UsageError), match=words):
        train(model, dataclasses.replace(REQUEST, **change))
