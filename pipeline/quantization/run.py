"""Quantize one artifact and hold it to a budget."""

from __future__ import annotations

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.quantization.budget import hold_to_budget
from onnxsmith.pipeline.quantization.job import Job
from onnxsmith.pipeline.quantization.mode import Mode
from onnxsmith.pipeline.quantization.modes import MODES
from onnxsmith.pipeline.quantization.request import QuantizeRequest
from onnxsmith.pipeline.quantization.result import QuantizeResult


def quantize(artifact: Artifact, request: QuantizeRequest) -> QuantizeResult:
    """Return the quantized artifact; the input stays as it was.

    Raises:
        UsageError: The mode is unknown, or a budget has no data to score on.
        SmithError: There is no data to calibrate with, or the model cannot be quantized.
        RefusedError: The result is broken, or loses more than ``max_drop`` of the metric.
    """
    mode: Mode = MODES.find(request.mode)()
    if request.max_drop is not None and request.eval_data is None:
        raise UsageError("--max-drop needs data to score on", "give --eval-data")
    if mode.needs_data and request.data is None:
        raise SmithError(f"{request.mode} quantization needs data to calibrate with", "give --data")
    job = Job.open(artifact, request)
    result = mode.run(job)
    return result if request.max_drop is None else hold_to_budget(job, result)
