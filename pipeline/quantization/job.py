"""One quantization at work: the artifact, what was asked, and the data."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onnxsmith.artifact import Artifact
from onnxsmith.numerics import numpy_dtype
from onnxsmith.passes.base import PassContext, Samples
from onnxsmith.pipeline.data import DataSource, feeds, fixed_batch, open_data, sample_dims
from onnxsmith.pipeline.quantization.request import QuantizeRequest
from onnxsmith.runtime.probe import probe_inputs
from onnxsmith.spec import ModelSpec

Array = np.ndarray[Any, Any]

RANDOM = "random"
"""Stands for made-up inputs where a data source is expected."""

# Samples in a batch at most, and bytes of their inputs: what a network computes from them, all of
# which may be in memory at once, is some fifty times as large.
_CALIBRATION_BATCH, _BATCH_BYTES = 8, 8 << 20
_RANDOM_BATCHES = 8


@dataclass(frozen=True)
class Job:
    """An artifact to quantize, and what with.

    Attributes:
        artifact: The float model; never edited.
        request: What was asked for; named dimensions that it leaves open have the sizes of the
            data, so that speed is measured on inputs like the real ones.
        source: The calibration data; None without any, or for random data.
    """

    artifact: Artifact
    request: QuantizeRequest
    source: DataSource | None = None

    @classmethod
    def open(cls, artifact: Artifact, request: QuantizeRequest) -> Job:
        """Open the request's data.

        Raises:
            SmithError: It cannot be read, or does not fit the model.
        """
        data, spec = request.data, artifact.spec
        calibration = None if data is None or data == RANDOM else open_data(data, spec)
        example = calibration
        if example is None and request.eval_data is not None:
            example = open_data(request.eval_data, spec)
        if example is not None:
            request = replace(request, dims={**sample_dims(example, spec), **request.dims})
        return cls(artifact, request, calibration)

    @property
    def samples(self) -> Samples | None:
        """Batches of inputs to calibrate and probe with; None without data."""
        if self.source is not None:
            return self._read
        return self._make_up if self.request.data == RANDOM else None

    def context(self) -> PassContext:
        """Return what the passes may use."""
        return PassContext(
            target=self.request.target,
            samples=self.samples,
            synthetic=self.request.data == RANDOM,
            seed=self.request.seed,
        )

    def _read(self) -> Iterator[dict[str, Array]]:
        assert self.source is not None  # samples() chose this
        for feed in feeds(self.source, self.artifact.spec, batch_size(self.artifact.spec)):
            yield feed.inputs

    def _make_up(self) -> Iterator[dict[str, Array]]:
        spec, request = self.artifact.spec, self.request
        batch = fixed_batch(spec) or _CALIBRATION_BATCH
        for index in range(_RANDOM_BATCHES):
            seed = request.seed + index
            yield probe_inputs(self.artifact.model, spec, request.dims, seed, batch)


def batch_size(spec: ModelSpec) -> int:
    """Return how many samples to run at once; fewer where they are large. Unknown sizes are 1."""
    sizes = [
        math.prod(d for d in (value.shape or ())[1:] if isinstance(d, int))
        * numpy_dtype(value.dtype).itemsize
        for value in spec.inputs
        if value.kind == "tensor" and value.dtype != "string"
    ]
    return max(1, min(_CALIBRATION_BATCH, _BATCH_BYTES // max(1, sum(sizes))))
