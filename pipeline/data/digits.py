"""``digits``: the 1797 handwritten digits that come with scikit-learn, 8 x 8 pixels of 0 to 16.

Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from sklearn.datasets import load_digits

from onnxsmith.errors import UsageError
from onnxsmith.pipeline.data.base import Array, Batch
from onnxsmith.pipeline.data.query import COMMON, Options
from onnxsmith.spec import ModelSpec

_SPLITS = ("train", "test", "all")
_EVERY = 4
_SHAPES = {None: (64,), "NCHW": (1, 8, 8), "NHWC": (8, 8, 1)}


@dataclass(frozen=True)
class DigitsReader:
    """Inputs float32 ``[N, 64]``, or ``[N, 1, 8, 8]`` with a layout; labels int64 ``[N]``.

    Of each class every fourth sample is ``test`` (445 in all), the others are ``train``.

    Attributes:
        pixels: Float32 ``[N, ...]``, 0 to 16.
        labels: Int64 ``[N]``.
        split: ``train`` (the default), ``test`` or ``all``.
        channel_axis: The axis of the only channel, where a layout was asked for.
    """

    keys: ClassVar[frozenset[str]] = COMMON - {"label"}

    pixels: Array
    labels: Array
    split: str
    channel_axis: int | None

    @classmethod
    def open(cls, location: str, options: Options, spec: ModelSpec | None) -> DigitsReader:
        """Load the digits.

        Raises:
            UsageError: There is a location, or no such split.
        """
        if location:
            raise UsageError(f"digits takes no location, but {location!r} is given", "write digits")
        split = options.split or "train"
        if split not in _SPLITS:
            raise UsageError(f"digits has no split {split!r}", f"known: {', '.join(_SPLITS)}")
        pixels, labels = load_digits(return_X_y=True)
        kept = _members(labels, split)
        shape = _SHAPES[options.layout]
        return cls(
            pixels[kept].astype(np.float32).reshape(-1, *shape),
            labels[kept].astype(np.int64),
            split,
            None if options.layout is None else 1 + shape.index(1),
        )

    @property
    def size(self) -> int:
        """The number of samples."""
        return len(self.labels)

    @property
    def classes(self) -> tuple[str, ...]:
        """The ten digits."""
        return tuple(map(str, range(10)))

    def read(self, batch_size: int) -> Iterator[Batch]:
        """Yield the samples in the order of the data set."""
        for start in range(0, self.size, batch_size):
            stop = start + batch_size
            yield Batch({"x": self.pixels[start:stop]}, self.labels[start:stop])


def _members(labels: Array, split: str) -> Array:
    """Return which samples belong to the split: a boolean ``[N]``."""
    if split == "all":
        return np.ones(len(labels), bool)
    rank = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        where = np.flatnonzero(labels == label)
        rank[where] = np.arange(len(where))
    tested: Array = rank % _EVERY == _EVERY - 1
    return tested if split == "test" else ~tested
