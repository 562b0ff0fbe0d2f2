"""Adam and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from onnxsmith.passes.autodiff.writer import BOOL, Writer
from onnxsmith.pipeline.training.optimizers.base import (
    Moment,
    Optimizer,
    Update,
    blend,
    check_share,
)


@dataclass(frozen=True)
class Adam(Optimizer):
    """``m = a m + (1 - a) g``, ``v = b v + (1 - b) g^2``, ``p - rate m' / (sqrt(v') + e)``.

    ``m' = m / (1 - a^t)`` and ``v' = v / (1 - b^t)`` at update ``t``; ``decay`` adds ``decay p`` to
    the gradient.

    Attributes:
        beta1: ``a``.
        beta2: ``b``.
        epsilon: ``e``.

    Source: Kingma and Ba, "Adam" (2015).
    """

    states: ClassVar[tuple[str, ...]] = ("mean", "square")

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

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
        """Write the update; the corrections are scalars, applied to the rate and to epsilon."""
        gradient = self.with_penalty(w, parameter, gradient, moment)
        return self.step(w, parameter, gradient, states, moment)

    def step(
        self,
        w: Writer,
        parameter: ir.Value,
        gradient: ir.Value,
        states: dict[str, ir.Value],
        moment: Moment,
    ) -> Update:
        """Write the step itself, on a parameter that may have been shrunk."""
        mean, square = self.moments(w, gradient, states)
        rise = w.op("Sqrt", _correction(w, self.beta2, moment.step))
        rate = w.op("Div", w.op("Mul", moment.rate, rise), _correction(w, self.beta1, moment.step))
        tiny = w.op("Mul", rise, w.number(self.epsilon, rise))
        size = w.op("Add", w.op("Sqrt", square), w.cast(tiny, square.dtype))
        way = w.op("Div", mean, size)
        new = w.op("Sub", parameter, w.op("Mul", way, w.cast(rate, way.dtype)))
        return Update(new, {"mean": mean, "square": square})

    def moments(
        self, w: Writer, gradient: ir.Value, states: dict[str, ir.Value]
    ) -> tuple[ir.Value, ir.Value]:
        """Return the new mean of the gradient and of its square."""
        mean = blend(w, states["mean"], gradient, self.beta1)
        return mean, blend(w, states["square"], w.op("Mul", gradient, gradient), self.beta2)


@dataclass(frozen=True)
class AdamW(Adam):
    """:class:`Adam` whose ``decay`` shrinks parameters by ``rate decay`` apart from the gradient.

    Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019).
    """

    decay: float = 0.01

    def update(
        self,
        w: Writer,
        parameter: ir.Value,
        gradient: ir.Value,
        states: dict[str, ir.Value],
        moment: Moment,
    ) -> Update:
        """Write the update."""
        return self.step(w, self.shrunk(w, parameter, moment), gradient, states, moment)


@dataclass(frozen=True)
class Lamb(Adam):
    """``p - rate |p| / |u| u`` with ``u`` the step of Adam, ``decay p`` added to it.

    Source: You et al., "Large Batch Optimization for Deep Learning" (2020).
    """

    elementwise: ClassVar[bool] = False

    decay: float = 0.01
    epsilon: float = 1e-6

    def update(
        self,
        w: Writer,
        parameter: ir.Value,
        gradient: ir.Value,
        states: dict[str, ir.Value],
        moment: Moment,
    ) -> Update:
        """Write the update; where a norm is zero the step is taken as it is."""
        mean, square = self.moments(w, gradient, states)
        first = w.cast(_correction(w, self.beta1, moment.step), mean.dtype)
        second = w.cast(_correction(w, self.beta2, moment.step), mean.dtype)
        size = w.op("Sqrt", w.op("Div", square, second))
        size = w.op("Add", size, w.number(self.epsilon, size))
        way = w.op("Div", w.op("Div", mean, first), size)
        way = self.with_penalty(w, parameter, way, moment)
        long, step = _norm(w, parameter), _norm(w, way)
        zero, one = w.number(0, long), w.number(1, long)
        there = w.op("Greater", w.op("Mul", long, step), zero, dtype=BOOL)
        safe = w.op("Where", there, step, one, dtype=step.dtype)
        trust = w.op("Where", there, w.op("Div", long, safe), one, dtype=step.dtype)
        rate = w.op("Mul", w.cast(moment.rate, trust.dtype), trust)
        new = w.op("Sub", parameter, w.op("Mul", way, rate))
        return Update(new, {"mean": mean, "square": square})


def _correction(w: Writer, beta: float, step: ir.Value) -> ir.Value:
    """Return ``1 - beta^t``."""
    return w.op("Sub", w.number(1, step), w.op("Pow", w.number(beta, step), step))


def _norm(w: Writer, value: ir.Value) -> ir.Value:
    total = w.op("ReduceSum", w.op("Mul", value, value), attributes={"keepdims": 0})
    return w.op("Sqrt", total)
