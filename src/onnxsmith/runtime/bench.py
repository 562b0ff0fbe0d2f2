"""Measure several models against each other.

The models take turns: in each round every model runs once, and the order turns around from round
to round, so that a steady drift cancels.

By default each turn is a fresh process, and only one runs at a time. Sessions that share a process
slow each other down through thread pools that spin and caches that are shared. Workers kept alive
and blocked on a pipe do not, in trials of a model against itself on 2 cores (both ways: 1 false
verdict in 28, medians within 8 %), and would save half a second a turn. But they hold all models in
memory at once, and whatever luck a process had with its memory layout or the cores of its threads
stays with that model for the whole run, where no number of rounds shows it. A fresh process draws
anew, so that such luck is part of the spread that the interval covers.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError, UsageError
from onnxsmith.runtime.bench_worker import Job, RoundResult, concrete_spec, measure_round
from onnxsmith.runtime.environment import Environment, describe_environment
from onnxsmith.runtime.measurement import MIN_ROUNDS, Comparison, Measurement, compare
from onnxsmith.runtime.turn import measure_in_process, write_feeds
from onnxsmith.spec import ModelSpec
from onnxsmith.target import TARGETS, Target

DEFAULT_ROUNDS = 5


@dataclass(frozen=True)
class BenchResult:
    """What was measured, how, and on what.

    Attributes:
        measurements: One a model, in the order given.
        comparisons: Each further model against the first.
        environment: The machine and the software.
        settings: What was asked for (rounds, runs, warm-up, threads, isolation), as JSON data.
    """

    measurements: tuple[Measurement, ...]
    comparisons: tuple[Comparison, ...]
    environment: Environment
    settings: Mapping[str, object]

    def to_json(self) -> dict[str, object]:
        """Return everything, raw samples included, as JSON data."""
        return {
            "measurements": [m.to_json() for m in self.measurements],
            "comparisons": [c.to_json() for c in self.comparisons],
            "environment": self.environment.to_json(),
            "settings": dict(self.settings),
        }


def bench(
    models: Sequence[str | Path],
    *,
    target: Target = TARGETS["cpu"],
    threads: int | None = None,
    providers: Sequence[str] | None = None,
    require_provider: str | None = None,
    dims: Mapping[str, int] | None = None,
    batch: int | None = None,
    rounds: int = DEFAULT_ROUNDS,
    runs: int | None = None,
    warmup: int = 3,
    isolate: bool = True,
    feeds: Mapping[str, np.ndarray[Any, Any]] | None = None,
    seed: int = 0,
    names: Sequence[str] | None = None,
    timeout_s: float = 600.0,
) -> BenchResult:
    """Measure the latency of ``models`` and compare each with the first.

    Args:
        models: Paths of the model files.
        target: Supplies the providers where none are given.
        threads: Threads within an operator; None leaves the choice to the runtime.
        providers: Execution providers in order of preference, instead of the target's.
        require_provider: A provider that must be in use.
        dims: Sizes of named dimensions; those not named are 1.
        batch: Size of the inputs' first axis where it is free. Throughput counts that many items,
            or the size of the named first axis that all inputs share.
        rounds: Turns of each model; a comparison needs at least 3.
        runs: Timed runs in a turn; None takes as many as fit into a quarter of a second.
        warmup: Runs before the timed ones in each turn.
        isolate: Whether each turn is a process of its own. Without, memory is not reported.
        feeds: Inputs by name, the same for all models; None makes them up from the signatures.
        seed: Seed of made-up inputs and of the bootstrap.
        names: What to call the models; None takes their file names.
        timeout_s: Seconds after which a turn is given up (isolated turns only).

    Raises:
        UsageError: No models, too few rounds to compare, or a dimension that no model has.
        SmithError: A model cannot be loaded or run, or its process crashed; the model is named.
    """
    paths = [Path(model) for model in models]
    _check_counts(len(paths), rounds, runs, warmup)
    specs = [Artifact.load(path).spec for path in paths]
    # Before anything is measured: a bad last model should not cost minutes.
    _check_dims(specs, dims or {}, batch if feeds is None else None)
    job = Job(
        model="",
        target=target.name,
        threads=threads,
        providers=None if providers is None else tuple(providers),
        require_provider=require_provider,
        dims=dict(dims or {}),
        batch=batch,
        runs=runs,
        warmup=warmup,
        seed=seed,
    )
    labels = list(names) if names is not None else unique_names(paths)
    with tempfile.TemporaryDirectory(prefix="onnxsmith-bench-") as folder:
        if feeds is not None:
            job = replace(job, feeds=write_feeds(feeds, Path(folder)))
        jobs = [replace(job, model=str(path)) for path in paths]
        results = _take_turns(labels, jobs, rounds, Path(folder) if isolate else None, timeout_s)
    measurements = tuple(
        _measurement(label, turns, _items(spec, dims or {}, batch))
        for label, turns, spec in zip(labels, results, specs, strict=True)
    )
    comparisons = tuple(compare(measurements[0], m, seed=seed) for m in measurements[1:])
    settings = _settings(job, rounds, isolate)
    return BenchResult(measurements, comparisons, describe_environment(), settings)


def _settings(job: Job, rounds: int, isolate: bool) -> dict[str, object]:
    return {
        "target": job.target,
        "threads": job.threads,
        "dims": dict(job.dims or {}),
        "batch": job.batch,
        "rounds": rounds,
        "runs": job.runs,
        "warmup": job.warmup,
        "isolated": isolate,
    }


def unique_names(paths: Sequence[Path]) -> list[str]:
    """Return the paths' file names; equal ones are told apart by folder, then by number."""
    names = [path.name for path in paths]
    if len(set(names)) < len(names):
        names = [
            f"{path.parent.name}/{path.name}" if path.parent.name else path.name for path in paths
        ]
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return unique


def _check_counts(models: int, rounds: int, runs: int | None, warmup: int) -> None:
    if not models:
        raise UsageError("no models to measure", "give at least one ONNX file")
    if rounds < 1 or warmup < 0 or (runs is not None and runs < 1):
        raise UsageError(
            f"cannot measure {rounds} rounds of {runs} runs after {warmup} of warm-up",
            "give at least one round, one run and no negative warm-up",
        )
    if models > 1 and rounds < MIN_ROUNDS:
        raise UsageError(
            f"{rounds} rounds are too few to compare models",
            f"measure at least {MIN_ROUNDS} rounds",
        )


def _check_dims(specs: Sequence[ModelSpec], dims: Mapping[str, int], batch: int | None) -> None:
    known: set[str] = set()
    for spec in specs:
        known |= _symbols(spec)
        concrete_spec(spec, dims, batch)
    for name in dims:
        if name not in known:
            raise UsageError(
                f"no model has the dimension {name!r}",
                f"their dimensions: {', '.join(sorted(known)) or 'none, all are fixed'}",
            )


def _items(spec: ModelSpec, dims: Mapping[str, int], batch: int | None) -> int:
    """Return the items in one run: the batch, or the named first axis that all inputs share."""
    first = {value.shape[0] if value.shape else None for value in spec.inputs}
    name = first.pop() if len(first) == 1 else None
    return batch or (dims.get(name, 1) if isinstance(name, str) else 1)


def _symbols(spec: ModelSpec) -> set[str]:
    return {d for value in spec.inputs for d in value.shape or () if isinstance(d, str)}


def _take_turns(
    labels: Sequence[str],
    jobs: Sequence[Job],
    rounds: int,
    folder: Path | None,
    timeout_s: float,
) -> list[list[RoundResult]]:
    results: list[list[RoundResult]] = [[] for _ in jobs]
    for number in range(rounds):
        order = range(len(jobs)) if number % 2 == 0 else reversed(range(len(jobs)))
        for index in order:
            try:
                if folder is not None:
                    result = measure_in_process(jobs[index], folder, timeout_s)
                else:
                    # The peak memory of this process is not that of one model.
                    result = replace(measure_round(jobs[index]), peak_memory_bytes=None)
            except SmithError as error:
                raise SmithError(f"{labels[index]}: {error.message}", error.hint) from error
            results[index].append(result)
    return results


def _measurement(name: str, turns: Sequence[RoundResult], batch: int) -> Measurement:
    memory = [turn.peak_memory_bytes for turn in turns if turn.peak_memory_bytes is not None]
    return Measurement(
        name,
        tuple(sample for turn in turns for sample in turn.samples_ms),
        tuple(number for number, turn in enumerate(turns) for _ in turn.samples_ms),
        batch,
        statistics.median(turn.load_ms for turn in turns),
        max(memory, default=None),
        turns[0].providers,
    )
