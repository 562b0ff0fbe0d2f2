"""How much memory there is, and how much a process and its children hold (Linux)."""

from __future__ import annotations

import sys
from pathlib import Path

_PROC = Path("/proc")
_KIB = 1024


def available_memory() -> int:
    """Return the bytes that can still be taken: the system's, or the control group's if less.

    On systems without ``/proc`` there is no figure, and the largest integer is returned.
    """
    try:
        available = _fields(_PROC / "meminfo")["MemAvailable"]
    except (OSError, KeyError):
        return sys.maxsize
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text("ascii").strip()
        used = int((group / "memory.current").read_text("ascii"))
    except (OSError, ValueError):
        return available
    return available if limit == "max" else min(available, max(0, int(limit) - used))


def session_memory(leader: int) -> int:
    """Return the bytes held by the processes of the session that ``leader`` leads.

    Anonymous and shared memory count; mapped files (libraries, weights) do not, as the system
    can drop them. 0 where there is no ``/proc``.
    """
    if not _PROC.is_dir():
        return 0
    total = 0
    for folder in _PROC.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            # Fields after the command, which may itself hold spaces and parentheses.
            stat = (folder / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
            if int(stat[3]) != leader:
                continue
            status = _fields(folder / "status")
        except (OSError, IndexError, ValueError):
            continue  # the process ended while we looked
        total += status.get("RssAnon", 0) + status.get("RssShmem", 0)
    return total


def _fields(path: Path) -> dict[str, int]:
    """Return the ``Name: N kB`` lines of a file in bytes."""
    fields: dict[str, int] = {}
    for line in path.read_text("utf-8", "replace").splitlines():
        name, _, value = line.partition(":")
        if value.endswith(" kB"):
            fields[name] = int(value.split()[0]) * _KIB
    return fields
