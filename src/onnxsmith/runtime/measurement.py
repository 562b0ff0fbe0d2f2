"""Latency samples and what may be concluded from two sets of them.

Machines drift: a neighbor wakes up, a clock rises, a process lands on a worse page layout. All runs
of one process share such an offset, so a hundred runs of one process are not a hundred independent
samples. `compare` therefore works on *rounds*: in each round every model ran once, in a process of
its own, close in time. The drift common to a round cancels in the ratio, and what remains between
the rounds is what the interval has to cover.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from onnxsmith.errors import SmithError
from onnxsmith.runtime.bootstrap import ratio_interval

Verdict = Literal["faster", "slower", "no change"]

MIN_ROUNDS = 3
"""Fewest rounds for a verdict: two differences say next to nothing about their own spread."""


@dataclass(frozen=True)
class Measurement:
    """How long one model took, with every sample kept.

    Attributes:
        name: The model, for people.
        samples_ms: Latency of each timed run in milliseconds, in the order they were taken.
        rounds: The round each sample belongs to, as long as ``samples_ms``; empty for one round.
        batch_size: Items in one run.
        load_ms: Median time to create the session, in milliseconds.
        peak_memory_bytes: Highest resident memory (VmHWM) of the worker process.
        providers: Execution providers that the session really used.

    Raises:
        SmithError: There are no samples, one is not a positive finite number, or the lengths
            differ.
    """

    name: str
    samples_ms: tuple[float, ...]
    rounds: tuple[int, ...] = ()
    batch_size: int = 1
    load_ms: float | None = None
    peak_memory_bytes: int | None = None
    providers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.samples_ms:
            raise SmithError(f"no samples were taken of {self.name!r}", "ask for at least one run")
        if not all(math.isfinite(sample) and sample > 0 for sample in self.samples_ms):
            raise SmithError(
                f"a sample of {self.name!r} is not a positive time", "measure the model again"
            )
        if self.rounds and len(self.rounds) != len(self.samples_ms):
            raise SmithError(
                f"{self.name!r} has {len(self.samples_ms)} samples but {len(self.rounds)} rounds",
                "name the round of each sample",
            )
        if self.batch_size < 1:
            raise SmithError(
                f"the batch size of {self.name!r} is {self.batch_size}", "give a size of 1 or more"
            )

    def quantile_ms(self, fraction: float) -> float:
        """Return the latency in ms that ``fraction`` of the runs did not exceed (interpolated)."""
        return float(np.quantile(np.asarray(self.samples_ms), fraction))

    @property
    def p50_ms(self) -> float:
        """Median latency in milliseconds."""
        return self.quantile_ms(0.5)

    @property
    def p90_ms(self) -> float:
        """90th percentile of the latency in milliseconds."""
        return self.quantile_ms(0.9)

    @property
    def p99_ms(self) -> float:
        """99th percentile of the latency in milliseconds."""
        return self.quantile_ms(0.99)

    @property
    def mean_ms(self) -> float:
        """Mean latency in milliseconds."""
        return math.fsum(self.samples_ms) / len(self.samples_ms)

    @property
    def min_ms(self) -> float:
        """Shortest latency in milliseconds."""
        return min(self.samples_ms)

    @property
    def throughput(self) -> float:
        """Items per second: all items over all the time they took, one run after the other."""
        return self.batch_size * 1000.0 / self.mean_ms

    def by_round(self) -> tuple[tuple[float, ...], ...]:
        """Return the samples grouped by round, in ascending order of the rounds' numbers."""
        groups: dict[int, list[float]] = {}
        rounds = self.rounds or (0,) * len(self.samples_ms)
        for index, sample in zip(rounds, self.samples_ms, strict=True):
            groups.setdefault(index, []).append(sample)
        return tuple(tuple(groups[index]) for index in sorted(groups))

    def to_json(self) -> dict[str, object]:
        """Return the samples and the figures drawn from them as JSON data."""
        return {
            "name": self.name,
            "batch_size": self.batch_size,
            "p50_ms": self.p50_ms,
            "p90_ms": self.p90_ms,
            "p99_ms": self.p99_ms,
            "mean_ms": self.mean_ms,
            "min_ms": self.min_ms,
            "throughput_per_second": self.throughput,
            "load_ms": self.load_ms,
            "peak_memory_bytes": self.peak_memory_bytes,
            "providers": list(self.providers),
            "samples_ms": list(self.samples_ms),
            "rounds": list(self.rounds),
        }


@dataclass(frozen=True)
class Comparison:
    """One model's latency against another's.

    Attributes:
        baseline: Name of the model compared with.
        candidate: Name of the model in question.
        ratio: Baseline latency over candidate latency; above 1 the candidate is faster.
        low: Lower end of the ratio's confidence interval.
        high: Upper end.
        verdict: ``faster`` or ``slower`` where the interval excludes 1, else ``no change``.
        confidence: Share of such intervals that hold the true ratio.
    """

    baseline: str
    candidate: str
    ratio: float
    low: float
    high: float
    verdict: Verdict
    confidence: float = 0.95

    def sentence(self) -> str:
        """Return the comparison in words, for example for the terminal."""
        low, high, factor = self.low, self.high, self.ratio
        if self.verdict == "slower":
            low, high, factor = 1.0 / high, 1.0 / low, 1.0 / factor
        interval = f"{self.confidence:.0%} interval {low:.2f} to {high:.2f}"
        if self.verdict == "no change":
            return f"{self.candidate}: no change against {self.baseline} ({interval})"
        return f"{self.candidate}: {factor:.2f}x {self.verdict} than {self.baseline} ({interval})"

    def to_json(self) -> dict[str, object]:
        """Return the comparison as JSON data."""
        return {
            "baseline": self.baseline,
            "candidate": self.candidate,
            "ratio": self.ratio,
            "low": self.low,
            "high": self.high,
            "verdict": self.verdict,
            "confidence": self.confidence,
        }


def compare(
    baseline: Measurement, candidate: Measurement, *, confidence: float = 0.95, seed: int = 0
) -> Comparison:
    """Return how much faster ``candidate`` is than ``baseline``, with a bootstrap interval.

    With rounds the two are paired by round (`onnxsmith.runtime.bootstrap` says how). Without
    rounds, or with one, only the runs are resampled: that interval knows nothing of what differs
    from process to process, and is too narrow by as much.

    Args:
        baseline: What the candidate is compared with.
        candidate: The model in question, measured in the same rounds.
        confidence: Share of intervals that should hold the true ratio, between 0 and 1.
        seed: Seed of the resampling; the same samples give the same interval.

    Raises:
        SmithError: The rounds differ, there are two of them (too few to pair, too many to ignore),
            or the confidence is not between 0 and 1.
    """
    if not 0.0 < confidence < 1.0:
        raise SmithError(f"a confidence of {confidence} is impossible", "give one between 0 and 1")
    old, new = baseline.by_round(), candidate.by_round()
    if sorted(set(baseline.rounds)) != sorted(set(candidate.rounds)) and len(old) + len(new) > 2:
        raise SmithError(
            f"{baseline.name!r} and {candidate.name!r} were not measured in the same rounds",
            "measure both in one bench run",
        )
    if 1 < len(old) < MIN_ROUNDS:
        raise SmithError(
            f"{len(old)} rounds are too few to compare models",
            f"measure at least {MIN_ROUNDS} rounds",
        )
    ratio, low, high = ratio_interval(old, new, confidence=confidence, seed=seed)
    verdict: Verdict = "faster" if low > 1.0 else "slower" if high < 1.0 else "no change"
    return Comparison(baseline.name, candidate.name, ratio, low, high, verdict, confidence)
