"""What this machine's processor can do with small integers."""

from __future__ import annotations

import platform
import re
from functools import cache
from pathlib import Path

_X86 = ("x86_64", "amd64", "i386", "i686", "x86")
_VNNI = re.compile(r"\bavx(?:512)?_vnni\b")


@cache
def products_saturate() -> bool:
    """Tell whether sums of products of uint8 and int8 overflow on this processor.

    x86 without VNNI adds pairs of products up in 16 bits, which hold 255 * 127 once but not twice.
    An x86 processor of which nothing can be read is taken for one of these.
    """
    return saturates(platform.machine(), _flags())


def saturates(machine: str, flags: str) -> bool:
    """Tell the same of a kind of machine and the flags of its processor."""
    return machine.lower() in _X86 and _VNNI.search(flags) is None


def _flags() -> str:
    """Return the processor's features as Linux lists them; empty on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith("flags")), "")
