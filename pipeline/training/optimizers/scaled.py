"""Optimizers that scale each step by the size of past gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from onnxsmith.passes.autodiff.writer import Writer
from onnxsmith.pipeline.training.optimizers.base import (
    Moment,
    Optimizer,
    Update,
    blend,
    check_share,
)


@dataclass(frozen=True)
class RmsProp(Optimizer):
    """``s = a s + (1 - a) g^2``, ``p - rate g / (sqrt(s) + e)``; ``decay`` as in ``adagrad``.

    Attributes:
        alpha: ``a``.
        epsilon: ``e``.

    Source: Tieleman and Hinton, "Lecture 6.5" (2012).
    """

    states: ClassVar[tuple[str, ...]] = ("square",)
    rate: ClassVar[float] = 1e-2

    alpha: float = 0.99
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        check_share("alpha", self.alpha)

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
        square = blend(w, states["square"], w.op("Mul", gradient, gradient), self.alpha, moment)
        return Update(
            _scaled(w, parameter, gradient, square, self.epsilon, moment.rate), {"square": square}
        )


@dataclass(frozen=True)
class Adagrad(Optimizer):
    """``s = s + g^2``, ``p - rate g / (sqrt(s) + e)``; ``decay`` adds ``decay p`` to ``g``.

    Attributes:
        epsilon: ``e``.

    Source: Duchi et al., "Adaptive Subgradient Methods" (2011).
    """

    states: ClassVar[tuple[str, ...]] = ("square",)
    rate: ClassVar[float] = 1e-2

    epsilon: float = 1e-10

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
        square = w.op("Add", states["square"], w.op("Mul", gradient, gradient))
        return Update(
            _scaled(w, parameter, gradient, square, self.epsilon, moment.rate), {"square": square}
        )


def _scaled(
    w: Writer,
    parameter: ir.Value,
    gradient: ir.Value,
    square: ir.Value,
    epsilon: float,
    rate: ir.Value,
) -> ir.Value:
    size = w.op("Add", w.op("Sqrt", square), w.number(epsilon, square))
    return w.op("Sub", parameter, w.op("Mul", w.op("Div", gradient, size), rate))
