"""Learning rates over time, as a factor of the rate that was asked for."""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from typing import cast

from onnxsmith.errors import UsageError
from onnxsmith.options import make
from onnxsmith.plugins import Table


@dataclass(frozen=True)
class Schedule(abc.ABC):
    """A factor for each update.

    Attributes:
        warm_up: Updates over which the factor rises from nothing, in even steps.
    """

    warm_up: int = 0

    def at(self, update: int, updates: int, epoch: int) -> float:
        """Return the factor.

        Args:
            update: The update, from 0.
            updates: How many there will be.
            epoch: The epoch, from 0.
        """
        if update < self.warm_up:
            return (update + 1) / (self.warm_up + 1)
        rest = max(updates - self.warm_up, 1)
        return self.factor(min((update - self.warm_up) / rest, 1.0), epoch)

    @abc.abstractmethod
    def factor(self, share: float, epoch: int) -> float:
        """Return the factor after a share of the updates that follow the warm-up."""


@dataclass(frozen=True)
class Constant(Schedule):
    """Always the rate that was asked for."""

    def factor(self, share: float, epoch: int) -> float:
        """Return one."""
        return 1.0


@dataclass(frozen=True)
class Steps(Schedule):
    """Times ``gamma`` every ``epochs`` epochs."""

    epochs: int = 10
    gamma: float = 0.1

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise UsageError(f"epochs={self.epochs} is not positive", "write step:epochs=10")

    def factor(self, share: float, epoch: int) -> float:
        """Return ``gamma`` to the number of steps."""
        return float(self.gamma ** (epoch // self.epochs))


@dataclass(frozen=True)
class Cosine(Schedule):
    """Down half a cosine to ``least``.

    Source: Loshchilov and Hutter, "SGDR" (2017).
    """

    least: float = 0.0

    def factor(self, share: float, epoch: int) -> float:
        """Return the cosine's height."""
        return self.least + (1 - self.least) * (1 + math.cos(math.pi * share)) / 2


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up from ``1 / start`` over a share of ``rise``, then down to ``1 / end``, along cosines.

    Source: Smith and Topin, "Super-Convergence" (2018).
    """

    rise: float = 0.3
    start: float = 25.0
    end: float = 1e4

    def factor(self, share: float, epoch: int) -> float:
        """Return the height of the cycle."""
        if share < self.rise:
            low, along = 1 / self.start, share / self.rise
            return low + (1 - low) * (1 - math.cos(math.pi * along)) / 2
        low, along = 1 / self.end, (share - self.rise) / max(1 - self.rise, 1e-9)
        return low + (1 - low) * (1 + math.cos(math.pi * along)) / 2


@dataclass(frozen=True)
class Plateau(Schedule):
    """Times ``gamma`` when the watched figure got no better for ``patience`` epochs.

    The loop counts the plateaus; see :class:`onnxsmith.pipeline.training.train.Trainer`.
    """

    patience: int = 3
    gamma: float = 0.1

    def factor(self, share: float, epoch: int) -> float:
        """Return one; the loop multiplies by ``gamma`` for each plateau."""
        return 1.0


SCHEDULES = Table(
    "schedule",
    "onnxsmith.schedules",
    {
        "constant": f"{__name__}:Constant",
        "cosine": f"{__name__}:Cosine",
        "one-cycle": f"{__name__}:OneCycle",
        "plateau": f"{__name__}:Plateau",
        "step": f"{__name__}:Steps",
    },
)


def make_schedule(text: str) -> Schedule:
    """Return the schedule that ``cosine:warm-up=100`` names.

    Raises:
        UsageError: The schedule or an option is unknown, or a value does not fit.
    """
    return cast(Schedule, make(SCHEDULES, text))
