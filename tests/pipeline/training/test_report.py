"""The report of a training: the curves are what was trained, and a page is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.cli.main import run
from onnxsmith.pipeline.frontends.layers.description import Network, build
from onnxsmith.pipeline.training.report import training_report
from onnxsmith.pipeline.training.request import TrainRequest
from onnxsmith.pipeline.training.train import train

TRAIN, TEST = "digits?split=train&scale=1/16", "digits?split=test&scale=1/16"


@pytest.fixture(scope="module")
def model() -> Artifact:
    layers = [{"type": "dense", "units": 10, "name": "last"}]
    return build(Network.model_validate({"inputs": ["x:float32[batch,64]"], "layers": layers}))


def test_the_curves_are_those_of_the_training(model: Artifact) -> None:
    request = TrainRequest(TRAIN, TEST, epochs=3, metrics=("accuracy",), threads=1)
    result = train(model, request)
    report = training_report("a.onnx", "a.onnx", model, request, result)
    (shown,) = report.trainings
    assert [row.loss for row in shown.epochs] == [row.loss for row in result.epochs]
    assert [row.metrics for row in shown.epochs] == [row.metrics for row in result.epochs]
    assert (shown.loss, shown.optimizer, shown.parameters) == ("cross-entropy", "adam", 650)
    assert (report.baseline, report.candidate) == ("a.onnx (input)", "a.onnx (result)")
    assert [step.kind for step in report.history] == ["train"]


def test_the_command_writes_a_page_with_each_epoch(
    model: Artifact,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    model.clone().save("in.onnx")
    options = ["--data", TRAIN, "--epochs", "2", "--threads", "1"]
    command = ["train", "in.onnx", "-o", "out.onnx", *options]
    assert run([*command, "--json", "--report", "page.html"]) == 0
    page = Path("page.html").read_text()
    for epoch in json.loads(capsys.readouterr().out)["epochs"]:
        assert f">{epoch['loss']:#.3g}<" in page
    Path("out.onnx").unlink()
    assert run([*command, "--report", "none/page.html"]) == 1
    assert not Path("out.onnx").exists()
