"""Tell TensorFlow's files apart by their first bytes; TensorFlow is not needed for it."""

from __future__ import annotations

import os
from pathlib import Path

# Field numbers of GraphDef: node, library, version, versions.
_GRAPH_FIELDS = {1, 2, 3, 4}
_NAME, _OP = 1, 2
_LENGTH_DELIMITED = 2
_MAX_BYTES = 2**31 - 1
_MAX_NAME = 4096


def is_graph_file(path: Path) -> bool:
    """Return whether a file begins as a ``GraphDef`` does: with a node that has a name.

    Only the first few bytes are read; lengths that lie are found when the file is parsed.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(2 * _MAX_NAME)
    except OSError:
        return False
    if not 4 <= size <= _MAX_BYTES:
        return False
    number, kind, at = _tag(head, 0)
    if number not in _GRAPH_FIELDS or kind != _LENGTH_DELIMITED:
        return False
    length, at = _varint(head, at)
    if number != 1:  # a graph may begin with its library: its length is all there is to check
        return 0 <= length <= size - at
    end = at + length
    if not at < end <= size:
        return False
    number, kind, at = _tag(head, at)
    if number != _NAME or kind != _LENGTH_DELIMITED:
        return False
    length, at = _varint(head, at)
    name = head[at : at + length] if 0 < length <= min(_MAX_NAME, end - at) else b""
    return bool(name) and name.isascii() and name.decode().isprintable()


def saved_model_folder(source: str) -> Path | None:
    """Return the folder of a SavedModel that ``source`` names, or the file in it; else None."""
    path = Path(source)
    if path.name in ("saved_model.pb", "saved_model.pbtxt"):
        path = path.parent
    for name in ("saved_model.pb", "saved_model.pbtxt"):
        if os.path.isfile(path / name):
            return path
    return None


def _tag(data: bytes, at: int) -> tuple[int, int, int]:
    value, at = _varint(data, at)
    return (-1, -1, at) if value < 0 else (value >> 3, value & 7, at)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number at a place and the place behind it; -1 where there is none."""
    value = shift = 0
    for index in range(at, min(at + 5, len(data))):
        value |= (data[index] & 127) << shift
        if data[index] < 128:
            return value, index + 1
        shift += 7
    return -1, at
