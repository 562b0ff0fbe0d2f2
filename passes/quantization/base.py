"""What all quantizing passes have in common."""

from __future__ import annotations

import abc
from dataclasses import dataclass, field
from typing import ClassVar

from onnxsmith.passes.base import Effect, Pass
from onnxsmith.passes.quantization.select import Selection


@dataclass(frozen=True)
class QuantizingPass(Pass, abc.ABC):
    """A pass that stores or computes in fewer bits.

    Its result says in ``details["left_float"]`` which nodes that could have been quantized were
    not, as ``{"node": ..., "op": ..., "reason": ...}``; see
    :class:`~onnxsmith.passes.quantization.select.LeftFloat`.

    Attributes:
        exclude: Patterns of nodes, by name or operator, that stay in float.
        only: Patterns of the only nodes that are quantized; empty for all.
    """

    effect: ClassVar[Effect] = "lossy"

    exclude: tuple[str, ...] = field(default=(), kw_only=True)
    only: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    def selection(self) -> Selection:
        """What the user wants quantized."""
        return Selection(self.exclude, self.only)
