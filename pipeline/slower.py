"""Which fusions make a model slower? A search by halves, with a bounded number of measurements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from onnxsmith.pipeline.gate import Change

MAX_MEASUREMENTS = 12

Compare = Callable[[frozenset[str], frozenset[str]], Change]
"""Measures what the second set of fusions makes against what the first makes."""


@dataclass
class SlowFusions:
    """The search for what is slow; the rest is kept.

    Starts from the cleanup, which is known not to be slow. A group of fusions is added to what is
    kept and measured against it: a group that is not slower stays, a slower one is halved, and a
    slower single fusion is left out. Groups are taken in the pipeline's order, so that the same
    measurements lead to the same result.

    Attributes:
        compare: Measures.
        limit: Measurements at most; what is still unknown then is left out.
        kept: Fusions that are not slower.
        dropped: Fusion to why it was left out.
        measured: Measurements made.
    """

    compare: Compare
    limit: int = MAX_MEASUREMENTS
    kept: frozenset[str] = frozenset()
    dropped: dict[str, str] = field(default_factory=dict)
    measured: int = 0

    def search(self, names: Sequence[str], words: str) -> None:
        """Sort ``names``, which together are slower as ``words`` say."""
        if len(names) == 1:
            self.dropped[names[0]] = words
            return
        half = (len(names) + 1) // 2
        for group in (names[:half], names[half:]):
            self._add(group)

    def _add(self, group: Sequence[str]) -> None:
        if self.measured >= self.limit:
            self.dropped |= dict.fromkeys(group, "not measured: too many measurements before it")
            return
        self.measured += 1
        change = self.compare(self.kept, self.kept | frozenset(group))
        if change.slower:
            self.search(group, change.words)
        else:
            self.kept |= frozenset(group)
