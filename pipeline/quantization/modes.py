"""The table of modes."""

from __future__ import annotations

from onnxsmith.plugins import Table

MODES = Table(
    "quantization mode",
    "onnxsmith.modes",
    {
        "dynamic": "onnxsmith.pipeline.quantization.dynamic:DynamicMode",
        "static": "onnxsmith.pipeline.quantization.static:StaticMode",
    },
)
"""Each row is a class with the interface of ``onnxsmith.pipeline.quantization.mode.Mode``."""

NEED_DATA = ("static",)
"""The modes that calibrate: what recipes and the command line must know without importing them."""
