"""The interface of a mode of quantization."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import ClassVar

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import Pass
from onnxsmith.passes.fusion.decompose import Decompose
from onnxsmith.passes.pipeline import PassPipeline
from onnxsmith.passes.quantization.base import QuantizingPass
from onnxsmith.pipeline.quantization.apply import apply_passes
from onnxsmith.pipeline.quantization.job import Job
from onnxsmith.pipeline.quantization.request import QuantizeRequest
from onnxsmith.pipeline.quantization.result import QuantizeResult

APART = Decompose(("EmbedLayerNormalization",))
"""Takes tables of embeddings out of the operator that holds them, to be stored in int8.

QEmbedLayerNormalization, the runtime's own, has one scale for a whole table.
"""


class Mode(abc.ABC):
    """A way to quantize: most are a list of passes.

    Class attributes:
        needs_data: Whether there have to be samples to calibrate with.
    """

    needs_data: ClassVar[bool] = False

    @abc.abstractmethod
    def passes(self, artifact: Artifact, request: QuantizeRequest) -> Sequence[Pass]:
        """Return the passes for this artifact, in order.

        Raises:
            SmithError: The request does not fit the mode.
        """

    def run(self, job: Job) -> QuantizeResult:
        """Quantize; a mode that is a search does so in its own way.

        Raises:
            SmithError: The model cannot be quantized.
            RefusedError: The result is broken.
        """
        return apply_passes(job, prepared(self.passes(job.artifact, job.request), job.request))


def prepared(passes: Sequence[Pass], request: QuantizeRequest) -> list[Pass]:
    """Return the passes with those that the user wants on the float model before it is rounded.

    Raises:
        UsageError: The user's pipeline is no pipeline.
    """
    wanted = PassPipeline.parse(request.prepare).passes if request.prepare else ()
    index = next((i for i, p in enumerate(passes) if isinstance(p, QuantizingPass)), len(passes))
    return [*passes[:index], *wanted, *passes[index:]]
