"""Compute a training step in half precision, parameters and losses in float32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from onnxsmith.errors import UsageError
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.cleanup.infer_shapes import InferShapes
from onnxsmith.passes.precision.half import BFLOAT16, FLOAT16, HalfRewriter, eligible_nodes

HalfType = Literal["float16", "bfloat16"]

# Sums over many elements and steep functions lose too much in eleven bits.
_FULL = frozenset({
    "BatchNormalization", "Exp", "GroupNormalization", "InstanceNormalization",
    "LayerNormalization", "Log", "LogSoftmax", "LpNormalization", "Pow", "RMSNormalization",
    "ReduceL2", "ReduceLogSumExp", "ReduceMean", "ReduceSum", "ReduceSumSquare", "Softmax",
})  # fmt: skip
_FIRST_SCALE, _GROWS_AFTER = 2.0**16, 2000
_LEAST_SCALE, _LARGEST_SCALE = 2.0**-14, 2.0**40


def halve(model: ir.Model, precision: HalfType) -> None:
    """Let products and what lies between them compute in half precision.

    Parameters stay float32 inputs, with a cast behind each, through which gradients pass.

    Args:
        model: A prepared forward graph; it is edited.
        precision: The type.
    """
    half = FLOAT16 if precision == "float16" else BFLOAT16
    InferShapes().apply(model, PassContext())
    nodes = [node for node in eligible_nodes(model, half) if node.op_type not in _FULL]
    HalfRewriter(model, half).rewrite(nodes)


@dataclass
class LossScale:
    """What the loss is multiplied by, so that small gradients do not vanish in half precision.

    Attributes:
        value: The factor.
        fixed: Whether it stays as it is; else it is halved where a gradient is not finite, whose
            update is left out, and doubled after 2000 updates without one.
        good: Updates since it last changed.
        skipped: Updates that were left out.

    Source: Micikevicius et al., "Mixed Precision Training" (2018), section 3.2.
    """

    value: float = _FIRST_SCALE
    fixed: bool = False
    good: int = 0
    skipped: int = 0

    @classmethod
    def parse(cls, text: str) -> LossScale:
        """Read ``dynamic``, or a number.

        Raises:
            UsageError: It is neither.
        """
        if text == "dynamic":
            return cls()
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not _LEAST_SCALE <= value <= _LARGEST_SCALE:
            raise UsageError(f"the loss scale {text!r} is no number above zero", "write dynamic")
        return cls(value, fixed=True)

    def went_well(self) -> None:
        """Count an update."""
        self.good += 1
        if not self.fixed and self.good >= _GROWS_AFTER:
            self.value, self.good = min(self.value * 2, _LARGEST_SCALE), 0

    def overflowed(self) -> None:
        """Count a gradient that is not finite."""
        self.skipped, self.good = self.skipped + 1, 0
        if not self.fixed:
            self.value = max(self.value / 2, _LEAST_SCALE)
