"""Give back the memory that an export leaves behind."""

from __future__ import annotations

import ctypes
import gc
import sys


def trim_memory() -> None:
    """Collect torch's graphs, which refer to themselves, and hand free pages to the system.

    glibc keeps what was freed for the process: after an export that is a hundred megabytes which
    nobody uses while the model is checked.
    """
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries lack it
        if trim is not None:
            trim(0)
