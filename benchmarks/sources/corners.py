"""On which side of its corners a network computes: noted in one run, imposed on another.

A network of Relus and maximum pooling is made of straight pieces. Where an element lies within
rounding of a corner, two computations may take different pieces, and their gradients differ by far
more than rounding. A gradient in float64 on the pieces that a run in float32 took tells the two
apart: what is left is rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_NODES = ("Relu", "Clip", "MaxPool")
_OPTIONS = {
    "relu": (),
    "relu6": (),
    "hardtanh": ("min_val", "max_val"),
    "max_pool2d": ("kernel_size", "stride", "padding", "dilation", "ceil_mode"),
}
_LIMITS = {"relu": (0.0, float("inf")), "relu6": (0.0, 6.0)}


@dataclass(frozen=True)
class Corner:
    """A call of a function with corners.

    Attributes:
        kind: Its name in torch.
        options: What it was called with beside the input.
        taken: For each element, 0 where it is cut from below, 1 where it passes and 2 where it is
            cut from above; of pooling, each window's place in its channel.
    """

    kind: str
    options: Mapping[str, Any]
    taken: torch.Tensor

    @property
    def limits(self) -> tuple[float, float]:
        """Where the function is cut from below and from above."""
        if self.kind in _LIMITS:
            return _LIMITS[self.kind]
        return self.options["min_val"], self.options["max_val"]

    def of(self, x: torch.Tensor) -> Corner:
        """Return the same call on another input."""
        return _corner(self.kind, x, self.options)

    def computed(self, x: torch.Tensor) -> torch.Tensor:
        """Return the function's value on the pieces taken."""
        if self.kind == "max_pool2d":
            return x.flatten(2).gather(2, self.taken.flatten(2)).view(self.taken.shape)
        low, high = (x.new_tensor(limit) for limit in self.limits)
        return torch.where(self.taken == 1, x, torch.where(self.taken == 0, low, high))


class Pieces(TorchFunctionMode):
    """Notes which pieces the calls inside take, or makes them take given ones.

    Args:
        imposed: What the calls have to take, in their order; None to note it.
    """

    def __init__(self, imposed: list[Corner] | None = None) -> None:
        super().__init__()
        self.imposed = imposed
        self.corners: list[Corner] = []
        """What the calls take by themselves, in their order."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Compute a function with corners on its pieces, every other as it is."""
        name, options = getattr(function, "__name__", ""), dict(kwargs or {})
        if name not in _OPTIONS:
            return function(*args, **options)
        options |= dict(zip(_OPTIONS[name], args[1:], strict=False))
        options = {word: options[word] for word in _OPTIONS[name] if word in options}
        place = len(self.corners)
        self.corners.append(_corner(name, args[0], options))
        taken = self.corners[place] if self.imposed is None else self.imposed[place]
        return taken.computed(args[0])


def cornered(graph: ir.Graph) -> list[tuple[str, bool]]:
    """Return what goes into a graph's nodes with corners, in their order.

    Of what a Relu gives its input is named, and that it is rectified: a gradient's graph may have
    moved the Relu behind the pooling that reads it.
    """
    found = []
    for node in graph:
        if node.op_type in _NODES:
            value = node.inputs[0]
            assert value is not None  # none of them may leave it out
            before = value.producer()
            rectified = before is not None and before.op_type == "Relu"
            if rectified and before is not None and before.inputs[0] is not None:
                value = before.inputs[0]
            found.append((value.name or "", rectified))
    return found


def differing(one: list[Corner], other: list[Corner]) -> int:
    """Return how many elements are on other pieces."""
    return sum(int((a.taken != b.taken).sum()) for a, b in zip(one, other, strict=True))


def _corner(kind: str, x: torch.Tensor, options: Mapping[str, Any]) -> Corner:
    with torch.no_grad():
        if kind == "max_pool2d":
            return Corner(
                kind, options, functional.max_pool2d(x, **options, return_indices=True)[1]
            )
        low, high = Corner(kind, options, x).limits
        return Corner(kind, options, (x > low).to(torch.int8) + (x >= high).to(torch.int8))
