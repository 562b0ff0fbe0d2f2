"""Accuracy: the share of samples whose class was predicted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxsmith.pipeline.evaluation.base import Predictions, Task


@dataclass
class Accuracy:
    """Right predictions over all predictions."""

    task: ClassVar[Task] = "classification"
    higher_is_better: ClassVar[bool] = True
    is_rate: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self._right = 0
        self._total = 0

    def update(self, predictions: Predictions) -> None:
        """Count one batch."""
        labels, classes = predictions.classified("accuracy")
        self._right += int(np.count_nonzero(labels == classes))
        self._total += len(labels)

    def result(self) -> float:
        """Return the share, 0 to 1."""
        return self._right / self._total
