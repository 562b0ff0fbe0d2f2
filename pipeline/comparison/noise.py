"""How much noise is there in each tensor of a model, measured in bounded memory?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.inspection.shapes import infer_shapes, sizes
from onnxsmith.passes.base import Samples
from onnxsmith.pipeline.comparison.correspondence import Pair
from onnxsmith.runtime.session import Session
from onnxsmith.target import Target

Array = np.ndarray[Any, Any]

GROUP_BYTES = 128 << 20
"""About how many bytes of tensors are held at a time, of each model."""

_GROUP_TENSORS = 64
_DEQUANTIZED = "onnxsmith_dequantized/"


@dataclass
class Noise:
    """The powers of a tensor and of its difference, over all samples.

    Attributes:
        signal: Sum of squares in the first model.
        noise: Sum of squares of the difference.
        largest: Largest magnitude in the first model.
        largest_error: Largest difference.
        lost: Elements that are finite in the first model and not in the second.
    """

    signal: float = 0.0
    noise: float = 0.0
    largest: float = 0.0
    largest_error: float = 0.0
    lost: int = 0

    def add(self, expected: Array, actual: Array) -> None:
        """Take in one pair of arrays of equal shapes; what is not finite in the first is passed."""
        reference, found = expected.astype(np.float64), actual.astype(np.float64)
        known = np.isfinite(reference)
        kept = known & np.isfinite(found)
        self.lost += int(known.sum() - kept.sum())
        reference = np.where(kept, reference, 0.0)
        error = np.where(kept, found, 0.0) - reference
        with np.errstate(over="ignore"):
            self.signal += float(np.square(reference).sum())
            self.noise += float(np.square(error).sum())
        self.largest = max(self.largest, float(np.abs(reference).max(initial=0.0)))
        self.largest_error = max(self.largest_error, float(np.abs(error).max(initial=0.0)))

    @property
    def ratio(self) -> float:
        """Noise power over signal power; infinite where numbers were lost."""
        if self.lost or (self.noise and not self.signal):
            return math.inf
        ratio = self.noise / self.signal if self.noise else 0.0
        return ratio if ratio == ratio else math.inf

    @property
    def snr_db(self) -> float:
        """Signal to noise in decibels."""
        return -decibel(self.ratio)

    @property
    def max_rel(self) -> float:
        """The largest difference over the largest magnitude."""
        if self.lost:
            return math.inf
        if not self.largest:
            return math.inf if self.largest_error else 0.0
        return self.largest_error / self.largest


def decibel(ratio: float) -> float:
    """Return a ratio of powers in decibels."""
    return 10 * math.log10(ratio) if 0 < ratio < math.inf else (math.inf if ratio else -math.inf)


def measure_noise(
    first: Artifact,
    second: Artifact,
    pairs: Sequence[Pair],
    samples: Samples,
    target: Target,
    group_bytes: int = GROUP_BYTES,
) -> dict[str, Noise]:
    """Return the noise of each pair whose shapes agree, by the first model's name.

    Tensors are fetched in groups, and the samples are gone through once a group: what is held
    does not grow with the number of tensors or of samples. Both graphs run as they stand, without
    the runtime's own optimizations, which would fuse tensors away.

    Raises:
        SmithError: A model does not run on the samples.
    """
    found = {pair.name: Noise() for pair in pairs}
    strangers: set[str] = set()
    for group in _groups(first.model, pairs, _batch(samples), group_bytes):
        one = with_outputs(first, [(p.name, "", "") for p in group])
        two = with_outputs(second, [(p.other, p.scale, p.zero_point) for p in group])
        with (
            Session(one, target, optimize=False) as left,
            Session(two, target, optimize=False) as right,
        ):
            for feeds in samples():
                before = left.run(feeds, [p.name for p in group])
                wanted = [_fetched(p.other, p.scale) for p in group]
                after = right.run(feeds, list(dict.fromkeys(wanted)))
                for pair, name in zip(group, wanted, strict=True):
                    expected, actual = before[pair.name], after[name]
                    if expected.shape == actual.shape and expected.dtype.kind in "fV":
                        found[pair.name].add(expected, actual)
                    else:
                        strangers.add(pair.name)
    return {name: noise for name, noise in found.items() if name not in strangers}


def with_outputs(artifact: Artifact, values: Sequence[tuple[str, str, str]]) -> Artifact:
    """Return a copy that also hands out these values.

    Args:
        artifact: The model; its tensors are shared.
        values: Name of a value, and of the scale and zero point that it is to be multiplied out
            with, or empty texts.
    """
    copy = artifact.clone()
    graph = copy.model.graph
    known = {value.name: value for node in graph for value in node.outputs if value.name}
    have = {value.name for value in graph.outputs}
    for name, scale, zero_point in values:
        value = known[name]
        if scale:
            inputs = [value, graph.initializers[scale], graph.initializers[zero_point]]
            made = ir.Value(name=_fetched(name, scale))
            graph.append(ir.Node("", "DequantizeLinear", inputs, outputs=[made]))
            value = made
        if value.name not in have:
            graph.outputs.append(value)
            have.add(value.name)
    return Artifact(copy.model, copy.history)


def _fetched(name: str, scale: str) -> str:
    return f"{_DEQUANTIZED}{name}" if scale else name


def _batch(samples: Samples) -> Mapping[str, Array]:
    batch = next(samples(), None)
    if batch is None:
        raise SmithError("the data is empty", "give data with at least one sample")
    return batch


def _groups(
    model: ir.Model, pairs: Sequence[Pair], feeds: Mapping[str, Array], limit: int
) -> Iterator[list[Pair]]:
    """Cut the pairs into groups of bounded size, by the shapes inferred for these feeds."""
    dims = {
        dim.value: size
        for value in model.graph.inputs
        if value.shape is not None and value.name in feeds
        for dim, size in zip(value.shape, feeds[value.name or ""].shape, strict=False)
        if isinstance(dim, ir.SymbolicDim) and dim.value
    }
    shaped = infer_shapes(model, dims).model
    values = {value.name: value for node in shaped.graph for value in node.outputs}
    group: list[Pair] = []
    held = 0
    for pair in pairs:
        shape = sizes(values.get(pair.name))
        # Of unknown size: a share, so that a group of them stays bounded by number.
        size = limit // _GROUP_TENSORS if shape is None else 4 * math.prod(shape)
        if group and (held + size > limit or len(group) == _GROUP_TENSORS):
            yield group
            group, held = [], 0
        group.append(pair)
        held += size
    if group:
        yield group
