"""Bring the arrays of a data source into the form that a model's inputs take.

Names, element types and shapes are matched; nothing is changed that could mean something else:
floating-point data is not rounded, sizes that differ are not resized, and a shape is only folded
or unfolded where one side is flat or the two differ by axes of size one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.data.base import Array, Batch, DataSource
from onnxsmith.pipeline.data.dtypes import cast_exact
from onnxsmith.spec import ModelSpec, ValueSpec

_POSITIONAL = re.compile(r"^(?:in|input|arg|arr)_?(\d+)$")


@dataclass(frozen=True)
class Conformed:
    """A data source whose batches fit a model.

    Attributes:
        source: Where the samples come from.
        spec: The model's signature.
        target: The input that a single array goes to; by default the only one.
    """

    source: DataSource
    spec: ModelSpec
    target: str | None = None

    @property
    def name(self) -> str:
        """The source's name."""
        return self.source.name

    @property
    def size(self) -> int | None:
        """The source's size."""
        return self.source.size

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The source's classes."""
        return self.source.classes

    def describe(self) -> dict[str, Any]:
        """Return the source's description."""
        return self.source.describe()

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """Yield batches whose inputs have the model's names, types and ranks.

        Raises:
            SmithError: The data does not fit the model.
        """
        for batch in self.source.batches(batch_size):
            yield Batch(fit_inputs(batch.inputs, self.spec, self.target), batch.labels)


def conform(source: DataSource, spec: ModelSpec, target: str | None = None) -> Conformed:
    """Return the source in the form that the model takes, after checking its first sample.

    Raises:
        SmithError: The data does not fit the model, or has no sample.
    """
    conformed = Conformed(source, spec, target)
    if next(conformed.batches(1), None) is None:
        raise SmithError(f"the data {source.name!r} has no samples", "give data with samples")
    return conformed


def fit_inputs(
    arrays: Mapping[str, Array], spec: ModelSpec, target: str | None = None
) -> dict[str, Array]:
    """Return one array for each model input, in the model's order.

    Raises:
        SmithError: A name, an element type or a shape does not fit.
    """
    return {
        value.name: fit_array(arrays[source], value)
        for value, source in _match_names(arrays, spec, target)
    }


def fit_array(array: Array, value: ValueSpec) -> Array:
    """Return the array ``[N, ...]`` in the shape and the element type of one model input.

    Raises:
        SmithError: They do not fit.
    """
    if value.kind != "tensor":
        raise SmithError(
            f"input {value.name!r} is a {value.kind}, which data sources do not give",
            "use a model whose inputs are tensors",
        )
    shaped = array if value.shape is None else _fit_shape(array, value, value.shape)
    return cast_exact(shaped, value.dtype, f"input {value.name!r}")


def _match_names(
    arrays: Mapping[str, Array], spec: ModelSpec, target: str | None
) -> list[tuple[ValueSpec, str]]:
    """Pair each model input with the name of its array."""
    if target is not None:
        spec.input(target)
    names = [value.name for value in spec.inputs]
    if all(name in arrays for name in names):
        return [(value, value.name) for value in spec.inputs]
    if len(arrays) == 1 and (len(names) == 1 or target is not None):
        found = {target or names[0]: next(iter(arrays))}
    elif len(names) == 1 and target is not None and target in arrays:
        found = {names[0]: target}
    else:
        found = {name: name for name in names if name in arrays} or _by_position(names, arrays)
    missing = [name for name in names if name not in found]
    if missing:
        given = ", ".join(repr(name) for name in sorted(arrays)[:8])
        raise SmithError(
            f"the data has no array for the model input {missing[0]!r}",
            f"it has {given}: name each array after an input of the model, or in_0, in_1, ...",
        )
    return [(value, found[value.name]) for value in spec.inputs]


def _by_position(names: list[str], arrays: Mapping[str, Array]) -> dict[str, str]:
    """Pair inputs with arrays called ``in_0``, ``in_1``, ... (also input_0, arr_0)."""
    numbered = {}
    for name in arrays:
        match = _POSITIONAL.match(name)
        if match is not None:
            numbered[int(match[1])] = name
    return {name: numbered[at] for at, name in enumerate(names) if at in numbered}


def _fit_shape(array: Array, value: ValueSpec, shape: tuple[Any, ...]) -> Array:
    if not shape:
        raise SmithError(
            f"input {value.name!r} is a scalar, but data has one row a sample",
            "fix the input in the model, or run it with infer",
        )
    sample, wanted = array.shape[1:], shape[1:]
    if len(sample) == len(wanted) and all(
        not isinstance(want, int) or want == have for want, have in zip(wanted, sample, strict=True)
    ):
        return array
    if all(isinstance(size, int) for size in wanted) and _same_but_folded(sample, wanted):
        return array.reshape(len(array), *wanted)
    have = f"{array.dtype}[{','.join(['N', *map(str, sample)])}]"
    raise SmithError(
        f"the data does not fit the model: {value} is wanted, {have} is given",
        _shape_hint(sample, wanted),
    )


def _same_but_folded(sample: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    if math.prod(sample) != math.prod(wanted):
        return False
    have = [size for size in sample if size != 1]
    want = [size for size in wanted if size != 1]
    return have == want or len(have) <= 1 or len(want) <= 1


def _shape_hint(sample: tuple[int, ...], wanted: tuple[Any, ...]) -> str:
    if len(sample) == 3 and len(wanted) == 3:
        if wanted in {(sample[2], sample[0], sample[1]), (sample[1], sample[2], sample[0])}:
            layout = "NCHW" if wanted[0] == sample[2] else "NHWC"
            return f"add layout={layout} to the data"
        return "resize the data (images: resize=HxW), or choose the layout (layout=NHWC)"
    return "shape the data like the input; the first axis counts samples"
