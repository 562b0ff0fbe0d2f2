"""Compute in bfloat16 where the measured error allows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from onnxsmith.passes.precision.half import BFLOAT16, Precision
from onnxsmith.passes.precision.to_float16 import ToFloat16


@dataclass(frozen=True)
class ToBfloat16(ToFloat16):
    """Compute in bfloat16 where the measured error allows it.

    As ``to-float16``, with the range of float32 and eight bits of precision; the allowed error is
    larger accordingly.
    """

    name: ClassVar[str] = "to-bfloat16"

    max_error: float = 0.05

    def precision(self) -> Precision:
        """Return the type that is used."""
        return BFLOAT16
