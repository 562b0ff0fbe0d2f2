"""AUC: the area under the receiver operating characteristic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from sklearn.metrics import roc_auc_score

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.evaluation.base import Array, Predictions, Task


@dataclass
class Auc:
    """Of two classes the area of the second; of more the mean of each against the rest.

    The ranks need all scores: they are held as float32, 4 bytes a sample and class.
    Source: T. Fawcett, "An introduction to ROC analysis", 2006; scikit-learn computes it.
    """

    task: ClassVar[Task] = "classification"
    higher_is_better: ClassVar[bool] = True
    is_rate: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self._scores: list[Array] = []
        self._targets: list[Array] = []

    def update(self, predictions: Predictions) -> None:
        """Keep one batch."""
        probabilities, targets = predictions.scored("auc")
        self._scores.append(probabilities.astype(np.float32))
        self._targets.append(targets)

    def result(self) -> float:
        """Return the area, 0 to 1.

        Raises:
            SmithError: A class has no sample, or all samples are of one class.
        """
        scores, targets = np.concatenate(self._scores), np.concatenate(self._targets)
        missing = set(range(scores.shape[1])) - set(np.unique(targets).tolist())
        if missing:
            raise SmithError(
                f"auc is not defined: the data has no sample of class {min(missing)}",
                "give data with samples of every class, or leave out auc",
            )
        areas = [
            roc_auc_score(targets == column, scores[:, column])
            for column in ([1] if scores.shape[1] == 2 else range(scores.shape[1]))
        ]
        return float(np.mean(areas))
