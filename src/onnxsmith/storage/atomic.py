"""Files that appear complete or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from onnxsmith.errors import SmithError

_STALE = re.compile(r"^\.(?P<name>.+)\.(?P<pid>\d+)\.tmp$")


@contextlib.contextmanager
def replacing(path: Path, name: Callable[[], Path] | None = None) -> Iterator[BinaryIO]:
    """Write beside ``path`` and rename over it when the block ends without an error.

    A killed process leaves the old file, and at most a hidden ``.NAME.PID.tmp`` that the next
    write beside it removes.

    Args:
        path: The file to replace.
        name: Asked after the block for the file to replace instead, one beside ``path``: for
            names that depend on what was written.

    Raises:
        SmithError: The folder is missing or read-only, the disk is full, or ``path`` is a device
            or a folder.
    """
    temporary = path.parent / f".{path.name}.{os.getpid()}.tmp"
    try:
        if path.exists() and not path.is_file():
            # Renaming over a device such as /dev/null would replace it for the whole machine.
            raise SmithError(f"cannot write {path}: it is not a regular file", "give a file name")
        _remove_stale(path)
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, name() if name else path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise write_error(path, error) from error


def write_text(path: Path, text: str) -> None:
    """Replace ``path`` by ``text`` in UTF-8.

    Raises:
        SmithError: As :func:`replacing`.
    """
    with replacing(path) as file:
        file.write(text.encode())


def check_writable(path: Path) -> None:
    """Find out before minutes of work whether ``path`` could be written at all.

    Raises:
        SmithError: Its folder is missing or read-only, or it is a folder itself.
    """
    folder = path.parent
    for code, wrong in (
        (errno.ENOENT, not folder.is_dir()),
        (errno.EISDIR, path.is_dir()),
        (errno.EACCES, not os.access(folder, os.W_OK)),
    ):
        if wrong:
            raise write_error(path, OSError(code, os.strerror(code)))


def write_error(path: Path, error: OSError) -> SmithError:
    """Say why ``path`` could not be written."""
    hints = {
        errno.ENOSPC: "free some space, or write to another disk",
        errno.EDQUOT: "free some space, or write to another disk",
        errno.ENOENT: f"create the folder {path.parent} first",
        errno.EACCES: "choose a folder that you may write to",
        errno.EPERM: "choose a folder that you may write to",
        errno.EROFS: "choose a folder that you may write to",
        errno.EISDIR: "give a file name, not a folder",
    }
    hint = hints.get(error.errno or 0, "check the path")
    return SmithError(f"cannot write {path}: {error.strerror or error}", hint)


def _remove_stale(path: Path) -> None:
    """Remove what a killed process left of an earlier write to the same name."""
    for entry in os.scandir(path.parent):
        match = _STALE.match(entry.name)
        if match and match["name"] == path.name and not _alive(int(match["pid"])):
            Path(entry.path).unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
