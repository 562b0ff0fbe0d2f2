"""A report with what every section asks of it: who is compared with whom, in what color."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from onnxsmith.pipeline.report.model import Amount, Latency, Report, Scores, Speedup


class _OfModel(Protocol):
    @property
    def model(self) -> str: ...


M = TypeVar("M", bound=_OfModel)


@dataclass(frozen=True)
class View:
    """A report and its two protagonists.

    Attributes:
        report: The data.
        models: Every measured model by name, in the order of first appearance.
        baseline: What differences are counted from; empty if nothing was measured.
        candidate: What the verdict is about; the baseline itself where there is one model only.
    """

    report: Report
    models: tuple[str, ...]
    baseline: str
    candidate: str

    @classmethod
    def of(cls, report: Report) -> View:
        """Find the protagonists: as the report says, or the first and the last model."""
        names: dict[str, None] = {}
        parts: tuple[Sequence[_OfModel], ...] = (
            report.scores,
            report.latency,
            report.sizes,
            report.memory,
        )
        for part in parts:
            names.update((item.model, None) for item in part)
        for ratio in report.speedups:
            names.update({ratio.baseline: None, ratio.candidate: None})
        models = tuple(names)
        baseline = report.baseline or (models[0] if models else "")
        candidate = report.candidate or (models[-1] if models else "")
        return cls(report, models, baseline, candidate)

    @property
    def compares(self) -> bool:
        """Whether there are two models to compare."""
        return self.baseline != self.candidate

    def color(self, model: str) -> int:
        """Return the number of a model's color, the same in every plot."""
        return self.models.index(model) if model in self.models else 0

    def scores(self, model: str) -> Scores | None:
        """Return the scores of one model."""
        return _pick(self.report.scores, model)

    def latency(self, model: str) -> Latency | None:
        """Return the times of one model."""
        return _pick(self.report.latency, model)

    def size(self, model: str) -> Amount | None:
        """Return the bytes of one model."""
        return _pick(self.report.sizes, model)

    def memory(self, model: str) -> Amount | None:
        """Return the peak memory of one model."""
        return _pick(self.report.memory, model)

    def speedup(self) -> Speedup | None:
        """Return the ratio between the two protagonists."""
        wanted = (self.baseline, self.candidate)
        found = (r for r in self.report.speedups if (r.baseline, r.candidate) == wanted)
        return next(found, None)


def headline_metric(scores: Scores) -> str:
    """Return the metric the headline names: accuracy where there is one, else the first."""
    return "accuracy" if "accuracy" in scores.metrics else next(iter(scores.metrics), "")


def _pick(items: Sequence[M], model: str) -> M | None:
    return next((item for item in items if item.model == model), None)
