"""Optimize one artifact: pick the passes, check them, and measure the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from onnxsmith.artifact import Artifact, Step
from onnxsmith.errors import SmithError, UsageError
from onnxsmith.numerics import Tolerance
from onnxsmith.passes.background import LateVerifier
from onnxsmith.passes.base import Conversion, Pass, PassContext, Samples
from onnxsmith.passes.manager import Dropped, PassManager, PipelineResult, VerifyMode
from onnxsmith.passes.observers import Checker, Dump, Observer
from onnxsmith.passes.pipeline import PassPipeline
from onnxsmith.passes.verify import Stage, Verifier, make_verifier, stages
from onnxsmith.pipeline.data import open_data
from onnxsmith.pipeline.gate import Change, measure_change
from onnxsmith.pipeline.kernels.choose import choose_kernels
from onnxsmith.pipeline.kernels.layout import layout_candidates
from onnxsmith.pipeline.kernels.lost import lost_in_words
from onnxsmith.pipeline.kernels.measure import Kernel
from onnxsmith.pipeline.slower import SlowFusions
from onnxsmith.runtime.census import lost_fusions, runtime_census
from onnxsmith.spec import fixed_dims
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
        without: Names of passes that are left out of the pipeline.
        progress: Told what is being done where it takes long.
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
    without: frozenset[str] = frozenset()
    progress: Callable[[str], None] | None = None

    def say(self, words: str) -> None:
        """Report progress."""
        if self.progress is not None:
            self.progress(words)


@dataclass(frozen=True)
class OptimizeResult:
    """What came out: the artifact, how the passes went, and how fast it is."""

    artifact: Artifact
    pipeline: PipelineResult
    dropped: tuple[Dropped, ...]
    warnings: tuple[str, ...]
    speed: str = ""
    comparison: Mapping[str, Any] | None = None
    runtime_census_before: Mapping[str, int] | None = None
    runtime_census_after: Mapping[str, int] | None = None
    kernels: tuple[Kernel, ...] = ()

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
            "runtime_census_before": self.runtime_census_before,
            "runtime_census_after": self.runtime_census_after,
            "kernels": [kernel.to_json() for kernel in self.kernels],
        }


def optimize(artifact: Artifact, request: OptimizeRequest) -> OptimizeResult:
    """Return the optimized artifact; the input stays as it was.

    Raises:
        SmithError: The passes lack what they need, or the data does not fit the model.
    """
    if request.verify not in _MODES:
        raise UsageError(f"unknown verify mode {request.verify!r}", f"known: {', '.join(_MODES)}")
    artifact.spec.with_dims(request.dims)  # refuses unknown names
    pipeline = _pipeline(request)
    samples = _samples(artifact, request)
    signatures = stages(artifact.spec, pipeline.passes)
    unchecked: list[str] = []

    def make() -> Verifier | None:
        verifier, words = _verifier(artifact, request, samples, signatures)
        unchecked.extend(words)
        return verifier

    late = LateVerifier(make)
    if samples is not None:
        late.get()  # passes may read the same data, which need not bear two readers at once
    observers: list[Observer] = [Dump(request.dump)] if request.dump else []
    if request.verify == "each":
        observers.append(Checker())
    manager = PassManager(
        pipeline.passes,
        PassContext(target=request.target, samples=samples, seed=request.seed),
        late,
        _MODES[request.verify],
        observers,
    )
    done = manager.run(artifact)
    warnings = tuple(unchecked) + tuple(
        f"output {name!r} differs between two runs of the input: not verified"
        for name in done.unverified
    )
    result = OptimizeResult(done.artifact, done, done.dropped, warnings)
    if not request.gate:
        return result
    result = _with_kernels(result, manager, request)
    if result.artifact is done.artifact and done.census_before == done.census_after:
        return result
    gated = _gated(artifact, result, request, manager.resolved_verifier())
    return _with_runtime_census(artifact, gated, request)


def _with_kernels(
    result: OptimizeResult, manager: PassManager, request: OptimizeRequest
) -> OptimizeResult:
    """Avoid fused kernels that measure slower than their parts, and try other layouts."""
    request.say("measuring fused kernels")
    try:
        choice = choose_kernels(result.artifact, request.target, request.dims, request.threads)
        result = replace(result, kernels=choice.kernels)
        if choice.passes:
            result = _tried(result, choice.passes, manager, request, keep="not slower")
        for pass_ in layout_candidates(result.artifact, request.target):
            result = _tried(result, (pass_,), manager, request, keep="faster")
    except SmithError as error:
        words = f"kernels unmeasured: {error.message}"
        return replace(result, warnings=(*result.warnings, words))
    return result


def _tried(
    result: OptimizeResult,
    passes: Sequence[Pass],
    manager: PassManager,
    request: OptimizeRequest,
    *,
    keep: Literal["not slower", "faster"],
) -> OptimizeResult:
    """Run more passes on a result, and keep what they make if the whole model is fast with it."""
    request.say(f"measuring {', '.join(str(pass_) for pass_ in passes)}")
    tried = replace(manager, passes=passes).run(result.artifact)
    settings = (request.target, request.threads, request.dims, request.seed)
    change = measure_change(result.artifact, tried.artifact, *settings)
    wanted = change.faster if keep == "faster" else not change.slower
    if tried.dropped or not wanted:
        return result
    return replace(result, artifact=tried.artifact, pipeline=_joined(result.pipeline, tried))


def _joined(first: PipelineResult, then: PipelineResult) -> PipelineResult:
    return replace(
        then,
        runs=(*first.runs, *then.runs),
        dropped=first.dropped,
        census_before=first.census_before,
    )


def _pipeline(request: OptimizeRequest) -> PassPipeline:
    if request.passes is None:
        pipeline = PassPipeline.preset(request.preset or request.target.preset)
    else:
        pipeline = PassPipeline.parse(request.passes)
    return PassPipeline(tuple(p for p in pipeline.passes if p.name not in request.without))


def _gated(
    artifact: Artifact,
    result: OptimizeResult,
    request: OptimizeRequest,
    verifier: Verifier | None,
) -> OptimizeResult:
    """Leave out what measures slower, or say that it cannot be measured."""
    request.say("measuring the result against the input")
    try:
        change = _measure(artifact, result.artifact, request, verifier)
        if not change.slower:
            return replace(result, speed=change.words, comparison=change.figures)
    except SmithError as error:
        words = f"speed unmeasured: {error.message}"
        return replace(result, warnings=(*result.warnings, words))
    try:
        return _without_slow(artifact, result, request, verifier, change)
    except SmithError as error:
        # The result is known to be slower: what could be kept of it is not.
        words = f"the search for what is slower failed: {error.message}"
        dropped = tuple(Dropped(r.pass_, "slower", change.words) for r in result.pipeline.runs)
        given_back = replace(result, artifact=artifact, warnings=(*result.warnings, words))
        return _noted(given_back, dropped)


def _without_slow(
    artifact: Artifact,
    result: OptimizeResult,
    request: OptimizeRequest,
    verifier: Verifier | None,
    change: Change,
) -> OptimizeResult:
    """Return the result of the fusions that are not slow; failing that, of the cleanup."""
    cleanup_names = {p.name for p in PassPipeline.preset(_CLEANUP_PRESET).passes}
    modified = [run.pass_ for run in result.pipeline.runs if run.modified]
    fusions = {p.name: p for p in modified if p.name not in cleanup_names}
    request.say("slower: measuring the cleanup alone")
    cleanup = _only(artifact, request, frozenset(fusions), frozenset())
    cleaned = cleanup.pipeline.census_before != cleanup.pipeline.census_after
    first = _measure(artifact, cleanup.artifact, request, verifier) if cleaned else None
    if not fusions or (first is not None and first.slower):
        words = change.words if first is None else first.words
        dropped = tuple(Dropped(p, "slower", words) for p in modified)
        return _noted(replace(result, artifact=artifact, speed=words), dropped)

    def compare(before: frozenset[str], after: frozenset[str]) -> Change:
        request.say(f"measuring {', '.join(sorted(after - before))}")
        built = [
            _only(artifact, request, frozenset(fusions), kept).artifact for kept in (before, after)
        ]
        return _measure(built[0], built[1], request, verifier)

    found = SlowFusions(compare)
    found.search(list(fusions), change.words)
    kept, final = _only(artifact, request, frozenset(fusions), found.kept, verify=True), first
    if found.kept:
        final = _measure(artifact, kept.artifact, request, verifier)
        if final.slower:
            found.dropped |= dict.fromkeys(found.kept, final.words)
            kept = _only(artifact, request, frozenset(fusions), frozenset(), verify=True)
            final = first
    dropped = tuple(
        Dropped(p, "slower", found.dropped[n]) for n, p in fusions.items() if n in found.dropped
    )
    speed = (final.words, final.figures) if final else ("", None)
    return _noted(replace(kept, speed=speed[0], comparison=speed[1]), dropped)


def _only(
    artifact: Artifact,
    request: OptimizeRequest,
    fusions: frozenset[str],
    kept: frozenset[str],
    *,
    verify: bool = False,
) -> OptimizeResult:
    """Run the pipeline again with only some of the fusions; trials are not checked."""
    mode = request.verify if verify else "off"
    without = request.without | (fusions - kept)
    return optimize(artifact, replace(request, gate=False, without=without, verify=mode, dump=None))


def _noted(result: OptimizeResult, dropped: tuple[Dropped, ...]) -> OptimizeResult:
    """Add passes that were left out to the report, and to the history where it is a new model."""
    steps = tuple(
        Step(d.pass_.name, "dropped", d.pass_.options(), {"cause": d.cause}) for d in dropped
    )
    artifact = result.artifact
    if artifact is result.pipeline.artifact:
        artifact = Artifact(artifact.model, (*artifact.history, *steps))
    return replace(result, artifact=artifact, dropped=(*result.dropped, *dropped))


def _with_runtime_census(
    artifact: Artifact, result: OptimizeResult, request: OptimizeRequest
) -> OptimizeResult:
    """Say what the runtime makes of the input and of the result, and which fusions it lost."""
    if result.artifact is artifact:
        return result
    try:
        before = runtime_census(artifact, request.target)
        after = runtime_census(result.artifact, request.target)
    except SmithError as error:
        words = f"the runtime's operators are unknown: {error.message}"
        return replace(result, warnings=(*result.warnings, words))
    given_up = {kernel.op_type for kernel in result.kernels if not kernel.pays}
    settings = (request.target, request.dims, request.threads)
    try:
        lost = lost_in_words(lost_fusions(before, after), artifact, given_up, *settings)
    except SmithError as error:
        lost = (f"the fusions that were lost are unmeasured: {error.message}",)
    return replace(
        result,
        warnings=(*result.warnings, *lost),
        runtime_census_before=before,
        runtime_census_after=after,
    )


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
    artifact: Artifact,
    request: OptimizeRequest,
    samples: Samples | None,
    signatures: Sequence[Stage],
) -> tuple[Verifier | None, tuple[str, ...]]:
    if request.verify == "off":
        return None, ()
    dims = dict(request.dims)
    for stage in signatures:  # what a pass fixes is checked at that size
        if stage.conversion == Conversion():
            dims |= fixed_dims(artifact.spec, stage.spec)
    try:
        verifier = make_verifier(
            artifact,
            samples,
            dims,
            request.seed,
            tolerance=request.tolerance,
            stages=signatures,
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
