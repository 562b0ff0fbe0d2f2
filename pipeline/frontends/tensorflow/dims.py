"""See from runs of the source which dimensions are the same, and where outputs take theirs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from onnxsmith.pipeline.frontends.sizes import example_shape
from onnxsmith.spec import Dim, ValueSpec

Array = np.ndarray[Any, Any]
Run = Callable[[list[Array]], list[Array]]
Make = Callable[[Sequence[ValueSpec], Mapping[str, int]], list[Array]]


def open_dims(
    run: Run,
    make: Make,
    specs: Sequence[ValueSpec],
    sizes: Mapping[str, int],
    fixed: set[str],
) -> tuple[tuple[ValueSpec, ...], tuple[tuple[Dim, ...], ...] | None]:
    """Return the inputs' signature and the outputs' shapes, in names.

    A dimension other than the batch that two inputs seem to share (``time``) is kept apart where
    the source runs with different sizes of it.

    Args:
        run: Runs the source.
        make: Makes inputs of a signature at given sizes.
        specs: The inputs.
        sizes: Sizes asked for.
        fixed: Inputs whose dimensions the user has named: they stay.

    Returns:
        The inputs, and the outputs' shapes; None for these where the source does not run.
    """
    shared = tuple(specs)
    apart = _apart(shared, fixed)
    known = {n: s for n, s in sizes.items() if n in _names(apart)}
    if apart != shared and known.keys() == sizes.keys():
        observed = _observe(run, make, apart, known)
        if observed is not None:
            return apart, observed
    return shared, _observe(run, make, shared, sizes)


def _apart(specs: tuple[ValueSpec, ...], fixed: set[str]) -> tuple[ValueSpec, ...]:
    """Give each input's dimensions but the batch names of their own, where two share one."""
    users: dict[str, int] = {}
    for spec in specs:
        for dim in {d for d in spec.shape or () if isinstance(d, str)}:
            users[dim] = users.get(dim, 0) + 1
    found = []
    for spec in specs:
        shape = tuple(
            f"{spec.name}_{dim}"
            if isinstance(dim, str) and users[dim] > 1 and dim != "batch" and spec.name not in fixed
            else dim
            for dim in spec.shape or ()
        )
        found.append(replace(spec, shape=shape))
    return tuple(found)


def _names(specs: Sequence[ValueSpec]) -> dict[str, None]:
    return {dim: None for spec in specs for dim in spec.shape or () if isinstance(dim, str)}


def _observe(
    run: Run, make: Make, specs: tuple[ValueSpec, ...], sizes: Mapping[str, int]
) -> tuple[tuple[Dim, ...], ...] | None:
    """Return the outputs' shapes from runs at two sets of sizes; None where one of them fails."""
    names = list(_names(specs))
    shapes = [example_shape(spec, sizes, specs) for spec in specs]
    first = {
        dim: size
        for spec, shape in zip(specs, shapes, strict=True)
        for dim, size in zip(spec.shape or (), shape, strict=True)
        if isinstance(dim, str)
    }
    for step in (1, None):
        grown = {n: s + step + i if step else s * 2 for i, (n, s) in enumerate(first.items())}
        try:
            one, two = (run(make(specs, at)) for at in (first, grown))
        except Exception:  # noqa: BLE001 - the source refuses a size in any way it likes
            continue
        return tuple(
            _named(a.shape, b.shape, names, first, grown) for a, b in zip(one, two, strict=True)
        )
    return None


def _named(
    one: tuple[int, ...],
    two: tuple[int, ...],
    names: Sequence[str],
    first: Mapping[str, int],
    second: Mapping[str, int],
) -> tuple[Dim, ...]:
    if len(one) != len(two):
        return tuple(None for _ in one)
    return tuple(
        a
        if a == b
        else next((name for name in names if (first[name], second[name]) == (a, b)), None)
        for a, b in zip(one, two, strict=True)
    )
