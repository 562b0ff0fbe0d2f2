"""Choose where the forward half is cut: what crosses a cut is kept, the rest computed again."""

from __future__ import annotations

import bisect
import fnmatch
import itertools
import math
from collections.abc import Sequence

import onnx_ir as ir

from onnxsmith.errors import SmithError
from onnxsmith.passes.autodiff.recomputation.halves import Halves

AUTO = "auto"
_UNKNOWN = 64
"""Stands for a size that is not known: nearly always the batch's, which all activations share."""
_PLACES = 160
"""Among how many places cuts are chosen."""
_MOST = 64
"""How many stretches there are at most."""


def choose_cuts(halves: Halves, patterns: Sequence[str]) -> list[int]:
    """Return the places in the forward half behind which it is cut, in order.

    Args:
        halves: What is cut.
        patterns: Names of values behind which to cut, or ``auto``.

    Raises:
        SmithError: A pattern matches no value.
    """
    if list(patterns) == [AUTO]:
        return narrowest(crossing(halves), saved_before(halves))
    found: set[int] = set()
    for pattern in patterns:
        matched = {
            index
            for value, index in halves.index.items()
            if fnmatch.fnmatchcase(value.name or "", pattern)
        }
        if not matched:
            raise SmithError(
                f"no value that depends on the data is called {pattern!r}",
                "see 'onnxsmith inspect' for the values' names, or write --recompute auto",
            )
        found |= matched
    return sorted(found - {len(halves.forward) - 1})


def crossing(halves: Halves) -> list[int]:
    """Return for each place how many bytes are read again behind it."""
    change = [0] * (len(halves.forward) + 1)
    for value, made in halves.index.items():
        size, read = bytes_of(value), halves.last_read.get(value, made)
        change[made] += size
        change[read] -= size
    return list(itertools.accumulate(change))[:-1]


def saved_before(halves: Halves) -> list[int]:
    """Return for each place how many bytes up to it the backward half reads."""
    found = [0] * len(halves.forward)
    for value in halves.saved:
        found[halves.index[value]] += bytes_of(value)
    return list(itertools.accumulate(found))


def narrowest(crossed: Sequence[int], saved: Sequence[int]) -> list[int]:
    """Return the cuts with the least of what is kept and the largest stretch together.

    For each bound on a stretch, the cuts that keep least are found by dynamic programming.

    Args:
        crossed: What a cut behind each place keeps.
        saved: What is saved up to each place.

    Source: Chen et al., "Training Deep Nets with Sublinear Memory Cost" (2016), with cuts where
    they are narrow instead of the square root of ``n`` even ones.
    """
    if not saved or not saved[-1]:
        return []
    places = _candidates(crossed, saved)
    best: tuple[int, list[int]] = (saved[-1], [])
    for count in range(2, _MOST + 1):
        found = _with_bound(places, crossed, saved, math.ceil(saved[-1] / count))
        if found is not None and found[0] < best[0]:
            best = found
    return best[1]


def _candidates(crossed: Sequence[int], saved: Sequence[int]) -> list[int]:
    """Return the narrowest place of each stretch of about the same size."""
    found: dict[int, int] = {}
    for place in range(len(crossed) - 1):
        part = saved[place] * _PLACES // saved[-1]
        if part not in found or crossed[place] < crossed[found[part]]:
            found[part] = place
    return sorted(found.values())


def _with_bound(
    places: Sequence[int], crossed: Sequence[int], saved: Sequence[int], bound: int
) -> tuple[int, list[int]] | None:
    """Return what is held at most, and the cuts, of stretches that save up to a bound."""
    ends = [0, *(saved[place] for place in places), saved[-1]]
    costs = [0, *(crossed[place] for place in places), 0]
    least: list[float] = [0.0]
    before: list[int] = [0]
    for end in range(1, len(ends)):
        first = bisect.bisect_left(ends, ends[end] - bound, 0, end)
        start = min(range(first, end), key=lambda i: least[i], default=None)
        before.append(first if start is None else start)
        least.append(math.inf if start is None else least[start] + costs[end])
    if math.isinf(least[-1]):
        return None
    cuts, end = [], len(ends) - 1
    while before[end]:
        end = before[end]
        cuts.append(end)
    bounds = [0, *cuts[::-1], len(ends) - 1]
    largest = max(ends[b] - ends[a] for a, b in itertools.pairwise(bounds))
    return int(least[-1]) + largest, [places[cut - 1] for cut in cuts[::-1]]


def bytes_of(value: ir.Value) -> int:
    """Return how many bytes a value takes, sizes that are not known taken for 64."""
    if value.shape is None or value.dtype is None:
        return 0
    sizes = [size if isinstance(size, int) else _UNKNOWN for size in value.shape]
    return math.ceil(math.prod(sizes) * value.dtype.itemsize)
