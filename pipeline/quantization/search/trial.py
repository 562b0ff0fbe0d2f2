"""One candidate of a search, and which candidates none beats."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from onnxsmith.artifact import Artifact
from onnxsmith.pipeline.quantization.request import QuantizeRequest
from onnxsmith.pipeline.quantization.result import QuantizeResult
from onnxsmith.pipeline.report.quantization import TrialPoint
from onnxsmith.runtime.measurement import Comparison


@dataclass
class Trial:
    """One candidate: what it is, and what was found of it.

    Attributes:
        name: What to call it.
        request: What was asked for to make it; None for the input.
        artifact: The model; None where it could not be made.
        result: How it was made; None for the input, and for those that are made again if chosen.
        score: What it keeps.
        allowed: Whether that is enough.
        latency_ms: Its median latency.
        comparison: Its speed against the input's.
        note: What became of it, where that is not its speed.
        chosen: Whether it is the result.
    """

    name: str
    request: QuantizeRequest | None = None
    artifact: Artifact | None = None
    result: QuantizeResult | None = None
    score: float | None = None
    allowed: bool = False
    latency_ms: float | None = None
    comparison: Comparison | None = None
    note: str = ""
    chosen: bool = False

    @property
    def size_bytes(self) -> int | None:
        """Bytes of its weights."""
        return None if self.artifact is None else self.artifact.size_bytes

    @property
    def verdict(self) -> str:
        """What became of it, in words."""
        if self.note:
            return self.note
        if self.comparison is None:
            return "the input" if self.request is None else "not measured"
        return self.comparison.verdict if self.allowed else "loses too much"


def points(trials: Sequence[Trial], better: Callable[[float, float], bool]) -> list[TrialPoint]:
    """Return the trials for the report.

    Args:
        trials: All of them.
        better: Whether the first of two scores is the better one.
    """
    latencies = [trial.latency_ms for trial in trials]
    sizes = [trial.size_bytes for trial in trials]
    scores = [trial.score for trial in trials]
    fast, small = _front(latencies, scores, better), _front(sizes, scores, better)
    return [
        TrialPoint(
            trial.name,
            trial.latency_ms,
            trial.score,
            trial.size_bytes,
            trial.verdict,
            index in fast,
            trial.chosen,
            index in small,
        )
        for index, trial in enumerate(trials)
    ]


def _front(
    costs: Sequence[float | None],
    scores: Sequence[float | None],
    better: Callable[[float, float], bool],
) -> set[int]:
    """Return which candidates none beats: cheaper and not worse, or better and not dearer."""
    known = [
        (index, cost, score)
        for index, (cost, score) in enumerate(zip(costs, scores, strict=True))
        if cost is not None and score is not None and not math.isnan(score)
    ]
    return {
        index
        for index, cost, score in known
        if not any(
            (other < cost and not better(score, theirs))
            or (other <= cost and better(theirs, score))
            for _, other, theirs in known
        )
    }
