"""What an optimizer is: operators that make new parameters of old ones and their gradient."""

from __future__ import annotations

import abc
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from onnxsmith.errors import UsageError
from onnxsmith.passes.autodiff.writer import Writer

_FLOOR = 1e-30


@dataclass(frozen=True)
class Moment:
    """When and how much to learn.

    Attributes:
        rate: The learning rate, a float32 scalar.
        step: The number of this update, from 1, a float32 scalar.
        decays: One where a parameter decays and zero where not; None where all do.
        fused: Whether a product and a sum of vectors may be one operator, which one thread
            computes, instead of two, which several may share.
    """

    rate: ir.Value
    step: ir.Value
    decays: ir.Value | None = None
    fused: bool = False


@dataclass(frozen=True)
class Update:
    """What comes of one update.

    Attributes:
        parameter: The new parameter.
        states: The new content of each state.
    """

    parameter: ir.Value
    states: dict[str, ir.Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Optimizer(abc.ABC):
    """Writes its update; its dataclass fields are its options.

    An update may be made in place: whatever reads an old state must lead to its new content, so
    that it runs before the content is written. A test checks that of every optimizer.

    Class attributes:
        states: What is remembered for each parameter, in its shape, zero at first.
        elementwise: Whether each element is updated without regard to the others, so that all
            parameters can be updated as one vector.
        rate: The learning rate where none is given.

    Attributes:
        decay: Weight decay; what it means is said by each optimizer.
    """

    states: ClassVar[tuple[str, ...]] = ()
    elementwise: ClassVar[bool] = True
    rate: ClassVar[float] = 1e-3

    decay: float = 0.0

    @abc.abstractmethod
    def update(
        self,
        w: Writer,
        parameter: ir.Value,
        gradient: ir.Value,
        states: dict[str, ir.Value],
        moment: Moment,
    ) -> Update:
        """Write the update of one parameter.

        Args:
            w: Where to write.
            parameter: The parameter, of any shape.
            gradient: Its gradient.
            states: What was remembered, by name.
            moment: The learning rate and the number of the update.
        """

    def with_penalty(
        self, w: Writer, parameter: ir.Value, gradient: ir.Value, moment: Moment
    ) -> ir.Value:
        """Return the gradient of the loss with ``decay / 2 |p|^2`` added to it."""
        if not self.decay:
            return gradient
        factor = w.number(self.decay, parameter)
        if moment.decays is not None:
            factor = w.op("Mul", moment.decays, factor)
        return w.op("Add", gradient, w.op("Mul", parameter, factor))

    def shrunk(self, w: Writer, parameter: ir.Value, moment: Moment) -> ir.Value:
        """Return ``p (1 - rate decay)``: weight decay apart from the gradient."""
        if not self.decay:
            return parameter
        keep = w.op("Mul", moment.rate, w.number(self.decay, moment.rate))
        if moment.decays is not None:
            keep = w.op("Mul", moment.decays, keep)
        return w.op("Mul", parameter, w.op("Sub", w.number(1, keep), keep))


def blend(w: Writer, old: ir.Value, new: ir.Value, keep: float, moment: Moment) -> ir.Value:
    """Return ``keep old + (1 - keep) new``, kept from vanishing."""
    return w.op("Add", decayed(w, old, keep, moment), w.op("Mul", new, w.number(1 - keep, new)))


def decayed(w: Writer, old: ir.Value, keep: float, moment: Moment) -> ir.Value:
    """Return what stays of a state, ``keep old``, kept from vanishing."""
    if not moment.fused:
        return floored(w, w.op("Mul", old, w.number(keep, old)))
    assert old.dtype is not None  # graphs of updates are typed
    numbers = np.array([[keep], [_FLOOR]], old.dtype.numpy())
    return affine(w, old, *(w.constant(number) for number in numbers))


def affine(w: Writer, vector: ir.Value, factor: ir.Value, plus: ir.Value) -> ir.Value:
    """Return ``factor vector + plus`` in one pass over memory.

    The inference form of batch normalization is the only operator of the runtime's CPU provider
    that multiplies and adds.

    Args:
        w: Writes it.
        vector: Of float32 or float64.
        factor: A vector of one element, finite.
        plus: A vector of one element.
    """
    assert vector.dtype is not None  # graphs of updates are typed
    zero, one = (w.constant(np.array([n], vector.dtype.numpy())) for n in (0, 1))
    flat = w.op("Reshape", vector, w.ints([1, 1, -1]))
    result = w.op("BatchNormalization", flat, factor, plus, zero, one, attributes={"epsilon": 0.0})
    return w.op("Reshape", result, w.ints([-1]))


def floored(w: Writer, value: ir.Value) -> ir.Value:
    """Return what is added to a state that decays, moved by too little to matter.

    What is remembered of a unit that died would decay into numbers too small for full precision,
    with which processors compute many times slower. The runtime's own setting against them only
    counts in the first session of a process.
    """
    return w.op("Add", value, w.number(_FLOOR, value))


def check_share(name: str, value: float) -> None:
    """Refuse a share of the old that is not in [0, 1).

    Raises:
        UsageError: It is not.
    """
    if not 0 <= value < 1:
        raise UsageError(f"{name}={value} is not in [0, 1)", f"write {name}=0.9")
