"""Turn the tool's own objects into the report's plain data."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from onnxsmith.artifact import Artifact, Step
from onnxsmith.numerics import Difference, Tolerance
from onnxsmith.passes.manager import Dropped, PassRun, PipelineResult
from onnxsmith.pipeline.evaluation.result import Evaluation
from onnxsmith.pipeline.report import units
from onnxsmith.pipeline.report.model import (
    Amount,
    ClassScore,
    Dataset,
    Fact,
    HistoryStep,
    Latency,
    ModelInfo,
    Parity,
    ParityRow,
    ParityVerdict,
    PassRow,
    Scores,
    Speedup,
    Stage,
)
from onnxsmith.pipeline.report.training import TrainedEpoch, Training
from onnxsmith.pipeline.training.request import TrainResult
from onnxsmith.runtime.environment import Environment
from onnxsmith.runtime.measurement import Comparison, Measurement


class Described(Protocol):
    """A data source, as far as a report is concerned."""

    @property
    def name(self) -> str:
        """What to call it."""

    @property
    def size(self) -> int | None:
        """The number of samples, where known."""

    def describe(self) -> dict[str, Any]:
        """Return kind, name, size and options as JSON values."""


def told_apart(
    first: str, second: str, marks: tuple[str, str] = ("input", "result")
) -> tuple[str, str]:
    """Return two models' names, marked where they are the same."""
    if first != second:
        return first, second
    return f"{first} ({marks[0]})", f"{second} ({marks[1]})"


def facts(values: Mapping[str, Any], leave_out: Iterable[str] = ()) -> tuple[Fact, ...]:
    """Return one fact a key, nested objects as ``outer.inner``; empty values are left out."""
    skipped = set(leave_out)
    found: list[Fact] = []
    for key, value in values.items():
        if key in skipped or value is None or value in ("", (), [], {}):
            continue
        if isinstance(value, Mapping):
            found += [Fact(f"{key}.{inner.label}", inner.value) for inner in facts(value)]
        else:
            found.append(Fact(str(key), _plain(value)))
    return tuple(found)


def history(steps: Iterable[Step]) -> tuple[HistoryStep, ...]:
    """Return an artifact's history."""
    return tuple(
        HistoryStep(step.name, step.kind, facts(step.options), facts(step.result)) for step in steps
    )


def model_info(
    name: str,
    artifact: Artifact,
    *,
    framework: str = "",
    digest: str = "",
    size_bytes: int | None = None,
    more: Mapping[str, Any] | None = None,
) -> ModelInfo:
    """Describe a model by its signature.

    Args:
        name: What to call it.
        artifact: The model.
        framework: Where it comes from.
        digest: Content digest.
        size_bytes: Bytes on disk; those of the weights where None.
        more: Further facts.
    """
    size = artifact.size_bytes if size_bytes is None else size_bytes
    opsets = ", ".join(f"{d or 'ai.onnx'} {v}" for d, v in artifact.model.opset_imports.items())
    return ModelInfo(
        name,
        framework,
        digest,
        size,
        tuple(str(value) for value in artifact.spec.inputs),
        tuple(str(value) for value in artifact.spec.outputs),
        (Fact("Opset", opsets), *facts(more or {})),
    )


def dataset(source: Described, role: str) -> Dataset:
    """Describe a data source and what it was used for."""
    described = source.describe()
    return Dataset(source.name, role, source.size, facts(described, ("name", "size", "samples")))


def parity(
    reference: str,
    candidate: str,
    differences: Iterable[Difference],
    *,
    tolerance: Tolerance | None = None,
    unverified: Sequence[str] = (),
    samples: int | None = None,
    budget: str = "",
) -> Parity:
    """Return one comparison of outputs.

    Args:
        reference: Name of what was trusted.
        candidate: Name of what was checked.
        differences: One an output.
        tolerance: What was allowed, where it is the same for all outputs.
        unverified: Outputs on which two runs of the reference differ; they need no difference.
        samples: How many probe inputs.
        budget: What a lossy change is held to instead.
    """
    rows = []
    for item in differences:
        verdict: ParityVerdict = "match" if item.ok else "differs"
        if item.output in unverified:
            verdict = "unverified"
        figures = (item.max_abs, item.max_rel, item.snr_db)
        rows.append(ParityRow(item.output, *figures, verdict, item.reason))
    known = {row.output for row in rows}
    why = "two runs of the reference differ by themselves"
    rows += [
        ParityRow(name, verdict="unverified", reason=why)
        for name in unverified
        if name not in known
    ]
    rtol, atol = (tolerance.rtol, tolerance.atol) if tolerance else (None, None)
    return Parity(reference, candidate, tuple(rows), rtol, atol, samples, budget)


def stage(
    name: str,
    result: PipelineResult,
    *,
    seconds: float | None = None,
    options: Mapping[str, Any] | None = None,
    warnings: Sequence[str] = (),
) -> Stage:
    """Describe a run of passes.

    Args:
        name: For example ``optimize``.
        result: What the pass manager returned.
        seconds: Wall time of the whole stage; the sum over the passes where None.
        options: What it was asked to do.
        warnings: What the reader should know.
    """
    spent = sum(run.seconds for run in result.runs) if seconds is None else seconds
    return Stage(
        name,
        seconds=spent,
        options=facts(options or {}),
        facts=(Fact("Checked", "yes" if result.verified else "no"),),
        nodes_before=sum(result.census_before.values()),
        nodes_after=sum(result.census_after.values()),
        census_before=dict(result.census_before),
        census_after=dict(result.census_after),
        passes=(*map(_pass_row, result.runs), *map(_dropped_row, result.dropped)),
        warnings=tuple(warnings),
    )


def training(result: TrainResult, loss: str, optimizer: str) -> Training:
    """Describe a training run.

    Args:
        result: What ``train`` returned.
        loss: The loss as it was asked for.
        optimizer: Likewise.
    """
    epochs = tuple(
        TrainedEpoch(
            row.number,
            row.loss,
            row.rate,
            dict(row.metrics),
            row.seconds,
            row.updates,
            row.epsilon,
        )
        for row in result.epochs
    )
    return Training(loss, optimizer, epochs, result.parameters, result.samples)


def latency(measurement: Measurement) -> Latency:
    """Return a model's times."""
    return Latency(
        measurement.name,
        tuple(float(sample) for sample in measurement.samples_ms),
        measurement.p50_ms,
        measurement.p90_ms,
        measurement.p99_ms,
        measurement.mean_ms,
        measurement.throughput,
        measurement.batch_size,
        ", ".join(measurement.providers),
    )


def memory(measurements: Iterable[Measurement]) -> tuple[Amount, ...]:
    """Return the peak memory of every model it is known of."""
    return tuple(
        Amount(m.name, m.peak_memory_bytes) for m in measurements if m.peak_memory_bytes is not None
    )


def speedup(comparison: Comparison) -> Speedup:
    """Return a ratio with its interval; above 1 the candidate is faster."""
    return Speedup(
        comparison.baseline,
        comparison.candidate,
        comparison.ratio,
        comparison.low,
        comparison.high,
        comparison.verdict,
        comparison.confidence,
    )


def scores(model: str, evaluation: Evaluation) -> Scores:
    """Return a model's scores."""
    matrix = evaluation.confusion
    return Scores(
        model,
        {name: float(value) for name, value in evaluation.metrics.items()},
        () if matrix is None else tuple(tuple(int(count) for count in row) for row in matrix),
        evaluation.classes or (),
        tuple(
            ClassScore(row.name, row.precision, row.recall, row.f1, row.support)
            for row in evaluation.per_class
        ),
        evaluation.samples,
        evaluation.seconds,
    )


def environment(machine: Environment) -> tuple[Fact, ...]:
    """Return what figures were measured on."""
    return (
        Fact("Processor", machine.cpu),
        Fact("Cores", str(machine.cores)),
        Fact("Memory", units.size(machine.memory_bytes)),
        Fact("System", machine.system),
        Fact("Python", machine.python),
        *(Fact(name, version) for name, version in machine.packages.items()),
        Fact("Providers", ", ".join(machine.providers)),
    )


def _pass_row(run: PassRun) -> PassRow:
    return PassRow(
        run.pass_.name,
        run.pass_.effect,
        str(run.pass_).partition(":")[2],
        run.seconds,
        run.nodes_before,
        run.nodes_after,
        "applied" if run.modified else "unchanged",
    )


def _dropped_row(dropped: Dropped) -> PassRow:
    pass_ = dropped.pass_
    reason = f"{dropped.cause}: {dropped.reason}" if dropped.reason else dropped.cause
    options = str(pass_).partition(":")[2]
    return PassRow(pass_.name, pass_.effect, options, status="dropped", reason=reason)


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple) and all(isinstance(v, str | int | float) for v in value):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else json.dumps(value, default=str)
