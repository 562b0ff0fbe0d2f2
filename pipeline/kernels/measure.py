"""Time a fused kernel against the plain operators that it stands for."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxsmith.passes.base import PassContext
from onnxsmith.passes.fusion.decompose import Decompose
from onnxsmith.passes.layout.set_session import SetSession
from onnxsmith.pipeline.kernels.cases import Case
from onnxsmith.pipeline.kernels.table import RUNTIME_FUSIONS
from onnxsmith.runtime.measurement import Comparison, Measurement, compare
from onnxsmith.runtime.probe import probe_inputs
from onnxsmith.runtime.session import Session
from onnxsmith.target import Target

_ROUNDS = 15
_ROUND_MS = 4.0
_MOST_RUNS = 50
_OPSET = 20


@dataclass(frozen=True)
class _Part:
    """One case: at how many places it runs, and its milliseconds in each round."""

    places: int
    fused: list[float]
    plain: list[float]


@dataclass(frozen=True)
class Kernel:
    """A fused operator against its parts, over all places of a model.

    Attributes:
        op_type: The fused operator.
        count: At how many places it runs.
        fused_ms: Median time of all places together.
        plain_ms: The same of the plain operators.
        comparison: The plain operators (candidate) against the fused one (baseline).
    """

    op_type: str
    count: int
    fused_ms: float
    plain_ms: float
    comparison: Comparison

    @property
    def pays(self) -> bool:
        """Whether nothing speaks against the fused kernel."""
        return self.comparison.verdict != "faster"

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return {
            "operator": self.op_type,
            "places": self.count,
            "fused_ms": self.fused_ms,
            "plain_ms": self.plain_ms,
            "comparison": self.comparison.to_json(),
        }


def measure_kernels(
    cases: Mapping[Case, int], target: Target, threads: int | None = None
) -> tuple[Kernel, ...]:
    """Return how fused operators compare with their parts, one a kind of operator.

    Both are run as the runtime optimizes them, but for what would fuse the parts again. They take
    turns in this process, without threads that wait busily: unlike a whole model, a kernel of a
    millisecond is not worth a process a turn, and what a process's luck adds is caught when the
    whole model is measured.

    Args:
        cases: Kernels, and at how many places each runs.
        target: Supplies the providers.
        threads: Threads within an operator; None leaves the choice to the runtime.

    Raises:
        SmithError: A kernel does not run on the target.
    """
    totals: dict[str, list[_Part]] = {}
    for case, count in cases.items():
        times = _measure(case, target, threads)
        if times is not None:
            totals.setdefault(case.op_type, []).append(_Part(count, *times))
    return tuple(_summed(op_type, parts) for op_type, parts in sorted(totals.items()))


def _summed(op_type: str, parts: list[_Part]) -> Kernel:
    rounds = tuple(range(_ROUNDS))
    fused = [sum(part.places * part.fused[number] for part in parts) for number in rounds]
    plain = [sum(part.places * part.plain[number] for part in parts) for number in rounds]
    comparison = compare(
        Measurement(op_type, tuple(fused), rounds),
        Measurement(f"{op_type}'s parts", tuple(plain), rounds),
    )
    places = sum(part.places for part in parts)
    return Kernel(op_type, places, statistics.median(fused), statistics.median(plain), comparison)


def _measure(
    case: Case, target: Target, threads: int | None
) -> tuple[list[float], list[float]] | None:
    """Return the median milliseconds of each round, fused and plain; None without parts."""
    fused = case.model(_OPSET)
    plain = fused.clone()
    if not Decompose((case.op_type,)).apply(plain.model, PassContext()).modified:
        return None
    SetSession(RUNTIME_FUSIONS[case.op_type]).apply(plain.model, PassContext())
    feeds = probe_inputs(fused.model, fused.spec, {})
    with (
        Session(fused, target, threads=threads, spin=False) as first,
        Session(plain, target, threads=threads, spin=False) as second,
    ):
        runners = [_Runner(session, feeds) for session in (first, second)]
        times: tuple[list[float], list[float]] = ([], [])
        for number in range(_ROUNDS):
            for index in (0, 1) if number % 2 == 0 else (1, 0):
                times[index].append(runners[index].round())
    return times


class _Runner:
    """Runs one session on fixed inputs."""

    def __init__(self, session: Session, feeds: Mapping[str, np.ndarray[Any, Any]]) -> None:
        self._binding = session.bind()
        for name, array in feeds.items():
            self._binding.set_input(name, array)
        warm = [self._once() for _ in range(3)]
        self._runs = max(1, min(_MOST_RUNS, round(_ROUND_MS / min(warm))))

    def round(self) -> float:
        """Return the median of some runs, in milliseconds, after one that warms the caches."""
        self._once()
        return statistics.median(self._once() for _ in range(self._runs))

    def _once(self) -> float:
        start = time.perf_counter()
        self._binding.run()
        return (time.perf_counter() - start) * 1e3
