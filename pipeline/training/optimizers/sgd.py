"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from onnxsmith.passes.autodiff.writer import Writer
from onnxsmith.pipeline.training.optimizers.base import (
    Moment,
    Optimizer,
    Update,
    check_share,
    decayed,
    floored,
)


@dataclass(frozen=True)
class Sgd(Optimizer):
    """``p - rate g``; ``decay`` adds ``decay p`` to the gradient."""

    rate: ClassVar[float] = 1e-2

    def update(
        self,
        w: Writer,
        parameter: ir.Value,
        gradient: ir.Value,
        states: dict[str, ir.Value],
        moment: Moment,
    ) -> Update:
        """Write the update."""
        gradient = self.with_penalty(w, parameter, gradient, moment)
        return Update(w.op("Sub", parameter, w.op("Mul", gradient, moment.rate)))


@dataclass(frozen=True)
class Momentum(Optimizer):
    """``v = m v + g``, ``p - rate v``; ``decay`` adds ``decay p`` to the gradient.

    Attributes:
        momentum: ``m``.
        nesterov: Go by ``g + m v`` instead.

    Source: Sutskever et al., "On the importance of initialization and momentum in deep
    learning" (2013).
    """

    states: ClassVar[tuple[str, ...]] = ("velocity",)
    rate: ClassVar[float] = 1e-2

    momentum: float = 0.9
    nesterov: bool = False

    def __post_init__(self) -> None:
        check_share("momentum", self.momentum)

    def update(
        self,
        w: Writer,
        parameter: ir.Value,
        gradient: ir.Value,
        states: dict[str, ir.Value],
        moment: Moment,
    ) -> Update:
        """Write the update."""
        gradient = self.with_penalty(w, parameter, gradient, moment)
        velocity = w.op("Add", decayed(w, states["velocity"], self.momentum, moment), gradient)
        way = velocity
        if self.nesterov:
            share = w.number(self.momentum, gradient)
            way = w.op("Add", gradient, w.op("Mul", velocity, share))
        new = w.op("Sub", parameter, w.op("Mul", way, moment.rate))
        return Update(new, {"velocity": velocity})


@dataclass(frozen=True)
class Nesterov(Momentum):
    """:class:`Momentum` that looks ahead."""

    nesterov: bool = True


@dataclass(frozen=True)
class Lion(Optimizer):
    """``p - rate (sign(a m + (1 - a) g) + decay p)``, ``m = b m + (1 - b) g``.

    Attributes:
        beta1: ``a``.
        beta2: ``b``.

    Source: Chen et al., "Symbolic Discovery of Optimization Algorithms" (2023).
    """

    states: ClassVar[tuple[str, ...]] = ("mean",)
    rate: ClassVar[float] = 1e-4

    beta1: float = 0.9
    beta2: float = 0.99

    def __post_init__(self) -> None:
        check_share("beta1", self.beta1)
        check_share("beta2", self.beta2)

    def update(
        self,
        w: Writer,
        parameter: ir.Value,
        gradient: ir.Value,
        states: dict[str, ir.Value],
        moment: Moment,
    ) -> Update:
        """Write the update; what reads the old mean leads to the new one."""
        old = states["mean"]
        away = w.op("Sub", gradient, old)
        way = w.op("Sign", w.op("Sub", gradient, w.op("Mul", away, w.number(self.beta1, away))))
        mean = w.op("Sub", floored(w, gradient), w.op("Mul", away, w.number(self.beta2, away)))
        shrunk = self.shrunk(w, parameter, moment)
        return Update(w.op("Sub", shrunk, w.op("Mul", way, moment.rate)), {"mean": mean})
