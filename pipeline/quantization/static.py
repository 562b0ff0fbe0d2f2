"""Mode ``static``: int8 weights and activations, ranges from calibration data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import Pass
from onnxsmith.passes.layout.convert_opset import ConvertOpset
from onnxsmith.passes.quantization.flatten_biases import FlattenBiases
from onnxsmith.passes.quantization.quantize_static import QuantizeStatic
from onnxsmith.pipeline.quantization.mode import Mode
from onnxsmith.pipeline.quantization.request import QuantizeRequest

# DequantizeLinear takes one scale a channel since opset 13.
_CHANNEL_OPSET = 13


class StaticMode(Mode):
    """int8 weights and activations, with ranges from calibration data."""

    needs_data: ClassVar[bool] = True

    def passes(self, artifact: Artifact, request: QuantizeRequest) -> Sequence[Pass]:
        """Return the passes; an old model first gets operators with a scale for each channel."""
        opset = artifact.model.opset_imports.get("", _CHANNEL_OPSET)
        newer = [ConvertOpset(_CHANNEL_OPSET)] if opset < _CHANNEL_OPSET else []
        return [
            *newer,
            FlattenBiases(),
            QuantizeStatic(
                request.per_channel,
                request.reduce_range,
                request.method,
                request.samples,
                allow_poor_data=request.allow_poor_data,
                exclude=request.exclude,
                only=request.only,
            ),
        ]
