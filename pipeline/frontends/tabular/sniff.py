"""Tell model files apart by their first bytes: ``.json``, ``.txt`` and ``.bin`` say little."""

from __future__ import annotations

from pathlib import Path

_BYTES = 64 * 1024


def head(source: str) -> bytes:
    """Return the first bytes of a file; nothing where there is none or it cannot be read."""
    try:
        path = Path(source)
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(_BYTES)
    except (OSError, ValueError):  # ValueError: a null character in the name
        return b""
