"""Top-k accuracy: the share of samples whose class is among the k with the highest scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxsmith.errors import UsageError
from onnxsmith.pipeline.evaluation.base import Predictions, Task


@dataclass
class TopK:
    """Right if fewer than ``k`` other classes score higher; of equal scores the first column wins.

    Attributes:
        k: How many classes count as right.
    """

    task: ClassVar[Task] = "classification"
    higher_is_better: ClassVar[bool] = True
    is_rate: ClassVar[bool] = True

    k: int = 5

    def __post_init__(self) -> None:
        if self.k < 1:
            raise UsageError(f"top-k cannot take k={self.k}", "write top-k:k=5")
        self._right = 0
        self._total = 0

    def update(self, predictions: Predictions) -> None:
        """Count one batch."""
        probabilities, targets = predictions.scored("top-k")
        own = np.take_along_axis(probabilities, targets[:, None], axis=1)
        earlier = np.arange(probabilities.shape[1]) < targets[:, None]
        before = (probabilities > own) | ((probabilities == own) & earlier)
        self._right += int(np.count_nonzero(before.sum(axis=1) < self.k))
        self._total += len(targets)

    def result(self) -> float:
        """Return the share, 0 to 1."""
        return self._right / self._total
