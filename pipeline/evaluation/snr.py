"""Signal-to-noise ratio against the labels as reference: ``10 log10(sum y^2 / sum (y - f)^2)``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxsmith.pipeline.evaluation.base import Predictions, Task


@dataclass
class SignalToNoise:
    """In decibels; infinite where the reference is met exactly."""

    task: ClassVar[Task] = "regression"
    higher_is_better: ClassVar[bool] = True
    is_rate: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self._signal = 0.0
        self._noise = 0.0

    def update(self, predictions: Predictions) -> None:
        """Sum one batch."""
        true, predicted = predictions.regressed("snr")
        self._signal += float(np.square(true).sum())
        self._noise += float(np.square(true - predicted).sum())

    def result(self) -> float:
        """Return the ratio in decibels."""
        if self._noise == 0:
            return math.inf
        return 10 * math.log10(self._signal / self._noise) if self._signal else -math.inf
