"""Look for garbage less often while a graph is built or rewritten."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

# A graph is many small objects that live long, refer to each other, and are looked through each
# time so many new ones were made: by default 700, which takes a third of the time of a rewrite.
_NEW_OBJECTS = 100_000
_GENERATIONS = (20, 50)


@contextlib.contextmanager
def collected_rarely() -> Iterator[None]:
    """Raise the thresholds of Python's garbage collector within the block.

    A collector that was switched off, or works less often already, is left as it is.
    """
    before = gc.get_threshold()
    if 0 < before[0] < _NEW_OBJECTS:
        gc.set_threshold(_NEW_OBJECTS, *_GENERATIONS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
