"""Turn the tool's own objects into the report's plain data."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from onnxsmith.artifact import Artifact, Step
from onnxsmith.numerics import Difference, Tolerance
from onnxsmith.pipeline.report.model import (
    Amount,
    Dataset,
    Fact,
    HistoryStep,
    Latency,
    ModelInfo,
    Parity,
    ParityRow,
    ParityVerdict,
    Speedup,
)
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
        unverified: Outputs on which two runs of the reference differ.
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
    rtol, atol = (tolerance.rtol, tolerance.atol) if tolerance else (None, None)
    return Parity(reference, candidate, tuple(rows), rtol, atol, samples, budget)


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


def confusion(matrix: np.ndarray[Any, np.dtype[Any]] | None) -> tuple[tuple[int, ...], ...]:
    """Return a confusion matrix of counts as tuples; empty where there is none."""
    return () if matrix is None else tuple(tuple(int(v) for v in row) for row in matrix)


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple) and all(isinstance(v, str | int | float) for v in value):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else json.dumps(value, default=str)
