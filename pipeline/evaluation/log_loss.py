"""Log loss (cross entropy): the mean of ``-ln p(true class)``, in nats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxsmith.pipeline.evaluation.base import Predictions, Task

_EPSILON = float(np.finfo(np.float64).eps)


@dataclass
class LogLoss:
    """Probabilities are kept away from 0 by float64's epsilon, as scikit-learn does."""

    task: ClassVar[Task] = "classification"
    higher_is_better: ClassVar[bool] = False
    is_rate: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self._sum = 0.0
        self._total = 0

    def update(self, predictions: Predictions) -> None:
        """Sum one batch."""
        probabilities, targets = predictions.scored("log-loss")
        own = probabilities[np.arange(len(targets)), targets]
        self._sum -= float(np.log(np.clip(own, _EPSILON, 1 - _EPSILON)).sum())
        self._total += len(targets)

    def result(self) -> float:
        """Return the mean, 0 or more."""
        return self._sum / self._total
