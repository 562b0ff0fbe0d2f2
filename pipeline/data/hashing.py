"""Hashes of samples by what they contain."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

from onnxsmith.numerics import is_floating
from onnxsmith.pipeline.data.base import Array, Batch

_HASH_BYTES = 16
_EXACT_IN_FLOAT32 = 1 << 24


def sample_hashes(batch: Batch) -> Iterator[bytes]:
    """Yield 16 bytes for each sample: a hash of its inputs, not of names, shapes or labels.

    Numbers are compared as float32 where that is exact for integers, so the same samples stored
    as uint8 and as float64 are the same.
    """
    columns = [_canonical(array) for _, array in sorted(batch.inputs.items())]
    for row in range(len(batch)):
        digest = hashlib.sha256()
        for column in columns:
            digest.update(column[row].tobytes() if isinstance(column, np.ndarray) else column[row])
        yield digest.digest()[:_HASH_BYTES]


def _canonical(array: Array) -> Array | list[bytes]:
    """Return rows in a form that does not depend on how the numbers are stored."""
    if array.dtype.kind in "USO":
        rows = array.reshape(len(array), -1)
        return ["\0".join(map(str, row)).encode("utf-8", "surrogatepass") for row in rows]
    if is_floating(array):
        # Adding zero makes the two zeros one.
        return np.ascontiguousarray(array, np.float32) + np.float32(0)
    wide = array.astype(np.int64)
    if wide.size and max(int(wide.max()), -int(wide.min())) > _EXACT_IN_FLOAT32:
        return wide
    return wide.astype(np.float32)
