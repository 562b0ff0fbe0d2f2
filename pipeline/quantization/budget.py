"""Hold a quantized artifact to the loss of a metric that the user accepts."""

from __future__ import annotations

from dataclasses import replace

from onnxsmith.errors import RefusedError
from onnxsmith.pipeline.data import open_data, refuse_shared
from onnxsmith.pipeline.evaluation import evaluate
from onnxsmith.pipeline.evaluation.table import make_metric
from onnxsmith.pipeline.quantization.job import Job
from onnxsmith.pipeline.quantization.result import QuantizeResult
from onnxsmith.runtime.session import Session

_SCORING_BATCH = 64


def hold_to_budget(job: Job, result: QuantizeResult) -> QuantizeResult:
    """Return the result with scores before and after.

    Raises:
        RefusedError: It loses more than ``max_drop`` of the metric.
        SmithError: The metric cannot be computed, or a sample is also among the calibration data.
    """
    request = job.request
    assert request.eval_data is not None  # quantize() checked
    assert request.max_drop is not None  # likewise
    held_out = open_data(request.eval_data, job.artifact.spec)
    if job.source is not None:
        refuse_shared(job.source, held_out)
    scores = []
    for candidate in (job.artifact, result.artifact):
        with Session(candidate, request.target, threads=request.threads) as session:
            scores.append(evaluate(session, held_out, [request.metric], _SCORING_BATCH))
    before, after = scores
    better = make_metric(request.metric).higher_is_better
    old, new = before.metrics[request.metric], after.metrics[request.metric]
    drop = old - new if better else new - old
    if not drop <= request.max_drop:  # NaN is within no budget
        raise RefusedError(
            f"{request.metric} {'drops' if better else 'rises'} by {drop:.4f}, from {old:.4f} "
            f"to {new:.4f}; at most {request.max_drop} is allowed",
            "calibrate on more data, try another --method, or allow more with --max-drop",
        )
    return replace(result, before=before, after=after)
