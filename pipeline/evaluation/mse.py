"""Mean squared error: the mean of ``(y - f)^2`` over all values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxsmith.pipeline.evaluation.base import Predictions, Task


@dataclass
class MeanSquaredError:
    """In the square of the labels' unit."""

    task: ClassVar[Task] = "regression"
    higher_is_better: ClassVar[bool] = False
    is_rate: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self._sum = 0.0
        self._total = 0

    def update(self, predictions: Predictions) -> None:
        """Sum one batch."""
        true, predicted = predictions.regressed("mse")
        self._sum += float(np.square(true - predicted).sum())
        self._total += true.size

    def result(self) -> float:
        """Return the mean, 0 or more."""
        return self._sum / self._total
