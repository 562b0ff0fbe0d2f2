"""Quantize one artifact and hold it to a budget."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.quantization.budget import hold_to_budget
from onnxsmith.pipeline.quantization.job import Job
from onnxsmith.pipeline.quantization.mode import Mode
from onnxsmith.pipeline.quantization.modes import MODES
from onnxsmith.pipeline.quantization.partial_score import PartialScore
from onnxsmith.pipeline.quantization.request import QuantizeRequest
from onnxsmith.pipeline.quantization.result import QuantizeResult
from onnxsmith.pipeline.quantization.sensitivity import calibrated, sensitivity
from onnxsmith.pipeline.report.quantization import LayerCost


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
    if request.sensitivity and request.mode not in ("auto", "static"):
        raise UsageError(
            f"mode {request.mode} has no layers to measure one by one",
            "give --sensitivity with --mode static or auto",
        )
    job = Job.open(artifact, request)
    result = replace(mode.run(job), dims=job.request.dims)
    if request.sensitivity and not result.layers:
        layers, note = _layers(job)
        result = replace(result, layers=layers, layers_note=note)
    held = request.max_drop is None or result.search is not None  # a search has held it already
    return result if held else hold_to_budget(job, result)


def _layers(job: Job) -> tuple[tuple[LayerCost, ...], str]:
    """Return what each layer of a static quantization costs, and what the drops are."""
    score = PartialScore.open(job)
    with tempfile.TemporaryDirectory(prefix="onnxsmith-layers-") as folder:
        layers = calibrated(job, Path(folder))
        found = sensitivity(layers, threads=job.request.threads, score=score, say=job.request.say)
    return found, "" if score is None else score.note(found)
