"""One round of one model: `bench` runs this in a process of its own.

Started as ``python -P -m onnxsmith.runtime.bench_worker RESULT``, with a `Job` as JSON on standard
input; RESULT is written as JSON. Standard output is not used, since native code may print there.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.numerics import numpy_dtype
from onnxsmith.runtime.environment import peak_memory_bytes
from onnxsmith.runtime.probe import probe_inputs
from onnxsmith.runtime.session import Session
from onnxsmith.spec import ModelSpec, ValueSpec
from onnxsmith.target import find_target

Array = np.ndarray[Any, Any]

# Without a number of runs a round takes about this long, within these bounds.
_ROUND_SECONDS = 0.25
_FEWEST_RUNS = 10
_MOST_RUNS = 500


@dataclass(frozen=True)
class Job:
    """What one round does.

    Attributes:
        model: Path of the model file.
        feeds: Path of an npz file with the inputs; None makes them from the signature.
        target: Name of the target.
        threads: Threads within an operator, or None for the runtime's choice.
        providers: Execution providers in order, or None for the target's.
        require_provider: A provider that must be in use.
        dims: Sizes of named dimensions; others are 1.
        batch: Size of the inputs' first axis where that is not fixed; None leaves it to ``dims``.
        runs: Timed runs; None takes as many as fit into a quarter of a second (10 to 500).
        warmup: Runs before the timed ones.
        seed: Seed of made-up inputs.
    """

    model: str
    feeds: str | None = None
    target: str = "cpu"
    threads: int | None = None
    providers: tuple[str, ...] | None = None
    require_provider: str | None = None
    dims: Mapping[str, int] | None = None
    batch: int | None = None
    runs: int | None = None
    warmup: int = 3
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the job as JSON data."""
        return asdict(self)


@dataclass(frozen=True)
class RoundResult:
    """What one round found: times in milliseconds, memory in bytes."""

    samples_ms: tuple[float, ...]
    load_ms: float
    peak_memory_bytes: int | None
    providers: tuple[str, ...]


def measure_round(job: Job) -> RoundResult:
    """Load the model, warm it up and time it.

    Raises:
        SmithError: The model, its inputs or a provider do not do.
    """
    artifact = Artifact.load(job.model)
    feeds = _feeds(job, artifact)
    start = time.perf_counter()
    with Session(
        artifact,
        find_target(job.target),
        threads=job.threads,
        providers=job.providers,
        require_provider=job.require_provider,
    ) as session:
        load_ms = (time.perf_counter() - start) * 1000.0
        run = _runner(session, feeds)
        for _ in range(job.warmup):
            run()
        samples = _samples(run, job.runs)
        return RoundResult(samples, load_ms, peak_memory_bytes(), session.providers)


def concrete_spec(spec: ModelSpec, dims: Mapping[str, int], batch: int | None) -> ModelSpec:
    """Return the signature with every free input dimension fixed: by name, by batch, or as 1.

    Raises:
        SmithError: ``batch`` is given, and an input's first axis has another fixed size.
    """
    return ModelSpec(tuple(_fixed(value, dims, batch) for value in spec.inputs), spec.outputs)


def _fixed(value: ValueSpec, dims: Mapping[str, int], batch: int | None) -> ValueSpec:
    if not value.shape:
        return value
    first, *rest = value.shape
    if batch is not None and isinstance(first, int) and first != batch:
        raise SmithError(
            f"the input {value} has a fixed first axis, so a batch of {batch} does not fit",
            f"leave --batch out or give --batch {first}",
        )
    sizes = [d if isinstance(d, int) else dims.get(d or "", 1) for d in rest]
    if not isinstance(first, int):
        first = batch if batch is not None else dims.get(first or "", 1)
    return replace(value, shape=(first, *sizes))


def _feeds(job: Job, artifact: Artifact) -> dict[str, Array]:
    if job.feeds is None:
        spec = concrete_spec(artifact.spec, job.dims or {}, job.batch)
        return probe_inputs(artifact.model, spec, {}, job.seed)
    with np.load(job.feeds, allow_pickle=False) as arrays:
        feeds = {name: np.asarray(arrays[name]) for name in arrays.files}
    dtypes = {value.name: value.dtype for value in artifact.spec.inputs}
    # npz files hold bfloat16 and other extension types as bytes of their width.
    return {
        name: array.view(numpy_dtype(dtypes[name]))
        if array.dtype.kind == "V" and name in dtypes
        else array
        for name, array in feeds.items()
    }


def _runner(session: Session, feeds: dict[str, Array]) -> Callable[[], object]:
    """Return a call that runs the model once.

    Bound inputs and outputs keep the checks and copies of Python out of the time; the runtime
    binds tensors of numpy's own numeric types only.
    """
    bindable = all(
        isinstance(array, np.ndarray) and array.dtype.isbuiltin == 1 and array.dtype.kind in "biufc"
        for array in feeds.values()
    )
    if not bindable or set(feeds) != {v.name for v in session.spec.inputs}:
        return lambda: session.run(feeds)
    binding = session.bind()
    for name, array in feeds.items():
        binding.set_input(name, array)
    return binding.run


def _samples(run: Callable[[], object], runs: int | None) -> tuple[float, ...]:
    """Return the latencies of ``runs`` calls in milliseconds."""
    samples: list[float] = []
    begin = time.perf_counter_ns()
    while True:
        start = time.perf_counter_ns()
        run()
        end = time.perf_counter_ns()
        # A clock tick is the least that can be told from nothing.
        samples.append(max(end - start, 1) / 1e6)
        if runs is not None:
            if len(samples) >= runs:
                return tuple(samples)
        elif len(samples) >= _MOST_RUNS or (
            len(samples) >= _FEWEST_RUNS and end - begin >= _ROUND_SECONDS * 1e9
        ):
            return tuple(samples)


def main() -> int:
    """Read the job, do it, write the result; errors of the model are results, too."""
    job = Job(**json.load(sys.stdin))
    try:
        report: dict[str, Any] = {"result": asdict(measure_round(job))}
    except SmithError as error:
        report = {"error": [error.message, error.hint]}
    except MemoryError:
        report = {"error": ["out of memory", "use a machine with more memory or a smaller batch"]}
    Path(sys.argv[1]).write_text(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
