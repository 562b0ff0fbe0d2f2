"""Sizes for symbolic dimensions: of the example that is exported, and of the probes after it."""

from __future__ import annotations

from collections.abc import Mapping

from onnxsmith.errors import UsageError
from onnxsmith.spec import ValueSpec

# Exporters treat sizes 0 and 1 as constants, so an example's batch has at least 2 samples. A
# space of 64 survives the five halvings of common image networks; 8 is short for a sequence.
_BATCH, _SPACE, _LENGTH = 2, 64, 8


def example_shape(
    spec: ValueSpec, dims: Mapping[str, int], specs: tuple[ValueSpec, ...]
) -> tuple[int, ...]:
    """Return the shape of an example of ``spec``.

    Args:
        spec: One input.
        dims: Sizes asked for, by the dimension's name.
        specs: All inputs: a dimension has one size, decided by the first place it stands in.

    Raises:
        UsageError: A size is unknown, or 0 or 1 for a symbolic dimension.
    """
    if spec.shape is None or None in spec.shape:
        raise UsageError(
            f"the shape of the input {spec.name!r} is not complete",
            f"name the unknown dimensions, e.g. {spec.name}:{spec.dtype}[batch,3]",
        )
    sizes = _sizes(specs, dims)
    return tuple(sizes[dim] if isinstance(dim, str) else int(dim or 0) for dim in spec.shape)


def _sizes(specs: tuple[ValueSpec, ...], dims: Mapping[str, int]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    lengths = 0
    for spec in specs:
        shape = spec.shape or ()
        for axis, dim in enumerate(shape):
            if not isinstance(dim, str) or dim in sizes:
                continue
            if axis == 0:
                sizes[dim] = dims.get(dim, _BATCH)
            elif len(shape) >= 4:
                sizes[dim] = dims.get(dim, _SPACE)
            else:
                # Distinct sizes, so that two dimensions are not taken for one.
                sizes[dim] = dims.get(dim, _LENGTH + lengths)
                lengths += 1
            if sizes[dim] < 2:
                raise UsageError(
                    f"the example size {sizes[dim]} of the dimension {dim!r} is too small",
                    f"give --dim {dim}=2 or more: exporters treat 0 and 1 as constants",
                )
    unknown = [name for name in dims if name not in sizes]
    if unknown:
        known = ", ".join(sizes) or "none"
        raise UsageError(
            f"no input has a dimension {unknown[0]!r}", f"dimensions of --input: {known}"
        )
    return sizes


def probe_sizes(sizes: Mapping[str, int]) -> tuple[dict[str, int], ...]:
    """Return sizes of dimensions to probe a model at, none of them those of its export.

    Each later one serves where the source itself refuses an earlier one (sizes that must be even
    or multiples). Dimensions grow by different amounts, so that mixed-up ones show.

    Args:
        sizes: The sizes of the export.
    """
    names = list(sizes)
    grown = [{n: sizes[n] + step + i for i, n in enumerate(names)} for step in (1, 3)]
    scaled = [{n: sizes[n] * factor for n in names} for factor in (2, 3)]
    single = [{**{n: sizes[n] + 2 for n in names}, names[0]: 1}] if names else []
    return tuple([*grown, *single, *scaled]) if names else ()
