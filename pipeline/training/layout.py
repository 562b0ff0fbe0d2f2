"""Where each parameter lies in one long vector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from onnxsmith.runtime.memory import ALIGNMENT, Array, Memory, View


@dataclass(frozen=True)
class Layout:
    """Parameters one behind the other, each where the runtime's kernels want it to begin.

    All of them can be updated as one vector, by a handful of operators, and gradients and
    optimizer states lie in vectors of the same layout.

    Attributes:
        shapes: The shape of each parameter, in order.
        starts: The first element of each.
        size: How long the vector is; the gaps stay zero.
        dtype: The element type.
    """

    shapes: dict[str, tuple[int, ...]]
    starts: dict[str, int]
    size: int
    dtype: np.dtype[np.generic]

    @classmethod
    def of(cls, arrays: Mapping[str, Array]) -> Layout:
        """Return the layout for these parameters, all of one element type."""
        dtype = next(iter(arrays.values())).dtype
        step = max(ALIGNMENT // dtype.itemsize, 1)
        starts, place = {}, 0
        for name, array in arrays.items():
            starts[name] = place
            place += -(-array.size // step) * step
        return cls({name: array.shape for name, array in arrays.items()}, starts, place, dtype)

    def view(self, memory: Memory, name: str) -> View:
        """Return the place of one parameter in a vector."""
        return memory.view(self.starts[name], self.shapes[name])

    def pack(self, arrays: Mapping[str, Array]) -> Array:
        """Return the vector of these parameters."""
        vector = np.zeros(self.size, self.dtype)
        for name, array in arrays.items():
            start = self.starts[name]
            vector[start : start + array.size] = array.ravel()
        return vector

    def unpack(self, vector: Array) -> dict[str, Array]:
        """Return the parameters of a vector, copied."""
        return {
            name: vector[start : start + int(np.prod(self.shapes[name], dtype=np.int64))]
            .reshape(self.shapes[name])
            .copy()
            for name, start in self.starts.items()
        }
