"""Precision: of the samples predicted as a class, the share that belongs to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from onnxsmith.pipeline.evaluation.base import Predictions, Task
from onnxsmith.pipeline.evaluation.confusion import ConfusionCounts


@dataclass
class Precision:
    """The plain mean over the classes that occur (macro); a class never predicted counts as 0."""

    task: ClassVar[Task] = "classification"
    higher_is_better: ClassVar[bool] = True
    is_rate: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self._counts = ConfusionCounts()

    def update(self, predictions: Predictions) -> None:
        """Count one batch."""
        self._counts.update(*predictions.classified("precision"))

    def result(self) -> float:
        """Return the mean, 0 to 1."""
        return float(self._counts.totals().precision().mean())


@dataclass
class WeightedPrecision(Precision):
    """The mean over the classes weighted by their number of samples."""

    def result(self) -> float:
        """Return the weighted mean, 0 to 1."""
        totals = self._counts.totals()
        return totals.weighted(totals.precision())
