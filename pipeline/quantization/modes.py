"""The table of modes."""

from __future__ import annotations

from onnxsmith.plugins import Table

MODES = Table(
    "quantization mode",
    "onnxsmith.modes",
    {
        "auto": "onnxsmith.pipeline.quantization.search.auto:AutoMode",
        "bf16": "onnxsmith.pipeline.quantization.half:Bfloat16Mode",
        "dynamic": "onnxsmith.pipeline.quantization.dynamic:DynamicMode",
        "fp16": "onnxsmith.pipeline.quantization.half:Float16Mode",
        "fp8": "onnxsmith.pipeline.quantization.fp8:Float8Mode",
        "static": "onnxsmith.pipeline.quantization.static:StaticMode",
        "weight-only": "onnxsmith.pipeline.quantization.weight_only:WeightOnlyMode",
    },
)
"""Each row is a class with the interface of ``onnxsmith.pipeline.quantization.mode.Mode``."""

NEED_DATA = ("fp8", "static")
"""The modes that calibrate: what recipes and the command line must know without importing them."""
