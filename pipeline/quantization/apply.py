"""Run quantizing passes on an artifact and check that the result is not broken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from onnxsmith.errors import RefusedError, SmithError
from onnxsmith.passes.base import Pass, Samples
from onnxsmith.passes.manager import PassManager, PipelineResult
from onnxsmith.passes.quantization.calibration.samples import sample_count
from onnxsmith.passes.verify import Verifier, make_verifier
from onnxsmith.pipeline.quantization.job import Job
from onnxsmith.pipeline.quantization.result import QuantizeResult

# Each comparison runs the model on all of them: on 16, of BERT-base, they took half of the time.
_ENOUGH = 8


def apply_passes(job: Job, passes: Sequence[Pass], *, verify: bool = True) -> QuantizeResult:
    """Return what the passes make of the job's artifact, which stays as it was.

    Args:
        job: What to quantize.
        passes: What with, in order.
        verify: Whether the result is run and compared with the input.

    Raises:
        SmithError: A pass lacks what it needs, or refuses the model.
        RefusedError: The result is broken: NaN, another signature, or it does not run.
    """
    verifier, warnings = _verifier(job) if verify else (None, ())
    done = PassManager(passes, job.context(), verifier).run(job.artifact)
    for dropped in done.dropped:
        if dropped.pass_.effect != "exact":
            raise RefusedError(
                f"the quantized model is broken: {dropped.reason}", "try another --mode"
            )
        warnings += (f"{dropped.pass_} was left out: {dropped.reason}",)
    return QuantizeResult(done.artifact, done, (*warnings, *_warnings(done)))


def _verifier(job: Job) -> tuple[Verifier | None, tuple[str, ...]]:
    request, samples = job.request, job.samples
    few = None if samples is None else partial(_few, samples)
    try:
        return make_verifier(job.artifact, few, request.dims, request.seed), ()
    except SmithError as error:
        if job.source is not None:
            raise
        return None, (f"not verified: {error.message} ({error.hint})",)


def _few(samples: Samples) -> Iterator[dict[str, Any]]:
    """Yield batches until there are samples enough to compare models on."""
    count = 0
    for feeds in samples():
        yield feeds
        count += sample_count(feeds)
        if count >= _ENOUGH:
            return


def _warnings(done: PipelineResult) -> tuple[str, ...]:
    """Return what the passes want the user to know."""
    return tuple(str(w) for run in done.runs for w in run.details.get("warnings", ()))
