"""Collect what GPTQ needs to know of a product's inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.base import Samples
from onnxsmith.passes.match import Array
from onnxsmith.passes.quantization.calibration.observe import append, constant, observe

_NUMBERS_AT_ONCE = 1 << 26  # of all Hessians of a run over the samples: 256 MB


def curvatures(
    model: ir.Model, widths: Mapping[str, int], samples: Samples, limit: int
) -> Iterator[tuple[str, Array, int]]:
    """Yield for each value ``X' X`` over all samples, and how many samples there were.

    The products are made inside the graph, batch by batch. Memory is bounded: the samples are read
    once for each group of values.

    Args:
        model: The float model; not edited.
        widths: Values of the main graph, by name, and the size of their last dimension.
        samples: Batches of inputs.
        limit: Most batches to read.

    Raises:
        SmithError: The samples are empty, or hold NaN or infinity.
    """
    for names in _groups(widths):
        sums = {name: np.zeros((widths[name],) * 2, np.float32) for name in names}
        count = 0
        for size, found in observe(model, dict.fromkeys(names, _outer), samples, limit):
            count += size
            for name in names:
                sums[name] += found[name][0]
        for name in names:
            yield name, sums.pop(name), count


def _outer(graph: ir.Graph, value: ir.Value) -> Sequence[ir.Value]:
    """Append the sum of the outer products of a value's rows."""
    last = value.shape[-1] if value.shape is not None else None
    assert isinstance(last, int)  # widths() knew it
    rows = append(graph, "Reshape", value, constant(graph, np.array([-1, last], np.int64)))
    return [append(graph, "MatMul", append(graph, "Transpose", rows, perm=[1, 0]), rows)]


def _groups(widths: Mapping[str, int]) -> Iterator[list[str]]:
    group: list[str] = []
    held = 0
    for name, width in widths.items():
        if group and held + width * width > _NUMBERS_AT_ONCE:
            yield group
            group, held = [], 0
        group.append(name)
        held += width * width
    if group:
        yield group
