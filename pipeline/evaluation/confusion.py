"""Count which class was taken for which, batch by batch."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from onnxsmith.pipeline.evaluation.base import Array


@dataclass(frozen=True)
class ClassTotals:
    """Counts class by class, each int64 ``[C]``.

    Attributes:
        labels: The classes, in ascending order: those that are true or predicted anywhere.
        right: Samples of the class that were predicted as it.
        predicted: Samples predicted as the class.
        support: Samples of the class.
    """

    labels: Array
    right: Array
    predicted: Array
    support: Array

    def precision(self) -> Array:
        """Return right / predicted, float64 ``[C]``; 0 where nothing was predicted."""
        return _ratio(self.right, self.predicted)

    def recall(self) -> Array:
        """Return right / support, float64 ``[C]``; 0 where there is no sample."""
        return _ratio(self.right, self.support)

    def f1(self) -> Array:
        """Return 2 right / (predicted + support), float64 ``[C]``."""
        return _ratio(2 * self.right, self.predicted + self.support)

    def weighted(self, scores: Array) -> float:
        """Return the mean of the scores weighted by support."""
        return float(np.average(scores, weights=self.support))


@dataclass
class ConfusionCounts:
    """A confusion matrix that holds only the pairs that occurred, so any classes will do."""

    pairs: Counter[tuple[int, int]] = field(default_factory=Counter)

    def update(self, labels: Array, classes: Array) -> None:
        """Count true classes against predicted ones, both int64 ``[n]``."""
        for true in np.unique(labels).tolist():
            said, counts = np.unique(classes[labels == true], return_counts=True)
            for predicted, count in zip(said.tolist(), counts.tolist(), strict=True):
                self.pairs[true, predicted] += count

    @property
    def total(self) -> int:
        """How many were counted."""
        return self.pairs.total()

    def labels(self) -> list[int]:
        """Return the classes that are true or predicted anywhere, ascending."""
        return sorted({label for pair in self.pairs for label in pair})

    def totals(self) -> ClassTotals:
        """Return the counts class by class."""
        labels = self.labels()
        at = {label: index for index, label in enumerate(labels)}
        right, predicted, support = np.zeros((3, len(labels)), np.int64)
        for (true, said), count in self.pairs.items():
            support[at[true]] += count
            predicted[at[said]] += count
            if true == said:
                right[at[true]] += count
        return ClassTotals(np.asarray(labels, np.int64), right, predicted, support)

    def matrix(self, labels: list[int]) -> Array:
        """Return the counts int64 ``[C, C]``: a row a true class, a column a predicted one."""
        at = {label: index for index, label in enumerate(labels)}
        matrix = np.zeros((len(labels), len(labels)), np.int64)
        for (true, predicted), count in self.pairs.items():
            matrix[at[true], at[predicted]] = count
        return matrix


def _ratio(above: Array, below: Array) -> Array:
    return np.divide(above, below, out=np.zeros(len(above), np.float64), where=below != 0)
