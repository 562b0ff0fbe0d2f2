"""Mode ``static``: int8 weights and activations, ranges from calibration data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import Pass
from onnxsmith.passes.cleanup.fold_constants import FoldConstants
from onnxsmith.passes.cleanup.infer_shapes import InferShapes
from onnxsmith.passes.cleanup.remove_unused_nodes import RemoveUnusedNodes
from onnxsmith.passes.fusion.contrib import version_of
from onnxsmith.passes.fusion.fuse_swish import FuseSwish
from onnxsmith.passes.fusion.keep_sums import KeepSums
from onnxsmith.passes.fusion.remove_softmax_guards import RemoveSoftmaxGuards
from onnxsmith.passes.layout.convert_opset import ConvertOpset
from onnxsmith.passes.pipeline import PassPipeline
from onnxsmith.passes.quantization.flatten_biases import FlattenBiases
from onnxsmith.passes.quantization.fuse_qdq import FuseQdq
from onnxsmith.passes.quantization.pool_means import PoolMeans
from onnxsmith.passes.quantization.quantize_static import Choice, QuantizeStatic
from onnxsmith.passes.quantization.shuffle_conv_transposes import ShuffleConvTransposes
from onnxsmith.pipeline.quantization.mode import APART, Mode
from onnxsmith.pipeline.quantization.request import QuantizeRequest

# The fusions into standard operators: those of the runtime's own domain have no integer kernels.
_PRESET = "cpu"
# In float, Swish is one node of the runtime's; in integers it would be two slow ones. Transposed
# convolutions have no integer kernel there.
_CPU = "CPUExecutionProvider"
# DequantizeLinear takes one scale a channel since opset 13, and types of other sizes since 21.
_CHANNEL_OPSET, _SIZES_OPSET = 13, 21
_EIGHT_BITS = ("auto", "uint8", "int8")


class StaticMode(Mode):
    """int8 weights and activations, with ranges from calibration data."""

    needs_data: ClassVar[bool] = True

    def passes(self, artifact: Artifact, request: QuantizeRequest) -> Sequence[Pass]:
        """Return the passes: what makes the float model as simple as can be comes first."""
        cpu = request.target.providers[0] == _CPU
        on_cpu: list[Pass] = [
            FuseSwish(),
            RemoveSoftmaxGuards(),
            ShuffleConvTransposes(request.exclude, request.only),
        ]
        return [
            *PassPipeline.preset(_PRESET).passes,
            FoldConstants(untie=True),
            APART,
            *_newer(artifact, request),
            *(on_cpu if cpu else []),
            PoolMeans(),
            FlattenBiases(),
            InferShapes(),  # values of bodies are calibrated where their types are known
            QuantizeStatic(
                request.per_channel,
                choice(request.reduce_range),
                request.method,
                request.samples,
                request.activations,
                request.weights,
                choice(request.symmetric),
                request.scope,
                request.both_activations,
                request.allow_poor_data,
                exclude=request.exclude,
                only=request.only,
                wide=request.wide,
            ),
            *([KeepSums()] if cpu else []),  # of what stays in float
            *([FuseQdq()] if request.qoperator else []),
            RemoveUnusedNodes(),
        ]


def choice(value: bool | None) -> Choice:
    """Return how a pass spells yes, no, and as the target needs it."""
    return "auto" if value is None else "on" if value else "off"


def _newer(artifact: Artifact, request: QuantizeRequest) -> list[Pass]:
    """Return what gives an old model operators with the scales and types that are needed."""
    eight = request.activations in _EIGHT_BITS and request.weights == "int8" and not request.wide
    needed = _CHANNEL_OPSET if eight else _SIZES_OPSET
    opset = version_of(artifact.model)
    return [ConvertOpset(needed)] if 0 < opset < needed else []
