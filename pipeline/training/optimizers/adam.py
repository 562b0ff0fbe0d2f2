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
    affine,
    check_share,
    decayed,
)

_SMALLEST = 1.2e-38  # a normal number of float32, whose inverse is one too


@dataclass(frozen=True)
class Adam(Optimizer):
    """``m = a m + g``, ``v = b v + g^2``, ``p - rate m' / (sqrt(v') + e)``.

    ``m' = m / (1 + a + .. + a^(t-1))`` and ``v' = v / (1 + b + .. + b^(t-1))`` at update ``t`` are
    the paper's corrected means, of sums that save it two products; ``decay`` adds ``decay p`` to
    the gradient.

    Attributes:
        beta1: ``a``.
        beta2: ``b``.
        epsilon: ``e``.

    Source: Kingma and Ba, "Adam" (2015).
    """

    states: ClassVar[tuple[str, ...]] = ("gradients", "squares")

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
        slopes, squares = self.sums(w, gradient, states, moment)
        rise = w.op("Sqrt", _weight(w, self.beta2, moment.step))
        rate = w.op("Div", w.op("Mul", moment.rate, rise), _weight(w, self.beta1, moment.step))
        tiny = w.op("Mul", rise, w.number(self.epsilon, rise))
        size = w.op("Sqrt", squares)
        if moment.fused:
            way = w.op("Div", slopes, _over_rate(w, size, rate, tiny))
        else:
            size = w.op("Add", size, w.cast(tiny, size.dtype))
            way = w.op("Mul", w.op("Div", slopes, size), w.cast(rate, size.dtype))
        return Update(w.op("Sub", parameter, way), {"gradients": slopes, "squares": squares})

    def sums(
        self, w: Writer, gradient: ir.Value, states: dict[str, ir.Value], moment: Moment
    ) -> tuple[ir.Value, ir.Value]:
        """Return the new decaying sums of the gradient and of its square."""
        slopes = w.op("Add", decayed(w, states["gradients"], self.beta1, moment), gradient)
        square = w.op("Mul", gradient, gradient)
        return slopes, w.op("Add", decayed(w, states["squares"], self.beta2, moment), square)


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
        slopes, squares = self.sums(w, gradient, states, moment)
        first = w.cast(_weight(w, self.beta1, moment.step), slopes.dtype)
        second = w.cast(_weight(w, self.beta2, moment.step), slopes.dtype)
        size = w.op("Sqrt", w.op("Div", squares, second))
        size = w.op("Add", size, w.number(self.epsilon, size))
        way = w.op("Div", w.op("Div", slopes, first), size)
        way = self.with_penalty(w, parameter, way, moment)
        long, step = _norm(w, parameter), _norm(w, way)
        zero, one = w.number(0, long), w.number(1, long)
        there = w.op("Greater", w.op("Mul", long, step), zero, dtype=BOOL)
        safe = w.op("Where", there, step, one, dtype=step.dtype)
        trust = w.op("Where", there, w.op("Div", long, safe), one, dtype=step.dtype)
        rate = w.op("Mul", w.cast(moment.rate, trust.dtype), trust)
        new = w.op("Sub", parameter, w.op("Mul", way, rate))
        return Update(new, {"gradients": slopes, "squares": squares})


def _weight(w: Writer, beta: float, step: ir.Value) -> ir.Value:
    """Return ``1 + b + .. + b^(t-1)``, the sum of the weights in a decaying sum."""
    rest = w.op("Sub", w.number(1, step), w.op("Pow", w.number(beta, step), step))
    return w.op("Div", rest, w.number(1 - beta, step))


def _over_rate(w: Writer, size: ir.Value, rate: ir.Value, tiny: ir.Value) -> ir.Value:
    """Return ``(size + tiny) / rate``, where a rate of zero is next to zero."""
    rate = w.op("Max", rate, w.number(_SMALLEST, rate))
    vector = w.ints([1])
    factor = w.op("Reshape", w.op("Reciprocal", rate), vector)
    plus = w.op("Reshape", w.op("Div", tiny, rate), vector)
    return affine(w, size, w.cast(factor, size.dtype), w.cast(plus, size.dtype))


def _norm(w: Writer, value: ir.Value) -> ir.Value:
    total = w.op("ReduceSum", w.op("Mul", value, value), attributes={"keepdims": 0})
    return w.op("Sqrt", total)
