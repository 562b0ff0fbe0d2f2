"""What a report says about how a model was trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class TrainedEpoch:
    """One epoch.

    Attributes:
        number: From 1.
        loss: The mean over the samples it was trained on.
        rate: The last learning rate.
        metrics: Scores on held-out data; rates from 0 to 1.
        seconds: Wall time.
        updates: Updates since the beginning.
        epsilon: What they guarantee where training is private.
    """

    number: int
    loss: float
    rate: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float | None = None
    updates: int | None = None
    epsilon: float | None = None


@dataclass(frozen=True)
class Training:
    """One training run.

    Attributes:
        loss: What was made small.
        optimizer: By what.
        epochs: How it went.
        parameters: How many numbers were trained.
        samples: How many samples an epoch has.
    """

    loss: str
    optimizer: str
    epochs: tuple[TrainedEpoch, ...] = ()
    parameters: int | None = None
    samples: int | None = None
