"""What an evaluation says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from onnxsmith.pipeline.evaluation.base import Array, Task


@dataclass(frozen=True)
class ClassScore:
    """Scores of one class.

    Attributes:
        name: The class.
        precision: 0 to 1.
        recall: 0 to 1.
        f1: 0 to 1.
        support: How many samples are of the class.
    """

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Evaluation:
    """Scores of one model on one data set.

    Attributes:
        metrics: The figures by name; rates lie between 0 and 1.
        confusion: Int64 ``[C, C]``, a row a true class, a column a predicted one; None for values
            and for very many classes.
        classes: The names of the classes, in the order of ``confusion``.
        per_class: Scores class by class, of the classes that occur.
        samples: How many samples were scored.
        seconds: Wall time, reading the data included.
        task: What the model does.
        output: The model output that was scored.
    """

    metrics: Mapping[str, float]
    confusion: Array | None
    classes: tuple[str, ...] | None
    per_class: tuple[ClassScore, ...]
    samples: int
    seconds: float
    task: Task
    output: str

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; infinite figures become None."""
        return {
            "task": self.task,
            "output": self.output,
            "samples": self.samples,
            "seconds": self.seconds,
            "metrics": {
                name: value if math.isfinite(value) else None
                for name, value in self.metrics.items()
            },
            "classes": None if self.classes is None else list(self.classes),
            "confusion": None if self.confusion is None else self.confusion.tolist(),
            "per_class": [asdict(score) for score in self.per_class],
        }
