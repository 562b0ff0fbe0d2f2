"""Memory that several sessions read and write in place."""

from __future__ import annotations

import contextlib
import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort

from onnxsmith.errors import SmithError

Array = np.ndarray[Any, Any]

ALIGNMENT = 64
"""Bytes between which the runtime's kernels want values to begin."""


@dataclass(frozen=True)
class View:
    """A stretch of memory as a tensor.

    Attributes:
        memory: Where it lies.
        start: Its first element.
        shape: Its sizes.
    """

    memory: Memory
    start: int
    shape: tuple[int, ...]

    @property
    def pointer(self) -> int:
        """The address of its first element, on the memory's device."""
        return self.memory.pointer + self.start * self.memory.dtype.itemsize

    @property
    def size(self) -> int:
        """How many elements it has."""
        return int(np.prod(self.shape, dtype=np.int64))


class Memory:
    """A vector that stays where it is, on the device of a provider.

    Args:
        size: How many elements, zero at first.
        dtype: Their type.
        device: ``cpu`` or ``cuda``.

    Raises:
        SmithError: The device has too little memory.
    """

    def __init__(self, size: int, dtype: np.dtype[Any], device: str = "cpu") -> None:
        self.size, self.dtype, self.device = size, np.dtype(dtype), device
        try:
            if device == "cpu":
                self._array = _aligned(max(size, 1), self.dtype)
                self.pointer = int(self._array.ctypes.data)
            else:
                zeros = np.zeros(max(size, 1), self.dtype)
                self._value = ort.OrtValue.ortvalue_from_numpy(zeros, device, 0)
                self.pointer = int(self._value.data_ptr())
        except (MemoryError, RuntimeError) as error:
            raise SmithError(
                f"there is no room for {size * self.dtype.itemsize / 1e6:.0f} MB on {device}",
                "train a smaller model, or freeze a part of it",
            ) from error

    def view(self, start: int, shape: tuple[int, ...]) -> View:
        """Return a stretch of it as a tensor."""
        return View(self, start, shape)

    def whole(self) -> View:
        """Return all of it as a vector."""
        return View(self, 0, (self.size,))

    def read(self) -> Array:
        """Return a copy of the content."""
        if self.device == "cpu":
            return self._array[: self.size].copy()
        copied: Array = self._value.numpy()
        return copied[: self.size]

    def write(self, content: Array) -> None:
        """Replace the content."""
        if self.device == "cpu":
            self._array[: self.size] = content
        else:
            self._value.update_inplace(np.ascontiguousarray(content, self.dtype))


def release_free_memory() -> None:
    """Give what was freed back to the system: the C library keeps much of it for later.

    Does nothing where the C library has no such function.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _aligned(size: int, dtype: np.dtype[Any]) -> Array:
    """Return zeros that begin where vector instructions want them to."""
    raw = np.zeros(size * dtype.itemsize + ALIGNMENT, np.uint8)
    skip = -raw.ctypes.data % ALIGNMENT
    return raw[skip : skip + size * dtype.itemsize].view(dtype)
