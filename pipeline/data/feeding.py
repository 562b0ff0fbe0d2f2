"""Cut data into the batches that a model can be fed: of its own size where that is fixed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.data.base import Array, DataSource
from onnxsmith.pipeline.data.conform import Conformed
from onnxsmith.spec import ModelSpec


@dataclass(frozen=True)
class Feed:
    """One run's worth of inputs.

    Attributes:
        inputs: An array for each model input.
        labels: The labels of the first ``count`` rows, if known.
        count: How many rows are samples; the rest repeats the last one to fill a fixed batch.
    """

    inputs: dict[str, Array]
    labels: Array | None
    count: int


def fixed_batch(spec: ModelSpec) -> int | None:
    """Return the batch size that the model's inputs fix, None where they take any.

    Raises:
        SmithError: Two inputs fix different sizes.
    """
    sizes = {
        value.shape[0] for value in spec.inputs if value.shape and isinstance(value.shape[0], int)
    }
    if len(sizes) > 1:
        raise SmithError(
            f"the model's inputs have no common batch size: {', '.join(map(str, sorted(sizes)))}",
            "use a model whose inputs all have the batch as their first dimension",
        )
    return next(iter(sizes), None)


def feeds(source: DataSource, spec: ModelSpec, batch_size: int) -> Iterator[Feed]:
    """Yield the samples as feeds; the last one is padded where the model fixes its batch.

    Raises:
        SmithError: The data cannot be read or does not fit the model.
    """
    fixed = fixed_batch(spec)
    fitting = source if isinstance(source, Conformed) else Conformed(source, spec)
    for batch in fitting.batches(fixed or batch_size):
        count, inputs = len(batch), batch.inputs
        if fixed is not None and count < fixed:
            inputs = {name: _pad(array, fixed) for name, array in inputs.items()}
        yield Feed(inputs, batch.labels, count)


def sample_dims(source: DataSource, spec: ModelSpec) -> dict[str, int]:
    """Return the sizes that named dimensions of the inputs have in the first sample.

    Raises:
        SmithError: The data cannot be read or does not fit the model.
    """
    first = next(feeds(source, spec, 1), None)
    if first is None:
        return {}
    return {
        name: size
        for value in spec.inputs
        for name, size in zip(value.shape or (), first.inputs[value.name].shape, strict=False)
        if isinstance(name, str)
    }


def _pad(array: Array, size: int) -> Array:
    return np.concatenate([array, np.repeat(array[-1:], size - len(array), axis=0)])
