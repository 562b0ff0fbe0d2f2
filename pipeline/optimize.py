"""Optimize one artifact: pick the passes, check them, and measure the result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError, UsageError
from onnxsmith.numerics import Tolerance
from onnxsmith.passes.base import PassContext, Samples
from onnxsmith.passes.manager import Dropped, PassManager, PipelineResult, VerifyMode
from onnxsmith.passes.observers import Checker, Dump, Observer
from onnxsmith.passes.pipeline import PassPipeline
from onnxsmith.passes.verify import Verifier, make_verifier
from onnxsmith.pipeline.data import open_data
from onnxsmith.pipeline.frontends.repair import repair_graph
from onnxsmith.pipeline.gate import Change, measure_change
from onnxsmith.target import TARGETS, Target

_MODES: dict[str, VerifyMode] = {"end": "end", "each": "each", "off": "off"}
_PROBE_SAMPLES = 4
# How the runtime says that a node cannot take what it is given; it names the node.
_WRONG_TYPES = ("bound to different types", "of input parameter")
_CLEANUP_PRESET = "safe"


@dataclass(frozen=True)
class OptimizeRequest:
    """What to do with an artifact.

    Attributes:
        passes: A pipeline as text; None for a preset.
        preset: A preset's name; None for the target's.
        target: Where the model will run.
        verify: ``end``, ``each`` or ``off``.
        data: A data source as text, to probe and calibrate with.
        dims: Sizes of symbolic dimensions in made-up inputs.
        tolerance: Overrides the tolerance by element type.
        gate: Whether a result that measures slower is dropped.
        dump: A folder for the graph after each pass.
        threads: Threads of the measured sessions.
        seed: Seed of made-up inputs.
    """

    passes: str | None = None
    preset: str | None = None
    target: Target = TARGETS["cpu"]
    verify: str = "end"
    data: str | None = None
    dims: Mapping[str, int] = field(default_factory=dict)
    tolerance: Tolerance | None = None
    gate: bool = False
    dump: Path | None = None
    threads: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class OptimizeResult:
    """What came out: the artifact, how the passes went, and how fast it is."""

    artifact: Artifact
    pipeline: PipelineResult
    dropped: tuple[Dropped, ...]
    warnings: tuple[str, ...]
    speed: str = ""
    comparison: Mapping[str, Any] | None = None

    def check_in_words(self) -> str:
        """Say what the check found."""
        if not self.pipeline.verified:
            return "not checked"
        worst = max((d.max_rel for d in self.pipeline.differences), default=0.0)
        return f"checked: largest difference {worst:.1e} of the largest magnitude"

    def dropped_in_words(self) -> tuple[str, ...]:
        """Say what was left out, one line a reason."""
        causes: dict[tuple[str, str], list[str]] = {}
        for dropped in self.dropped:
            causes.setdefault((dropped.cause, dropped.reason), []).append(str(dropped.pass_))
        return tuple(
            f"dropped {', '.join(names) if len(names) < 4 else f'{len(names)} passes'} "
            f"({cause}): {reason}"
            for (cause, reason), names in causes.items()
        )

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return {
            **self.pipeline.to_json(),
            "dropped": [dropped.to_json() for dropped in self.dropped],
            "warnings": list(self.warnings),
            "speed": self.comparison,
        }


def optimize(artifact: Artifact, request: OptimizeRequest) -> OptimizeResult:
    """Return the optimized artifact; the input stays as it was.

    Raises:
        SmithError: The passes lack what they need, or the data does not fit the model.
    """
    if request.verify not in _MODES:
        raise UsageError(f"unknown verify mode {request.verify!r}", f"known: {', '.join(_MODES)}")
    artifact.spec.with_dims(request.dims)  # refuses unknown names
    preset = request.preset or request.target.preset
    pipeline = (
        PassPipeline.preset(preset)
        if request.passes is None
        else PassPipeline.parse(request.passes)
    )
    samples = _samples(artifact, request)
    verifier, warnings = _verifier(artifact, request, samples)
    observers: list[Observer] = [Dump(request.dump)] if request.dump else []
    if request.verify == "each":
        observers.append(Checker())
    manager = PassManager(
        pipeline.passes,
        PassContext(target=request.target, samples=samples, seed=request.seed),
        verifier,
        _MODES[request.verify],
        observers,
    )
    done = manager.run(artifact)
    warnings += tuple(
        f"output {name!r} differs between two runs of the input: not verified"
        for name in done.unverified
    )
    result = OptimizeResult(done.artifact, done, done.dropped, warnings)
    if not request.gate or done.census_before == done.census_after:
        return result
    result = _gated(artifact, result, pipeline, request, verifier)
    if result.artifact is artifact and preset != _CLEANUP_PRESET:
        # The fusions may be what is slow: the cleanup alone is tried before all is given up.
        fallback = optimize(artifact, replace(request, preset=_CLEANUP_PRESET))
        if fallback.artifact is not artifact:
            lost = tuple(d for d in result.dropped if d.pass_.name not in _names(fallback))
            return replace(fallback, dropped=(*fallback.dropped, *lost))
    return result


def load_artifact(path: Path, *, repair: bool = False) -> tuple[Artifact, tuple[str, ...]]:
    """Read a model file; with ``repair``, mend what is invalid and say what was done.

    Raises:
        SmithError: The file holds no valid model, also after the repairs.
    """
    if not repair:
        return Artifact.load(path), ()
    done: list[str] = []
    artifact = Artifact.load(path, done)
    before = _shape_of_graph(artifact)
    repair_graph(artifact.model)
    after = _shape_of_graph(artifact)
    if before[0] > after[0]:
        done.append(f"removed {before[0] - after[0]} nodes that no output depends on")
    if before[1] != after[1]:
        done.append("gave unique names to nodes and values, and sorted the nodes")
    done.append("inferred the shapes of all values anew")
    return artifact, tuple(done)


def _shape_of_graph(artifact: Artifact) -> tuple[int, list[str | None]]:
    nodes = [node for graph in artifact.model.graphs() for node in graph]
    return len(nodes), [v.name for node in nodes for v in node.outputs if v.uses()]


def _names(result: OptimizeResult) -> set[str]:
    return {run.pass_.name for run in result.pipeline.runs}


def _gated(
    artifact: Artifact,
    result: OptimizeResult,
    pipeline: PassPipeline,
    request: OptimizeRequest,
    verifier: Verifier | None,
) -> OptimizeResult:
    """Give the input back where the result measures slower, or say that it cannot be measured."""
    try:
        change = _measure(artifact, result.artifact, request, verifier)
    except SmithError as error:
        words = f"speed unmeasured: {error.message}"
        return replace(result, warnings=(*result.warnings, words))
    result = replace(result, speed=change.words, comparison=change.figures)
    if not change.slower:
        return result
    dropped = tuple(Dropped(p, "slower", change.words) for p in pipeline.passes)
    return replace(result, artifact=artifact, dropped=(*result.dropped, *dropped))


def _measure(
    before: Artifact, after: Artifact, request: OptimizeRequest, verifier: Verifier | None
) -> Change:
    """Measure on single items, or on what the check ran on where the model takes no single item."""
    settings = (request.target, request.threads, request.dims, request.seed)
    try:
        return measure_change(before, after, *settings)
    except SmithError:
        if verifier is None:
            raise
        return measure_change(before, after, *settings, feeds=verifier.probes[0])


def _samples(artifact: Artifact, request: OptimizeRequest) -> Samples | None:
    if request.data is None:
        return None
    source = open_data(request.data, artifact.spec)

    def stream() -> Iterator[dict[str, np.ndarray[Any, Any]]]:
        for batch in source.batches(_PROBE_SAMPLES):
            yield batch.inputs

    return stream


def _verifier(
    artifact: Artifact, request: OptimizeRequest, samples: Samples | None
) -> tuple[Verifier | None, tuple[str, ...]]:
    if request.verify == "off":
        return None, ()
    try:
        verifier = make_verifier(
            artifact, samples, request.dims, request.seed, tolerance=request.tolerance
        )
    except SmithError as error:
        if samples is not None:
            raise
        if any(words in error.message for words in _WRONG_TYPES):
            raise SmithError(
                f"the model is not valid: {error.message}", "export the model again"
            ) from error
        # A model that this runtime cannot run (an operator of another one, say) may still be
        # cleaned up; that nothing checked it is said aloud.
        return None, (f"not verified: {error.message} ({error.hint})",)
    return verifier, ()
