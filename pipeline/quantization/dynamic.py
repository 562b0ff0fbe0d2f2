"""Mode ``dynamic``: int8 weights, activations quantized as they come."""

from __future__ import annotations

from collections.abc import Sequence

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import Pass
from onnxsmith.passes.quantization.flatten_biases import FlattenBiases
from onnxsmith.passes.quantization.quantize_dynamic import QuantizeDynamic
from onnxsmith.pipeline.quantization.mode import Mode
from onnxsmith.pipeline.quantization.request import QuantizeRequest
from onnxsmith.runtime.cpu import products_saturate


class DynamicMode(Mode):
    """int8 weights; the range of activations is found while the model runs. Needs no data."""

    def passes(self, artifact: Artifact, request: QuantizeRequest) -> Sequence[Pass]:
        """Return the passes."""
        return [
            FlattenBiases(),
            QuantizeDynamic(
                request.per_channel,
                products_saturate() if request.reduce_range is None else request.reduce_range,
                exclude=request.exclude,
                only=request.only,
            ),
        ]
