"""Arrays between two processes, as files: any dtype and any name, no pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np

from onnxsmith.errors import SmithError


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write the arrays to ``path``.

    Names come from models and never become file or member names. numpy's format has no
    bfloat16 or float8: those are stored as bytes beside their dtype's name.

    Raises:
        SmithError: An array holds objects other than strings.
    """
    header: list[list[str]] = []
    members: dict[str, np.ndarray] = {}
    for index, (name, array) in enumerate(arrays.items()):
        plain = _plain(name, np.asarray(array))
        header.append([name, plain.dtype.name])
        is_extension = plain.dtype.kind == "V" or plain.dtype.isbuiltin == 2
        members[f"a{index}"] = plain.view(f"u{plain.dtype.itemsize}") if is_extension else plain
    members["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    with path.open("wb") as file:
        np.savez(file, **members)  # type: ignore[arg-type]  # the stub takes a member for an option


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays that :func:`save_arrays` wrote."""
    with np.load(path, allow_pickle=False) as members:
        header = json.loads(members["header"].tobytes())
        arrays = {}
        for index, (name, dtype) in enumerate(header):
            array = members[f"a{index}"]
            extension = getattr(ml_dtypes, dtype, None)
            arrays[name] = array if extension is None else array.view(extension)
    return arrays


def _plain(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype != object:
        return np.ascontiguousarray(array).reshape(array.shape)
    if not all(isinstance(item, str) for item in array.flat):
        raise SmithError(
            f"{name!r} is not a tensor: it holds Python objects", "return arrays of one dtype"
        )
    return array.astype(np.str_)
