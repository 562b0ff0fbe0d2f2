"""Store weights in int8 and quantize activations as they come."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import onnx_ir as ir
from onnxruntime.quantization import QuantType, quantize_dynamic

from onnxsmith.passes.base import Effect, Pass, PassContext, PassResult
from onnxsmith.passes.quantization.through_files import quantize_through_files


@dataclass(frozen=True)
class QuantizeDynamic(Pass):
    """Store weights in int8 and quantize activations as they come; needs no data.

    ``MatMul(x, w) = s_x s_w MatMulInteger(Q(x), Q(w))`` with ``s_x`` taken from each ``x``.
    Options: ``per-channel`` gives each output channel a scale of its own; ``reduce-range`` keeps
    weights in 7 bits, for CPUs whose int8 products saturate (x86 without VNNI).

    Source: ``onnxruntime.quantization.quantize_dynamic``.
    """

    name: ClassVar[str] = "quantize-dynamic"
    effect: ClassVar[Effect] = "lossy"

    per_channel: bool = True
    reduce_range: bool = False

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Quantize through onnxruntime."""

        def quantize(source: Path, target: Path) -> None:
            quantize_dynamic(
                source,
                target,
                per_channel=self.per_channel,
                reduce_range=self.reduce_range,
                weight_type=QuantType.QInt8,
            )

        result, count = quantize_through_files(model, quantize)
        return PassResult(result, modified=True, details={"quantized": count})
