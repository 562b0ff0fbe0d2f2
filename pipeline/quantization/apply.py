"""Run quantizing passes on an artifact and check that the result is not broken."""

from __future__ import annotations

from collections.abc import Sequence

from onnxsmith.errors import RefusedError, SmithError
from onnxsmith.passes.base import Pass
from onnxsmith.passes.manager import PassManager, PipelineResult
from onnxsmith.passes.verify import Verifier, make_verifier
from onnxsmith.pipeline.quantization.job import Job
from onnxsmith.pipeline.quantization.result import QuantizeResult


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
    request = job.request
    try:
        verifier = make_verifier(job.artifact, job.samples, request.dims, request.seed)
        return verifier, ()
    except SmithError as error:
        if job.source is not None:
            raise
        return None, (f"not verified: {error.message} ({error.hint})",)


def _warnings(done: PipelineResult) -> tuple[str, ...]:
    """Return what the passes want the user to know."""
    return tuple(str(w) for run in done.runs for w in run.details.get("warnings", ()))
