"""Store weights in int8 and quantize activations as they come."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import onnx_ir as ir
from onnxruntime.quantization import QuantType, quantize_dynamic

from onnxsmith.passes.base import PassContext, PassResult
from onnxsmith.passes.match import all_nodes
from onnxsmith.passes.quantization.base import QuantizingPass
from onnxsmith.passes.quantization.select import LeftFloat, label
from onnxsmith.passes.quantization.through_files import quantize_through_files

_OPS = ("Attention", "Conv", "EmbedLayerNormalization", "Gather", "Gemm", "LSTM", "MatMul")


@dataclass(frozen=True)
class QuantizeDynamic(QuantizingPass):
    """Store weights in int8 and quantize activations as they come; needs no data.

    ``MatMul(x, w) = s_x s_w MatMulInteger(Q(x), Q(w))`` with ``s_x`` taken from each ``x``.
    Options: ``per-channel`` gives each output channel a scale of its own; ``reduce-range`` keeps
    weights in 7 bits, for CPUs whose int8 products saturate (x86 without VNNI).

    Source: ``onnxruntime.quantization.quantize_dynamic``.
    """

    name: ClassVar[str] = "quantize-dynamic"

    per_channel: bool = True
    reduce_range: bool = False

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Quantize through onnxruntime.

        Raises:
            SmithError: The model is quantized already, or nothing in it can be quantized.
        """
        self.selection.check(model)
        left = LeftFloat()
        for node in all_nodes(model):
            node.name = label(node)
            reason = self.selection.refusal(node)
            if reason and node.op_type in _OPS:
                left.add(node, reason)

        def quantize(source: Path, target: Path) -> None:
            quantize_dynamic(
                source,
                target,
                per_channel=self.per_channel,
                reduce_range=self.reduce_range,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=[entry["node"] for entry in left.to_json()],
            )

        result, count = quantize_through_files(model, quantize)
        return PassResult(
            result, modified=True, details={"quantized": count, "left_float": left.to_json()}
        )
