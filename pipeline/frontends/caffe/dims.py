"""Sizes while a network is read: numbers, or products of named sizes such as ``320*batch``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# No blob of a real network has more values; sizes that multiply beyond it are lies.
MAX_ELEMENTS = 2**40


@dataclass(frozen=True)
class Product:
    """A size that is not known: ``times`` times the named sizes.

    Attributes:
        times: A factor of at least 1.
        names: The sizes' names, sorted; at least one.
    """

    times: int
    names: tuple[str, ...]

    def __str__(self) -> str:
        factors = [] if self.times == 1 else [str(self.times)]
        return "*".join([*factors, *self.names])


Dim = int | Product
Dims = tuple[Dim, ...]


class UnknownSizeError(Exception):
    """A size has to be known, and is a name.

    Args:
        reason: Why, as a clause about a layer.
    """


def symbol(name: str) -> Product:
    """Return the size called ``name``."""
    return Product(1, (name,))


def count(dims: Iterable[Dim]) -> Dim:
    """Return the product of sizes."""
    times = 1
    names: list[str] = []
    for dim in dims:
        if isinstance(dim, int):
            times *= dim
        else:
            times *= dim.times
            names += dim.names
    return Product(times, tuple(sorted(names))) if names else times


def divide(dim: Dim, by: Dim) -> Dim | None:
    """Return ``dim / by`` where that is a size, else None."""
    times, names = _parts(dim)
    by_times, by_names = _parts(by)
    if by_times == 0 or times % by_times:
        return None
    for name in by_names:
        if name not in names:
            return None
        names.remove(name)
    return Product(times // by_times, tuple(names)) if names else times // by_times


def add(dims: Iterable[Dim]) -> Dim | None:
    """Return the sum of sizes where it is a size, else None."""
    total = 0
    names: set[tuple[str, ...]] = set()
    for dim in dims:
        times, own = _parts(dim)
        total += times
        names.add(tuple(own))
    if len(names) != 1:
        return None
    (only,) = names
    return Product(total, only) if only else total


def _parts(dim: Dim) -> tuple[int, list[str]]:
    return (dim, []) if isinstance(dim, int) else (dim.times, list(dim.names))
