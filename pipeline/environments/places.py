"""Where environments and their lock files lie. Imports nothing but the standard library."""

from __future__ import annotations

import os
import re
import sys
from functools import cache
from pathlib import Path

LOCKS = Path(__file__).parent / "locks"

_NAME = re.compile(r"[a-z][a-z0-9_-]*")


def default_folder() -> Path:
    """Return the folder that holds this user's environments, a folder each; it need not exist.

    ``$XDG_DATA_HOME/onnxsmith/environments`` on Linux, where the variable's own default is
    ``~/.local/share`` (XDG Base Directory Specification); the usual places elsewhere.
    """
    home = Path.home()
    if sys.platform == "darwin":
        base = home / "Library" / "Application Support"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    else:
        given = Path(os.environ.get("XDG_DATA_HOME", ""))
        # The specification has relative paths ignored.
        base = given if given.is_absolute() else home / ".local" / "share"
    return base / "onnxsmith" / "environments"


def is_name(text: str) -> bool:
    """Return whether a text can name an environment, and so a folder: it is never a path."""
    return _NAME.fullmatch(text) is not None


@cache
def lock_names() -> tuple[str, ...]:
    """Return the names of all environments that can be made."""
    return tuple(sorted(path.stem for path in LOCKS.glob("*.txt")))


def interpreter(folder: Path) -> Path:
    """Return the Python of the environment in ``folder``; it need not exist."""
    return folder / "Scripts" / "python.exe" if os.name == "nt" else folder / "bin" / "python"
