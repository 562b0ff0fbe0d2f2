"""Reading files of unknown origin: bounded memory, and errors that name the file."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.loading import describe

_CHUNK = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"


def find_file(location: str, kind: str) -> Path:
    """Return the path of an existing file.

    Raises:
        UsageError: No location is given.
        SmithError: There is no such file.
    """
    path = _given(location, kind, "FILE")
    if path.is_dir():
        raise SmithError(f"{location!r} is a folder", f"{kind} data is one file: {kind}:FILE")
    if not path.is_file():
        raise SmithError(f"there is no file {location!r}", "check the path of the data")
    return path


def find_folder(location: str, kind: str) -> Path:
    """Return the path of an existing folder.

    Raises:
        UsageError: No location is given.
        SmithError: There is no such folder.
    """
    path = _given(location, kind, "DIR")
    if not path.is_dir():
        what = "is not a folder" if path.exists() else "does not exist"
        raise SmithError(f"{location!r} {what}", f"{kind} data is a folder: {kind}:DIR")
    return path


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Report what can go wrong while the file ``name`` is read as a SmithError.

    A broken compressed stream raises EOFError, OSError or zlib.error, depending on where it broke.
    """
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise SmithError(
            f"{name!r} is truncated or damaged: {describe(error)}", "get the file again"
        ) from error
    except OSError as error:
        reason = error.strerror or describe(error)
        raise SmithError(
            f"cannot read {name!r}: {reason}", "check the file and its permissions"
        ) from error


@contextmanager
def open_stream(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading, unpacking gzip (told by its first bytes) while it is read."""
    with path.open("rb") as raw:
        packed = raw.read(2) == _GZIP_MAGIC
        raw.seek(0)
        if not packed:
            yield raw
            return
        with gzip.GzipFile(fileobj=raw) as stream:
            yield cast("IO[bytes]", stream)


def read_exactly(stream: IO[bytes], count: int, name: str) -> bytearray:
    """Read ``count`` bytes; memory grows with what is there, not with what was promised.

    Raises:
        SmithError: The file ends before.
    """
    data = bytearray()
    while len(data) < count:
        chunk = stream.read(min(_CHUNK, count - len(data)))
        if not chunk:
            raise SmithError(
                f"{name!r} is truncated: it ends {count - len(data)} bytes early",
                "get the file again",
            )
        data += chunk
    return data


def _given(location: str, kind: str, what: str) -> Path:
    if not location:
        raise UsageError(f"{kind} data needs a location", f"write {kind}:{what}")
    if "\0" in location:
        raise UsageError("the location of the data holds a null character", "check the path")
    return Path(location).expanduser()
