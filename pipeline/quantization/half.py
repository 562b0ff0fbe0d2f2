"""Modes ``fp16`` and ``bf16``: half precision where the measured error allows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.base import Pass
from onnxsmith.passes.fusion.contrib import version_of
from onnxsmith.passes.layout.convert_opset import ConvertOpset
from onnxsmith.passes.precision.to_bfloat16 import ToBfloat16
from onnxsmith.passes.precision.to_float16 import ToFloat16
from onnxsmith.passes.quantization.detect import refuse_quantized
from onnxsmith.passes.quantization.select import Selection
from onnxsmith.pipeline.quantization.apply import apply_passes
from onnxsmith.pipeline.quantization.job import Job
from onnxsmith.pipeline.quantization.mode import Mode
from onnxsmith.pipeline.quantization.request import QuantizeRequest
from onnxsmith.pipeline.quantization.result import QuantizeResult

_OPSET = 13  # products of bfloat16


class Float16Mode(Mode):
    """float16 weights and values; what overflows or costs most accuracy stays in float32."""

    convert: ClassVar[type[ToFloat16]] = ToFloat16

    def passes(self, artifact: Artifact, request: QuantizeRequest) -> Sequence[Pass]:
        """Return the pass.

        Raises:
            SmithError: The model is quantized already, or no node is called like a pattern.
        """
        refuse_quantized(artifact.model)
        Selection(request.exclude, request.only).check(artifact.model)
        return [self.convert(keep=request.exclude, only=request.only)]

    def run(self, job: Job) -> QuantizeResult:
        """Convert.

        Raises:
            SmithError: Nothing can leave float32.
            RefusedError: The result is broken.
        """
        return self._checked(apply_passes(job, self.passes(job.artifact, job.request)))

    def _checked(self, result: QuantizeResult) -> QuantizeResult:
        if not result.pipeline.runs[-1].modified:
            name = self.convert.name
            raise SmithError(
                "no node can leave float32 within the allowed error",
                f"allow more: onnxsmith optimize --passes {name}:max-error=0.1",
            )
        return result


class Bfloat16Mode(Float16Mode):
    """bfloat16 weights and values, on targets that compute in it."""

    convert: ClassVar[type[ToFloat16]] = ToBfloat16

    def passes(self, artifact: Artifact, request: QuantizeRequest) -> Sequence[Pass]:
        """Return the passes; an old model first gets operators that know the type.

        Raises:
            SmithError: The model is quantized already, or no node is called like a pattern.
        """
        opset = version_of(artifact.model)
        newer: list[Pass] = [ConvertOpset(_OPSET)] if 0 < opset < _OPSET else []
        return [*newer, *super().passes(artifact, request)]

    def run(self, job: Job) -> QuantizeResult:
        """Convert; no CPU can run the result, so that its error is that of rounding in float32.

        Raises:
            SmithError: The target has no kernels for it, or nothing can leave float32.
        """
        target = job.request.target
        if "bfloat16" not in target.precisions:
            raise SmithError(
                f"the runtime has no kernels for bfloat16 on {target.name!r}",
                "give --target cuda or tensorrt, or --mode fp16",
            )
        passes = self.passes(job.artifact, job.request)
        result = self._checked(apply_passes(job, passes, verify=False))
        error = result.pipeline.runs[-1].details["error"]
        words = f"not run, for CPUs have no bfloat16: rounded in float32 it is off by {error:.1e}"
        return replace(result, warnings=(*result.warnings, words))
