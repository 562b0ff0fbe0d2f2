import json
import math
from dataclasses import dataclass

import numpy as np
import onnx.parser
import pytest

from onnxsmith.artifact import Artifact, Step
from onnxsmith.numerics import Tolerance, compare
from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.manager import Dropped, PassRun, PipelineResult
from onnxsmith.pipeline.evaluation.result import ClassScore as EvaluatedClass
from onnxsmith.pipeline.evaluation.result import Evaluation
from onnxsmith.pipeline.report import Report, collect, to_html
from onnxsmith.pipeline.report.model import Amount, ClassScore, Fact, PassRow, Speedup
from onnxsmith.runtime.environment import Environment
from onnxsmith.runtime.measurement import Comparison, Measurement

MODEL = """
<ir_version: 8, opset_import: ["": 18]>
g (float[N,3] x) => (float[N,3] y) { a = Relu(x) y = Identity(a) }
"""


@dataclass(frozen=True)
class Shorten(Pass):
    """Shortens."""

    name = "shorten"
    keep: int = 3

    def apply(self, model, context: PassContext):
        return PassResult(model, False)


def test_a_measurement_keeps_its_samples_and_quantiles():
    times = tuple(float(v) for v in range(1, 101))
    measurement = Measurement(
        "m", times, batch_size=8, peak_memory_bytes=5_000, providers=("CPUExecutionProvider",)
    )
    found = collect.latency(measurement)
    assert found.samples_ms == times
    assert (found.p50, found.p90, found.mean) == pytest.approx((50.5, 90.1, 50.5))
    assert found.throughput == pytest.approx(8 * 1000 / 50.5)
    assert (found.batch, found.provider) == (8, "CPUExecutionProvider")
    assert collect.memory([measurement, Measurement("n", (1.0,))]) == (Amount("m", 5_000),)


def test_a_ratio_above_one_is_faster_here_as_there():
    comparison = Comparison("a", "b", 2.0, 1.8, 2.2, "faster", 0.9)
    assert collect.speedup(comparison) == Speedup("a", "b", 2.0, 1.8, 2.2, "faster", 0.9)


def test_differences_become_rows_and_unverified_outputs_are_named():
    reference = {"y": np.ones(4, np.float32), "z": np.ones(4, np.float32)}
    candidate = {"y": np.ones(4, np.float32), "z": np.full(4, 2, np.float32)}
    tolerance = Tolerance(1e-3, 1e-4)
    differences = compare(reference, candidate, tolerance)
    found = collect.parity(
        "a", "b", differences, tolerance=tolerance, unverified=("noise",), samples=4
    )
    assert [(row.output, row.verdict) for row in found.rows] == [
        ("y", "match"),
        ("z", "differs"),
        ("noise", "unverified"),
    ]
    assert found.rows[0].snr_db == math.inf
    assert found.rows[1].max_abs == pytest.approx(1.0)
    assert (found.rtol, found.atol, found.samples) == (1e-3, 1e-4, 4)


def test_an_output_with_a_difference_can_be_unverified_too():
    differences = compare({"y": np.ones(2)}, {"y": np.zeros(2)})
    (row,) = collect.parity("a", "b", differences, unverified=("y",)).rows
    assert row.verdict == "unverified"


def test_a_run_of_passes_becomes_a_stage():
    artifact = Artifact.from_proto(onnx.parser.parse_model(MODEL))
    result = PipelineResult(
        artifact,
        (PassRun(Shorten(), True, 0.25, 4, 2, {}), PassRun(Shorten(5), False, 0.5, 2, 2, {})),
        (Dropped(Shorten(7), "wrong", "output y is off"),),
        (),
        (),
        True,
        {"Relu": 1, "Identity": 3},
        {"Relu": 2},
    )
    stage = collect.stage("optimize", result, options={"preset": "default", "data": None})
    assert (stage.nodes_before, stage.nodes_after, stage.seconds) == (4, 2, 0.75)
    assert stage.options == (Fact("preset", "default"),)
    assert stage.passes == (
        PassRow("shorten", "exact", "", 0.25, 4, 2, "applied"),
        PassRow("shorten", "exact", "keep=5", 0.5, 2, 2, "unchanged"),
        PassRow("shorten", "exact", "keep=7", status="dropped", reason="wrong: output y is off"),
    )
    assert "Identity 3 → 0" in to_html(Report("t", stages=(stage,)))


def test_a_model_is_described_by_its_signature():
    artifact = Artifact.from_proto(onnx.parser.parse_model(MODEL))
    found = collect.model_info("m", artifact, framework="f", size_bytes=77, more={"nodes": 2})
    assert found.inputs == ("x: float32[N,3]",)
    assert found.outputs == ("y: float32[N,3]",)
    assert found.size_bytes == 77
    assert found.facts == (Fact("Opset", "ai.onnx 18"), Fact("nodes", "2"))


def test_history_and_nested_options_become_facts():
    step = Step("p", "pass", {"ratio": 0.3, "on": True, "none": None}, {"a": {"b": [1, 2]}})
    (found,) = collect.history([step])
    assert found.options == (Fact("ratio", "0.3"), Fact("on", "yes"))
    assert found.result == (Fact("a.b", "1, 2"),)


class Digits:
    name = "digits"
    size = 450

    def describe(self):
        return {"kind": "digits", "name": "digits", "size": 450, "options": {"split": "test"}}


def test_data_is_described_without_saying_things_twice():
    found = collect.dataset(Digits(), "evaluation")
    assert (found.name, found.role, found.samples) == ("digits", "evaluation", 450)
    assert found.facts == (Fact("kind", "digits"), Fact("options.split", "test"))


def test_an_evaluation_becomes_scores():
    evaluation = Evaluation(
        metrics={"accuracy": np.float64(0.75), "snr": math.inf},
        confusion=np.array([[3, 1], [0, 4]]),
        classes=("cat", "dog"),
        per_class=(EvaluatedClass("cat", 0.5, 1.0, 0.6, 3),),
        samples=8,
        seconds=0.5,
        task="classification",
        output="y",
    )
    found = collect.scores("m", evaluation)
    assert found.metrics == {"accuracy": 0.75, "snr": math.inf}
    assert found.confusion == ((3, 1), (0, 4))
    assert found.per_class == (ClassScore("cat", 0.5, 1.0, 0.6, 3),)
    assert (found.classes, found.samples, found.seconds) == (("cat", "dog"), 8, 0.5)
    report = Report("t", scores=(found,))
    assert Report.from_json(json.loads(json.dumps(report.to_json(), allow_nan=False))) == report


def test_an_evaluation_of_values_has_no_matrix():
    evaluation = Evaluation({"mse": 0.1}, None, None, (), 3, 0.1, "regression", "y")
    found = collect.scores("m", evaluation)
    assert (found.confusion, found.classes, found.per_class) == ((), (), ())


def test_the_machine_becomes_facts():
    machine = Environment(
        "Some CPU", 2, 8_000_000_000, "Linux x86_64", "3.11.9", {"onnx": "1.23.2"}, ("A", "B")
    )
    found = {fact.label: fact.value for fact in collect.environment(machine)}
    assert found["Processor"] == "Some CPU"
    assert found["Memory"] == "8.00\N{NO-BREAK SPACE}GB"
    assert found["onnx"] == "1.23.2"
    assert found["Providers"] == "A, B"
