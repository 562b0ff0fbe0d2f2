"""What a metric is: an accumulator that sees predictions batch by batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np

from onnxsmith.errors import SmithError

Array = np.ndarray[Any, np.dtype[Any]]
Task = Literal["classification", "regression"]


@dataclass(frozen=True)
class Predictions:
    """What a model said of some samples, and what is true.

    Attributes:
        labels: The truth: int64 ``[n]`` classes, or float64 ``[n, k]`` values.
        classes: The predicted classes, int64 ``[n]``; None for values.
        probabilities: Float64 ``[n, C]``, where the model gives scores.
        columns: The class of each column of ``probabilities``, where it is not 0, 1, ...
        values: The predicted values, float64 ``[n, k]``; None for classes.
    """

    labels: Array
    classes: Array | None = None
    probabilities: Array | None = None
    columns: Array | None = None
    values: Array | None = None

    def scored(self, metric: str) -> tuple[Array, Array]:
        """Return the probabilities ``[n, C]`` and the column of each true class, ``[n]``.

        Raises:
            SmithError: The model gives no scores, or a label is no column.
        """
        if self.probabilities is None:
            raise SmithError(
                f"the metric {metric!r} needs the scores of the classes, but the model gives none",
                "use a model with a score output, or another metric",
            )
        width = self.probabilities.shape[1]
        columns = np.arange(width) if self.columns is None else self.columns
        order = np.argsort(columns, kind="stable")
        at = np.minimum(np.searchsorted(columns, self.labels, sorter=order), width - 1)
        targets = order[at]
        wrong = columns[targets] != self.labels
        if wrong.any():
            raise SmithError(
                f"label {self.labels[wrong][0]} is none of the {width} classes of the scores",
                "count the labels from 0 (csv: categorical=1)",
            )
        return self.probabilities, targets

    def regressed(self, metric: str) -> tuple[Array, Array]:
        """Return the true and the predicted values, both ``[n, k]``.

        Raises:
            SmithError: The predictions are classes.
        """
        if self.values is None:
            raise SmithError(f"the metric {metric!r} needs values, not classes", "choose another")
        return self.labels, self.values

    def classified(self, metric: str) -> tuple[Array, Array]:
        """Return the true and the predicted classes, both ``[n]``.

        Raises:
            SmithError: The predictions are values.
        """
        if self.classes is None:
            raise SmithError(f"the metric {metric!r} needs classes, not values", "choose another")
        return self.labels, self.classes


class Metric(Protocol):
    """A figure of merit, accumulated over batches.

    Attributes:
        task: What it scores.
        higher_is_better: Which way is better.
        is_rate: Whether it lies between 0 and 1, so that differences are told in points.
    """

    task: ClassVar[Task]
    higher_is_better: ClassVar[bool]
    is_rate: ClassVar[bool]

    def update(self, predictions: Predictions) -> None:
        """Take in one batch.

        Raises:
            SmithError: The predictions are not of the kind that is needed.
        """

    def result(self) -> float:
        """Return the figure over all batches.

        Raises:
            SmithError: It is not defined for what was seen.
        """
