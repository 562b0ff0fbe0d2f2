"""R2, the coefficient of determination: ``1 - sum (y - f)^2 / sum (y - mean y)^2``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxsmith.pipeline.evaluation.base import Array, Predictions, Task


@dataclass
class R2:
    """The mean over the values of a sample; 1 for a constant truth that is met, else 0.

    Source of the update: T. Chan, G. Golub, R. LeVeque, "Updating formulae and a pairwise
    algorithm for computing sample variances", 1979.
    """

    task: ClassVar[Task] = "regression"
    higher_is_better: ClassVar[bool] = True
    is_rate: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self._total = 0
        self._mean: Array = np.zeros(1)
        self._spread: Array = np.zeros(1)
        self._error: Array = np.zeros(1)

    def update(self, predictions: Predictions) -> None:
        """Sum one batch."""
        true, predicted = predictions.regressed("r2")
        count = len(true)
        mean = true.mean(axis=0)
        shift = mean - self._mean
        total = self._total + count
        self._spread = (
            self._spread
            + np.square(true - mean).sum(axis=0)
            + np.square(shift) * self._total * count / total
        )
        self._mean = self._mean + shift * count / total
        self._error = self._error + np.square(true - predicted).sum(axis=0)
        self._total = total

    def result(self) -> float:
        """Return at most 1; below 0 the mean of the truth would predict better."""
        constant = self._spread == 0
        ratio = self._error / np.where(constant, 1, self._spread)
        met = (self._error == 0).astype(np.float64)
        return float(np.where(constant, met, 1 - ratio).mean())
