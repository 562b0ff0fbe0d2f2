import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxsmith.artifact import Artifact
from onnxsmith.errors import RefusedError, SmithError
from onnxsmith.pipeline.recipe import Recipe
from onnxsmith.pipeline.report import Report
from onnxsmith.pipeline.run import run_recipe
from onnxsmith.pipeline.training.request import Epoch, TrainRequest, TrainResult

RNG = np.random.default_rng(5)
WEIGHT = RNG.standard_normal((12, 4)).astype(np.float32)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with a linear classifier and data it classifies perfectly."""
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]>'
        "g (float[N,12] x) => (float[N,4] y) { a = MatMul(x, w) b = Identity(a) y = Softmax(b) }"
    )
    proto.graph.initializer.append(numpy_helper.from_array(WEIGHT, "w"))
    onnx.save(proto, tmp_path / "model.onnx")
    for name, count in (("train", 64), ("test", 40)):
        x = RNG.standard_normal((count, 12)).astype(np.float32)
        np.savez(tmp_path / f"{name}.npz", x=x, label=(x @ WEIGHT).argmax(axis=1))
    return tmp_path


def recipe(work: Path, **changes: Any) -> Recipe:
    values = {
        "name": "linear",
        "source": {"path": str(work / "model.onnx")},
        "data": f"npz:{work / 'train.npz'}",
        "eval_data": f"npz:{work / 'test.npz'}",
        "optimize": {"allow_slower": True},
        "quantize": {"mode": "static", "max_drop": 0.1},
        "evaluate": {},
        "bench": None,
    }
    return Recipe.model_validate(values | changes)


def run(recipe: Recipe, out: Path, *, resume: bool = False) -> tuple[dict[str, str], Report]:
    seen: dict[str, str] = {}
    result = run_recipe(
        recipe, out, resume=resume, progress=lambda stage, status, _: seen.update({stage: status})
    )
    return seen, result.report


def test_a_run_ends_with_a_model_and_a_true_report(work: Path) -> None:
    seen, report = run(recipe(work), work / "out")
    assert list(seen) == ["convert", "optimize", "quantize", "evaluate"]
    assert set(seen.values()) == {"done"}
    assert [s.metrics["accuracy"] for s in report.scores][:2] == [1.0, 1.0]
    assert [s.model for s in report.scores] == ["converted", "optimized", "quantized"]
    final = Artifact.load(work / "out" / "model.onnx")
    assert any(step.name == "quantize-static" for step in final.history)
    assert Report.load(work / "out" / "report.json") == report
    html = (work / "out" / "report.html").read_text()
    assert str(work) not in html


NETWORK = """
inputs: ["x:float32[batch,12]"]
layers:
  - {type: dense, units: 4, name: head}
"""


@pytest.mark.parametrize("after", ["convert", "optimize"])
def test_a_described_network_is_trained_and_measured_from_then_on(work: Path, after: str) -> None:
    (work / "net.yaml").write_text(NETWORK)
    training = {"epochs": 20, "lr": 0.05, "after": after}
    plan = recipe(work, source={"path": str(work / "net.yaml")}, train=training)
    seen, report = run(plan, work / "out")
    order = ["train", "optimize"] if after == "convert" else ["optimize", "train"]
    assert list(seen) == ["convert", *order, "quantize", "evaluate"]
    scores = {scores.model: scores.metrics["accuracy"] for scores in report.scores}
    assert scores["trained"] > scores["converted"] + 0.2
    assert report.baseline == "trained"
    (made,) = report.trainings
    assert [epoch.number for epoch in made.epochs] == list(range(1, 21))
    # Optimization drops a bias that is zero, and with it four parameters.
    assert (made.parameters, made.samples) == (52 if after == "convert" else 48, 64)
    assert made.epochs[-1].metrics["accuracy"] == scores["trained"]
    seen, _ = run(recipe(work, source={"path": str(work / "net.yaml")},
                         train={**training, "lr": 0.06}), work / "out", resume=True)  # fmt: skip
    assert (seen["convert"], seen["train"]) == ("cached", "done")


def test_training_that_was_stopped_goes_on_bit_by_bit(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from onnxsmith.pipeline import stages

    plan = recipe(work, train={"epochs": 5}, optimize=None, quantize=None, evaluate=None)
    run(plan, work / "whole")
    real, epochs = stages.train, []

    def stopping(artifact: Artifact, request: TrainRequest) -> TrainResult:
        def stop(epoch: Epoch) -> None:
            if epoch.number == 3:
                raise KeyboardInterrupt

        return real(artifact, request, stop)

    monkeypatch.setattr(stages, "train", stopping)
    with pytest.raises(KeyboardInterrupt):
        run(plan, work / "broken")

    def counting(artifact: Artifact, request: TrainRequest) -> TrainResult:
        return real(artifact, request, lambda epoch: epochs.append(epoch.number))

    monkeypatch.setattr(stages, "train", counting)
    run(plan, work / "broken", resume=True)
    assert epochs == [4, 5]
    whole, broken = (Artifact.load(work / name / "model.onnx") for name in ("whole", "broken"))
    for name, value in whole.model.graph.initializers.items():
        other = broken.model.graph.initializers[name]
        np.testing.assert_array_equal(value.const_value.numpy(), other.const_value.numpy())
    assert not list((work / "broken" / "stages").glob(".*"))


def test_a_second_run_takes_every_stage_from_the_folder(work: Path) -> None:
    run(recipe(work), work / "out")
    first = (work / "out" / "model.onnx").read_bytes()
    seen, _ = run(recipe(work), work / "out", resume=True)
    assert set(seen.values()) == {"cached"}
    assert (work / "out" / "model.onnx").read_bytes() == first


@pytest.mark.parametrize(
    ("changes", "again"),
    [
        ({"evaluate": {"batch_size": 7}}, {"evaluate"}),
        ({"quantize": {"mode": "dynamic"}}, {"quantize", "evaluate"}),
        ({"seed": 1}, {"convert", "optimize", "quantize", "evaluate"}),
    ],
)
def test_a_change_runs_what_depends_on_it(
    work: Path, changes: dict[str, Any], again: set[str]
) -> None:
    run(recipe(work), work / "out")
    seen, _ = run(recipe(work, **changes), work / "out", resume=True)
    assert {stage for stage, status in seen.items() if status == "done"} == again


def test_changed_data_and_changed_source_run_again(work: Path) -> None:
    run(recipe(work), work / "out")
    x = RNG.standard_normal((40, 12)).astype(np.float32)
    np.savez(work / "test.npz", x=x, label=(x @ WEIGHT).argmax(axis=1))
    seen, _ = run(recipe(work), work / "out", resume=True)
    assert seen == {
        "convert": "cached",
        "optimize": "cached",
        "quantize": "done",
        "evaluate": "done",
    }
    proto = onnx.load(work / "model.onnx")
    proto.producer_name = "someone else"
    onnx.save(proto, work / "model.onnx")
    seen, _ = run(recipe(work), work / "out", resume=True)
    assert set(seen.values()) == {"done"}


def test_a_failed_stage_is_never_cached(work: Path) -> None:
    strict = recipe(
        work, eval_data=f"npz:{work / 'wrong.npz'}", quantize={"mode": "static", "max_drop": 0.0}
    )
    x = RNG.standard_normal((40, 12)).astype(np.float32)
    # Labels next to a decision border: rounding flips some.
    x *= np.float32(1e-3)
    np.savez(work / "wrong.npz", x=x, label=(x @ WEIGHT).argmax(axis=1))
    for _ in range(2):
        with pytest.raises(RefusedError, match="stage quantize: accuracy drops"):
            run(strict, work / "out", resume=True)
    kept = sorted(f.name.split("-")[1] for f in (work / "out" / "stages").iterdir())
    assert kept == ["convert", "optimize"]


def test_a_folder_in_use_is_refused_without_resume(work: Path) -> None:
    (work / "out").mkdir()
    (work / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(SmithError, match="not empty") as caught:
        run(recipe(work), work / "out")
    assert "--resume" in caught.value.hint
    assert [f.name for f in (work / "out").iterdir()] == ["thesis.txt"]


def test_a_folder_that_cannot_be_made_is_one_clear_error(work: Path) -> None:
    (work / "file").write_text("")
    with pytest.raises(SmithError, match="cannot write"):
        run(recipe(work), work / "file" / "out")


def test_shared_samples_are_refused(work: Path) -> None:
    both = recipe(work, eval_data=f"npz:{work / 'train.npz'}")
    with pytest.raises(SmithError, match="64 samples are both"):
        run(both, work / "out")


SLOW = """
import sys, time
from onnxsmith.pipeline import stages
from onnxsmith.cli.main import main
def slow(context):
    (context.folder / "half").write_text("unfinished")
    open(sys.argv[1], "w").close()
    time.sleep(600)
stages._quantize = slow
main(["run", sys.argv[2], "--out", sys.argv[3]])
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_resumes(
    work: Path, how: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = recipe(
        work, source={"path": "model.onnx"}, data="npz:train.npz", eval_data="npz:test.npz"
    )
    path = work / "recipe.yaml"
    path.write_text(json.dumps(plan.model_dump(mode="json")))
    marker = work / "started"
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", SLOW, str(marker), str(path), str(work / "out")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not marker.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.kill(process.pid, how)
    _, errors = process.communicate()
    assert process.returncode == (-9 if how == signal.SIGKILL else 130)
    assert "Traceback" not in errors
    assert not (work / "out" / "report.html").exists()
    monkeypatch.chdir(work)
    seen, _ = run(plan, work / "out", resume=True)
    assert seen == {
        "convert": "cached",
        "optimize": "cached",
        "quantize": "done",
        "evaluate": "done",
    }
    assert not list((work / "out").rglob("half"))
