"""Recall: of the samples of a class, the share that was predicted as it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from onnxsmith.pipeline.evaluation.base import Predictions, Task
from onnxsmith.pipeline.evaluation.confusion import ConfusionCounts


@dataclass
class Recall:
    """The plain mean over the classes that occur (macro); a class without samples counts as 0."""

    task: ClassVar[Task] = "classification"
    higher_is_better: ClassVar[bool] = True
    is_rate: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self._counts = ConfusionCounts()

    def update(self, predictions: Predictions) -> None:
        """Count one batch."""
        self._counts.update(*predictions.classified("recall"))

    def result(self) -> float:
        """Return the mean, 0 to 1."""
        return float(self._counts.totals().recall().mean())


@dataclass
class WeightedRecall(Recall):
    """The mean over the classes weighted by their number of samples."""

    def result(self) -> float:
        """Return the weighted mean, 0 to 1."""
        totals = self._counts.totals()
        return totals.weighted(totals.recall())
