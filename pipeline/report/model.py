"""What a report says, as plain data: strings, numbers and tuples of them, nothing to compute with.

Every part has an empty default, so the same type serves a whole run and a single command. Readers
and renderers never look at live objects of the tool: ``onnxsmith.pipeline.report.collect`` turns
those into this, and an old ``report.json`` turns into this again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.report.codec import decode, encode
from onnxsmith.pipeline.report.quantization import Departure, LayerCost, Search
from onnxsmith.pipeline.report.training import Training

SCHEMA = 1
"""Version of the JSON form. It grows only when an old reader would misread a new report."""

StageStatus = Literal["done", "cached", "skipped", "failed"]
PassStatus = Literal["applied", "unchanged", "dropped"]
ParityVerdict = Literal["match", "differs", "unverified"]
SpeedVerdict = Literal["faster", "slower", "no change", "unmeasured"]
Status = Literal["passed", "attention", "failed"]


@dataclass(frozen=True)
class Fact:
    """One labelled value, already formatted."""

    label: str
    value: str


@dataclass(frozen=True)
class ModelInfo:
    """A model that went in or came out.

    Attributes:
        name: What the report calls it.
        framework: Where it comes from, for example ``scikit-learn``.
        digest: Content digest.
        size_bytes: Bytes on disk.
        inputs: The signature, one ``name: dtype[dims]`` each.
        outputs: Likewise.
        facts: Whatever else is worth saying (opset, parameters, ...).
    """

    name: str
    framework: str = ""
    digest: str = ""
    size_bytes: int | None = None
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    facts: tuple[Fact, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """Data that was used, and for what (``calibration``, ``evaluation``, ``probes``)."""

    name: str
    role: str = ""
    samples: int | None = None
    facts: tuple[Fact, ...] = ()


@dataclass(frozen=True)
class PassRow:
    """One pass of a stage.

    Attributes:
        name: The pass, as on the command line.
        effect: ``exact``, ``approximate`` or ``lossy``.
        options: Its options in one line.
        seconds: Wall time.
        nodes_before: Nodes of the graph it was given.
        nodes_after: Nodes of the graph it left.
        status: Whether the change was kept.
        reason: Why it was dropped, or left the graph unchanged.
    """

    name: str
    effect: str = ""
    options: str = ""
    seconds: float | None = None
    nodes_before: int | None = None
    nodes_after: int | None = None
    status: PassStatus = "applied"
    reason: str = ""


@dataclass(frozen=True)
class Stage:
    """One step of the run.

    Attributes:
        name: For example ``optimize``.
        status: How it ended; ``cached`` means an earlier run's result was taken.
        seconds: Wall time.
        options: What it was asked to do.
        facts: What it found.
        nodes_before: Nodes of the graph that went in.
        nodes_after: Nodes of the graph that came out.
        census_before: Operator type to how many nodes of it, going in.
        census_after: Likewise, coming out.
        passes: What ran inside it, in order, the dropped ones included.
        warnings: Everything the reader should know, one line each.
    """

    name: str
    status: StageStatus = "done"
    seconds: float | None = None
    options: tuple[Fact, ...] = ()
    facts: tuple[Fact, ...] = ()
    nodes_before: int | None = None
    nodes_after: int | None = None
    census_before: Mapping[str, int] = field(default_factory=dict)
    census_after: Mapping[str, int] = field(default_factory=dict)
    passes: tuple[PassRow, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class ParityRow:
    """How far one output is from its reference.

    Attributes:
        output: Name of the output.
        max_abs: Largest absolute difference.
        max_rel: Largest relative difference.
        snr_db: Signal to noise in dB; infinite where the two are the same.
        verdict: ``unverified`` where two runs of the reference differ by themselves.
        reason: Why it is not a match.
    """

    output: str
    max_abs: float | None = None
    max_rel: float | None = None
    snr_db: float | None = None
    verdict: ParityVerdict = "match"
    reason: str = ""


@dataclass(frozen=True)
class Parity:
    """One comparison of a candidate's outputs with a reference's.

    Attributes:
        reference: What was trusted.
        candidate: What was checked.
        rows: One an output.
        rtol: Relative tolerance.
        atol: Absolute tolerance, relative to the largest reference value.
        samples: How many probe inputs.
        budget: Where the change may lose accuracy, what it is held to instead of the tolerance.
    """

    reference: str
    candidate: str
    rows: tuple[ParityRow, ...] = ()
    rtol: float | None = None
    atol: float | None = None
    samples: int | None = None
    budget: str = ""


@dataclass(frozen=True)
class ClassScore:
    """Scores of one class, each from 0 to 1."""

    name: str
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    support: int | None = None


@dataclass(frozen=True)
class Scores:
    """How well one model does on held-out data.

    Attributes:
        model: Which model.
        metrics: Metric name to value; rates from 0 to 1.
        confusion: Counts, a row a true class, a column a predicted one; empty if none.
        classes: Names of the classes, in the order of ``confusion``.
        per_class: Scores class by class.
        samples: How many samples were scored.
        seconds: Wall time.
    """

    model: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    confusion: tuple[tuple[int, ...], ...] = ()
    classes: tuple[str, ...] = ()
    per_class: tuple[ClassScore, ...] = ()
    samples: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Latency:
    """Times of single runs of one model.

    Attributes:
        model: Which model.
        samples_ms: Raw times in milliseconds, in the order they were taken.
        p50: Median, ms.
        p90: 90th percentile, ms.
        p99: 99th percentile, ms.
        mean: Arithmetic mean, ms.
        throughput: Samples a second.
        batch: Samples a run.
        provider: Execution provider that ran it.
    """

    model: str
    samples_ms: tuple[float, ...] = ()
    p50: float | None = None
    p90: float | None = None
    p99: float | None = None
    mean: float | None = None
    throughput: float | None = None
    batch: int | None = None
    provider: str = ""


@dataclass(frozen=True)
class Speedup:
    """How much faster a candidate is than its baseline.

    Attributes:
        baseline: The model compared with.
        candidate: The model judged.
        ratio: Baseline time over candidate time: 2 means twice as fast.
        low: Lower end of the interval.
        high: Upper end.
        verdict: What the interval says.
        confidence: Level of the interval, for example 0.95.
    """

    baseline: str
    candidate: str
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    verdict: SpeedVerdict = "no change"
    confidence: float = 0.95


@dataclass(frozen=True)
class Amount:
    """Bytes of one model: its size, or the peak memory of running it."""

    model: str
    size_bytes: int


@dataclass(frozen=True)
class HistoryStep:
    """One step of the artifact's own history, as the file carries it."""

    name: str
    kind: str = ""
    options: tuple[Fact, ...] = ()
    result: tuple[Fact, ...] = ()


@dataclass(frozen=True)
class Report:
    """Everything one run has to say.

    Attributes:
        title: One line.
        summary: The verdict in words; put together from the figures where it is empty.
        status: The verdict as a word; read off the parity, stages and warnings where None.
        baseline: Model (by name) that differences are counted from; the first one if empty.
        candidate: Model the verdict is about; the last one if empty.
        sources: What went in.
        products: What came out.
        datasets: Data that was used.
        stages: The steps, in order.
        trainings: How models were trained.
        parity: Numerical checks.
        departures: Where models part, layer by layer.
        searches: Candidates that were made and measured.
        sensitivity: What each layer costs, the most sensitive first.
        sensitivity_note: What the layers' drops are.
        scores: Accuracy, one entry a model.
        latency: Times, one entry a model.
        speedups: Ratios with intervals.
        sizes: Bytes on disk, one entry a model.
        memory: Peak memory in use, one entry a model.
        history: The final artifact's own history.
        provenance: Command, seeds, digests, date.
        environment: Versions, processor, providers.
        warnings: What concerns the whole run.
    """

    title: str
    summary: str = ""
    status: Status | None = None
    baseline: str = ""
    candidate: str = ""
    sources: tuple[ModelInfo, ...] = ()
    products: tuple[ModelInfo, ...] = ()
    datasets: tuple[Dataset, ...] = ()
    stages: tuple[Stage, ...] = ()
    trainings: tuple[Training, ...] = ()
    parity: tuple[Parity, ...] = ()
    departures: tuple[Departure, ...] = ()
    searches: tuple[Search, ...] = ()
    sensitivity: tuple[LayerCost, ...] = ()
    sensitivity_note: str = ""
    scores: tuple[Scores, ...] = ()
    latency: tuple[Latency, ...] = ()
    speedups: tuple[Speedup, ...] = ()
    sizes: tuple[Amount, ...] = ()
    memory: tuple[Amount, ...] = ()
    history: tuple[HistoryStep, ...] = ()
    provenance: tuple[Fact, ...] = ()
    environment: tuple[Fact, ...] = ()
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Return the report as a strict JSON value (non-finite numbers become strings)."""
        body = encode(self)
        if not isinstance(body, dict):
            raise TypeError("a report encodes to an object")
        return {"schema": SCHEMA, **body}

    @classmethod
    def from_json(cls, value: object) -> Report:
        """Read what :meth:`to_json` returned; unknown keys of a newer minor form are ignored.

        Raises:
            SmithError: It is no report, or of a schema this version does not know.
        """
        if not isinstance(value, Mapping) or "schema" not in value:
            raise SmithError("not a report: no schema version", "give a report.json of onnxsmith")
        if value["schema"] != SCHEMA:
            raise SmithError(
                f"the report has schema {value['schema']!r}, this version reads {SCHEMA}",
                "read it with the version of onnxsmith that wrote it",
            )
        return decode(cls, value)

    @classmethod
    def load(cls, path: Path) -> Report:
        """Read a ``report.json``.

        Raises:
            SmithError: The file cannot be read or is no report.
        """
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise SmithError(f"cannot read {path}: {error.strerror}", "check the path") from error
        except ValueError as error:
            raise SmithError(f"{path} is not JSON: {error}", "give a report.json") from error
        return cls.from_json(value)
