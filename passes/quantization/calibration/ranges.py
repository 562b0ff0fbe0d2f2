"""The range of each tensor, from what it was on the samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.base import Samples
from onnxsmith.passes.quantization.calibration.bodies import Merge
from onnxsmith.passes.quantization.calibration.histogram import (
    BINS,
    Histogram,
    counting,
    least_divergence,
    least_error,
    percentile,
)
from onnxsmith.passes.quantization.calibration.observe import (
    COUNTING_OPSET,
    Reduction,
    append,
    observe,
)

Array = np.ndarray[Any, Any]

Method = Literal["minmax", "moving-average", "percentile", "entropy", "mse"]
METHODS: tuple[Method, ...] = ("minmax", "moving-average", "percentile", "entropy", "mse")

_MOMENTUM = 0.9
_EXTREMES = tuple(
    Merge(op, np.array(neutral, np.float32))
    for op, neutral in (("Min", np.inf), ("Max", -np.inf), ("Add", 0))
)
_COUNTS = (Merge("Add", np.zeros(BINS, np.int32)),)


@dataclass
class Ranges:
    """Ranges of tensors.

    Attributes:
        samples: How many samples they come from.
        ranges: The least and greatest value of each tensor that is worth covering.
        broken: Tensors that were NaN or infinite.
    """

    samples: int = 0
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)


def measure_ranges(
    model: ir.Model,
    names: Sequence[str],
    samples: Samples,
    method: Method,
    limit: int,
    levels: int | Mapping[str, int],
) -> Ranges:
    """Return the ranges of float tensors, those in the bodies of If, Loop and Scan included.

    ``minmax`` covers all values; ``moving-average`` averages the extremes of batches,
    ``r <- 0.9 r + 0.1 b``; the others read the data twice and choose from a histogram:
    ``percentile`` leaves out 0.001 % of the values, ``entropy`` changes the distribution least
    (Migacz 2017), ``mse`` makes the least squared error.

    Args:
        model: The float model; not edited.
        names: The tensors, by their keys: see
            :func:`~onnxsmith.passes.quantization.calibration.bodies.value_keys`.
        samples: Batches of inputs.
        method: How to choose.
        limit: Most batches to read.
        levels: How many integers there are, for all or for each tensor; 256 for 8 bits.

    Raises:
        SmithError: The data are empty, or hold NaN or infinity.
    """
    found = _extremes(model, names, samples, method, limit)
    if method in ("minmax", "moving-average"):
        return found
    counted: dict[str, Reduction] = {
        name: counting(*limits) for name, limits in found.ranges.items() if limits[0] < limits[1]
    }
    if not counted:
        return found
    totals = {name: np.zeros(BINS, np.int64) for name in counted}
    batches = observe(model, counted, samples, limit, opset=COUNTING_OPSET, merges=_COUNTS)
    for _, results in batches:
        for name, (counts,) in results.items():
            totals[name] += counts
    for name, counts in totals.items():
        histogram = Histogram(counts, *found.ranges[name])
        integers = levels if isinstance(levels, int) else levels[name]
        if method == "percentile":
            found.ranges[name] = percentile(histogram)
        elif method == "entropy":
            found.ranges[name] = least_divergence(histogram, integers)
        else:
            found.ranges[name] = least_error(histogram, integers)
    return found


def _extremes(
    model: ir.Model, names: Sequence[str], samples: Samples, method: Method, limit: int
) -> Ranges:
    found = Ranges()
    wanted = dict.fromkeys(names, _least_most_sum)
    for count, results in observe(model, wanted, samples, limit, merges=_EXTREMES):
        found.samples += count
        for name, reduced in results.items():
            low, high, total = (float(r) for r in reduced)
            if low == np.inf and high == -np.inf and total == 0:
                continue  # its body was not run
            # Reductions to an extreme may pass over a NaN; a sum does not.
            if not np.isfinite([low, high, total]).all():
                found.broken.add(name)
                continue
            found.ranges[name] = _widened(found.ranges.get(name), (low, high), method)
    for name in found.broken:
        found.ranges.pop(name, None)
    return found


def _widened(
    old: tuple[float, float] | None, new: tuple[float, float], method: Method
) -> tuple[float, float]:
    if old is None:
        return new
    if method == "moving-average":
        low, high = (_MOMENTUM * a + (1 - _MOMENTUM) * b for a, b in zip(old, new, strict=True))
        return low, high
    return min(old[0], new[0]), max(old[1], new[1])


def _least_most_sum(graph: ir.Graph, value: ir.Value) -> list[ir.Value]:
    return [append(graph, op, value, keepdims=0) for op in ("ReduceMin", "ReduceMax", "ReduceSum")]
