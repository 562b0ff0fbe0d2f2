"""Split data that has no split of its own into train and test, by what each sample contains.

A sample belongs to ``test`` when a hash of its values says so (one in five). So the split needs
one pass and no index, does not depend on the order, and equal samples never lie in both parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from onnxsmith.errors import UsageError
from onnxsmith.pipeline.data.base import Batch
from onnxsmith.pipeline.data.hashing import sample_hashes

PARTS = ("train", "test")
_EVERY = 5


def split_by_content(batches: Iterable[Batch], part: str) -> Iterator[Batch]:
    """Yield the samples that belong to ``train`` or ``test``.

    Raises:
        UsageError: There is no such part.
    """
    if part not in PARTS:
        raise UsageError(f"the data has no split {part!r}", f"known: {', '.join(PARTS)}")
    for batch in batches:
        tested = [int.from_bytes(digest[:8]) % _EVERY == 0 for digest in sample_hashes(batch)]
        kept = batch.take(np.asarray(tested, bool) == (part == "test"))
        if len(kept):
            yield kept
