"""Mode ``fp8``: products of 8-bit floating point, on targets that have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.base import Pass
from onnxsmith.passes.cleanup.fold_constants import FoldConstants
from onnxsmith.passes.fusion.contrib import version_of
from onnxsmith.passes.layout.convert_opset import ConvertOpset
from onnxsmith.passes.quantization.quantize_fp8 import QuantizeFp8
from onnxsmith.pipeline.quantization.mode import Mode
from onnxsmith.pipeline.quantization.request import QuantizeRequest

_OPSET = 19


class Float8Mode(Mode):
    """Operands of products in 8-bit floating point, with ranges from calibration data."""

    needs_data: ClassVar[bool] = True

    def passes(self, artifact: Artifact, request: QuantizeRequest) -> Sequence[Pass]:
        """Return the passes; an old model first gets operators that know the type.

        Raises:
            SmithError: The target has no such products.
        """
        if "float8" not in request.target.precisions:
            raise SmithError(
                f"the target {request.target.name!r} has no products of 8-bit floating point",
                "give --target cuda or tensorrt, or --mode static for int8",
            )
        opset = version_of(artifact.model)
        newer: list[Pass] = [ConvertOpset(_OPSET)] if 0 < opset < _OPSET else []
        return [
            *newer,
            FoldConstants(untie=True),
            QuantizeFp8(
                request.method,
                request.samples,
                request.allow_poor_data,
                exclude=request.exclude,
                only=request.only,
            ),
        ]
