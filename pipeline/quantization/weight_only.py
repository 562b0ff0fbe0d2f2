"""Mode ``weight-only``: weights in 4 or 8 bits, computation in float."""

from __future__ import annotations

from collections.abc import Sequence

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import Pass
from onnxsmith.passes.cleanup.fold_constants import FoldConstants
from onnxsmith.passes.fusion.contrib import version_of
from onnxsmith.passes.layout.convert_opset import ConvertOpset
from onnxsmith.passes.quantization.quantize_weights import QuantizeWeights
from onnxsmith.pipeline.quantization.mode import APART, Mode
from onnxsmith.pipeline.quantization.request import QuantizeRequest
from onnxsmith.pipeline.quantization.static import choice

# DequantizeLinear takes a scale for each channel since 13, and for each block since 21.
_OPSETS = {"matmul-nbits": 13, "dequantize": 21}


class WeightOnlyMode(Mode):
    """Weights in 4 or 8 bits, a scale for each block; activations stay in float."""

    def passes(self, artifact: Artifact, request: QuantizeRequest) -> Sequence[Pass]:
        """Return the passes; an old model first gets operators that hold such scales.

        Raises:
            UsageError: Options do not go together.
        """
        opset, needed = version_of(artifact.model), _OPSETS[request.form]
        newer = [ConvertOpset(needed)] if 0 < opset < needed else []
        return [
            *newer,
            FoldConstants(untie=True),
            APART,
            QuantizeWeights(
                request.bits,
                request.block_size,
                request.algorithm,
                choice(request.symmetric),
                request.form,
                request.accuracy_level,
                request.samples,
                request.allow_poor_data,
                exclude=request.exclude,
                only=request.only,
            ),
        ]
