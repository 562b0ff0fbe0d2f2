"""Quantize one artifact and hold it to a budget."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from onnxsmith.artifact import Artifact
from onnxsmith.errors import RefusedError, SmithError, UsageError
from onnxsmith.passes.base import Pass, PassContext
from onnxsmith.passes.layout.convert_opset import ConvertOpset
from onnxsmith.passes.manager import PassManager, PipelineResult
from onnxsmith.passes.quantization.flatten_biases import FlattenBiases
from onnxsmith.passes.quantization.quantize_dynamic import QuantizeDynamic
from onnxsmith.passes.quantization.quantize_static import QuantizeStatic
from onnxsmith.passes.verify import Verifier, make_verifier
from onnxsmith.pipeline.data import DataSource, feeds, open_data, refuse_shared
from onnxsmith.pipeline.evaluation import Evaluation, evaluate
from onnxsmith.runtime.session import Session
from onnxsmith.target import TARGETS, Target

_CALIBRATION_BATCH = 8
_FEW_SAMPLES = 32
_SCORING_BATCH = 64
# DequantizeLinear takes one scale a channel since opset 13.
_CHANNEL_OPSET = 13


@dataclass(frozen=True)
class QuantizeRequest:
    """How to quantize.

    Attributes:
        mode: ``dynamic`` needs no data, ``static`` calibrates with it.
        data: A data source as text.
        eval_data: Held-out data for the budget.
        metric: What ``max_drop`` is about; higher is better.
        max_drop: Largest loss of the metric that is accepted.
        per_channel: One scale an output channel instead of one a tensor.
        reduce_range: 7-bit weights, for x86 CPUs without VNNI.
        method: How ranges are taken from calibration data.
        samples: Most calibration batches to read.
        target: Where the model will run.
        dims: Sizes of symbolic dimensions in made-up inputs.
        threads: Threads of sessions.
        seed: Seed of made-up inputs.
    """

    mode: Literal["dynamic", "static"] = "dynamic"
    data: str | None = None
    eval_data: str | None = None
    metric: str = "accuracy"
    max_drop: float | None = None
    per_channel: bool = True
    reduce_range: bool = False
    method: Literal["minmax", "entropy", "percentile"] = "minmax"
    samples: int = 256
    target: Target = TARGETS["cpu"]
    dims: Mapping[str, int] = field(default_factory=dict)
    threads: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class QuantizeResult:
    """The quantized artifact, how far it departs, and its scores where there is a budget."""

    artifact: Artifact
    pipeline: PipelineResult
    warnings: tuple[str, ...]
    before: Evaluation | None = None
    after: Evaluation | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return {
            **self.pipeline.to_json(),
            "warnings": list(self.warnings),
            "before": self.before.to_json() if self.before else None,
            "after": self.after.to_json() if self.after else None,
        }


def quantize(artifact: Artifact, request: QuantizeRequest) -> QuantizeResult:
    """Return the quantized artifact; the input stays as it was.

    Raises:
        SmithError: There is no data to calibrate with, or the model cannot be quantized.
        RefusedError: The result is broken, or loses more than ``max_drop`` of the metric.
    """
    if request.max_drop is not None and request.eval_data is None:
        raise UsageError("--max-drop needs data to score on", "give --eval-data")
    source = open_data(request.data, artifact.spec) if request.data else None
    if request.mode == "static" and source is None:
        raise SmithError("static quantization needs data to calibrate with", "give --data")
    verifier, warnings = _verifier(artifact, request, source)
    context = PassContext(
        target=request.target,
        samples=(lambda: _stream(source, artifact)) if source else None,
        seed=request.seed,
    )
    passes = [*_newer(artifact, request), FlattenBiases(), _pass(request)]
    done = PassManager(passes, context, verifier).run(artifact)
    for dropped in done.dropped:
        raise RefusedError(
            f"the quantized model is broken: {dropped.reason}", "try the other --mode"
        )
    result = QuantizeResult(done.artifact, done, (*warnings, *_few(request, done)))
    return result if request.max_drop is None else _budget(artifact, result, request, source)


def _newer(artifact: Artifact, request: QuantizeRequest) -> list[Pass]:
    """Return what gives an old model an operator set that holds a scale for each channel."""
    opset = artifact.model.opset_imports.get("", _CHANNEL_OPSET)
    return (
        [ConvertOpset(_CHANNEL_OPSET)]
        if request.mode == "static" and opset < _CHANNEL_OPSET
        else []
    )


def _pass(request: QuantizeRequest) -> Pass:
    if request.mode == "dynamic":
        return QuantizeDynamic(request.per_channel, request.reduce_range)
    return QuantizeStatic(
        request.per_channel, request.reduce_range, request.method, request.samples
    )


def _stream(source: DataSource, artifact: Artifact) -> Iterator[dict[str, np.ndarray[Any, Any]]]:
    for feed in feeds(source, artifact.spec, _CALIBRATION_BATCH):
        yield feed.inputs


def _verifier(
    artifact: Artifact, request: QuantizeRequest, source: DataSource | None
) -> tuple[Verifier | None, tuple[str, ...]]:
    try:
        samples = (lambda: _stream(source, artifact)) if source else None
        return make_verifier(artifact, samples, request.dims, request.seed), ()
    except SmithError as error:
        if source is not None:
            raise
        return None, (f"not verified: {error.message} ({error.hint})",)


def _few(request: QuantizeRequest, done: PipelineResult) -> tuple[str, ...]:
    if request.mode == "dynamic":
        return ()
    count = int(done.runs[-1].details["calibration_samples"])
    if count >= _FEW_SAMPLES:
        return ()
    return (f"calibrated on {count} samples only; ranges may be too narrow",)


def _budget(
    artifact: Artifact, result: QuantizeResult, request: QuantizeRequest, source: DataSource | None
) -> QuantizeResult:
    assert request.eval_data is not None  # quantize() checked
    assert request.max_drop is not None  # likewise
    held_out = open_data(request.eval_data, artifact.spec)
    if source is not None:
        refuse_shared(source, held_out)
    scores = []
    for candidate in (artifact, result.artifact):
        with Session(candidate, request.target, threads=request.threads) as session:
            scores.append(evaluate(session, held_out, [request.metric], _SCORING_BATCH))
    before, after = scores
    drop = before.metrics[request.metric] - after.metrics[request.metric]
    if drop > request.max_drop:
        raise RefusedError(
            f"{request.metric} drops by {drop:.4f}, from {before.metrics[request.metric]:.4f} "
            f"to {after.metrics[request.metric]:.4f}; at most {request.max_drop} is allowed",
            "calibrate on more data, try another --method, or allow more with --max-drop",
        )
    return QuantizeResult(result.artifact, result.pipeline, result.warnings, before, after)
