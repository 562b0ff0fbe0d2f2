"""Mode ``dynamic``: int8 weights, activations quantized as they come."""

from __future__ import annotations

from collections.abc import Sequence

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import Pass
from onnxsmith.passes.cleanup.fold_constants import FoldConstants
from onnxsmith.passes.cleanup.infer_shapes import InferShapes
from onnxsmith.passes.cleanup.remove_initializer_inputs import RemoveInitializerInputs
from onnxsmith.passes.fusion.contrib import version_of
from onnxsmith.passes.fusion.keep_sums import KeepSums
from onnxsmith.passes.fusion.remove_softmax_guards import RemoveSoftmaxGuards
from onnxsmith.passes.layout.convert_opset import ConvertOpset
from onnxsmith.passes.quantization.flatten_biases import FlattenBiases
from onnxsmith.passes.quantization.quantize_dynamic import QuantizeDynamic
from onnxsmith.pipeline.quantization.mode import APART, Mode
from onnxsmith.pipeline.quantization.request import QuantizeRequest
from onnxsmith.runtime.cpu import products_saturate

_CPU = "CPUExecutionProvider"
# DequantizeLinear takes one scale a channel since opset 13.
_CHANNEL_OPSET = 13


class DynamicMode(Mode):
    """int8 weights; the range of activations is found while the model runs. Needs no data.

    On CPUs the products are so much faster then that what stands between them counts: guards of
    softmaxes go, and sums stay out of normalizations, whose fused kernel is slow.
    """

    def passes(self, artifact: Artifact, request: QuantizeRequest) -> Sequence[Pass]:
        """Return the passes; an old model first gets operators with a scale for each channel."""
        opset = version_of(artifact.model)
        newer: list[Pass] = [ConvertOpset(_CHANNEL_OPSET)] if 0 < opset < _CHANNEL_OPSET else []
        on_cpu: list[Pass] = [InferShapes(), RemoveSoftmaxGuards(), KeepSums()]
        return [
            *newer,
            RemoveInitializerInputs(),
            FoldConstants(untie=True),  # a weight may be computed from constants
            APART,
            *(on_cpu if request.target.providers[0] == _CPU else ()),
            FlattenBiases(),
            QuantizeDynamic(
                request.per_channel,
                _narrow(request) if request.reduce_range is None else request.reduce_range,
                exclude=request.exclude,
                only=request.only,
            ),
        ]


def _narrow(request: QuantizeRequest) -> bool:
    """Tell whether 8-bit weights would overflow: asked of this CPU where it is the target."""
    return request.target.name == "cpu" and products_saturate()
