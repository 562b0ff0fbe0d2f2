"""``mnist:DIR``: images and labels in IDX files, plain or gzip: MNIST, Fashion-MNIST, KMNIST, ...

Source of the format: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits":
a big-endian magic number (0, 0, type, rank), the sizes, then unsigned bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, ClassVar

import numpy as np

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.data.base import Batch
from onnxsmith.pipeline.data.files import find_folder, open_stream, read_exactly, reading
from onnxsmith.pipeline.data.query import COMMON, Options
from onnxsmith.spec import ModelSpec

_PREFIXES = {"train": ("train",), "test": ("t10k", "test")}
_UNSIGNED_BYTE = 0x08
_LARGEST_SIDE = 1 << 14


@dataclass(frozen=True)
class MnistReader:
    """Inputs uint8 ``[N, 1, H, W]`` (``[N, H, W, 1]`` with layout=NHWC); labels int64 ``[N]``.

    Attributes:
        images: The file of the images.
        labels: The file of the labels.
        split: ``train`` (the default) or ``test``.
        size: The number of samples that both headers promise.
        sample: The shape of one sample.
        channel_axis: The axis of the only channel.
    """

    keys: ClassVar[frozenset[str]] = COMMON - {"label"}

    images: Path
    labels: Path
    split: str
    size: int
    sample: tuple[int, int, int]
    channel_axis: int

    @classmethod
    def open(cls, location: str, options: Options, spec: ModelSpec | None) -> MnistReader:
        """Find both files and read their headers.

        Raises:
            SmithError: A file is missing or no IDX file, or the two do not belong together.
            UsageError: There is no such split.
        """
        folder = find_folder(location, "mnist")
        split = options.split or "train"
        if split not in _PREFIXES:
            raise UsageError(f"mnist has no split {split!r}", f"known: {', '.join(_PREFIXES)}")
        images = _find(folder, split, "images", 3)
        labels = _find(folder, split, "labels", 1)
        count, height, width = _header(images, 3)
        (label_count,) = _header(labels, 1)
        if count != label_count:
            raise SmithError(
                f"{images.name!r} promises {count} images, but "
                f"{labels.name!r} {label_count} labels",
                "get both files of the same data set",
            )
        last = options.layout == "NHWC"
        sample = (height, width, 1) if last else (1, height, width)
        return cls(images, labels, split, count, sample, 3 if last else 1)

    @property
    def classes(self) -> None:
        """Unknown: the files do not name them."""

    def read(self, batch_size: int) -> Iterator[Batch]:
        """Yield the samples as the files are unpacked.

        Raises:
            SmithError: A file is truncated or damaged, or longer than it promises.
        """
        pixels = int(np.prod(self.sample))
        with ExitStack() as stack:
            stack.enter_context(reading(self.images.name))
            images = stack.enter_context(open_stream(self.images))
            labels = stack.enter_context(open_stream(self.labels))
            read_exactly(images, 16, self.images.name)
            read_exactly(labels, 8, self.labels.name)
            for start in range(0, self.size, batch_size):
                count = min(batch_size, self.size - start)
                flat = np.frombuffer(read_exactly(images, count * pixels, self.images.name), "u1")
                with reading(self.labels.name):
                    classes = read_exactly(labels, count, self.labels.name)
                yield Batch(
                    {"x": flat.reshape(count, *self.sample)},
                    np.frombuffer(classes, "u1").astype(np.int64),
                )
            _expect_end(images, self.images.name)
            _expect_end(labels, self.labels.name)


def _find(folder: Path, split: str, what: str, rank: int) -> Path:
    names = [
        f"{prefix}-{what}{separator}idx{rank}-ubyte{ending}"
        for prefix in _PREFIXES[split]
        for separator in ("-", ".")
        for ending in (".gz", "")
    ]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise SmithError(
        f"the folder has no {what} of the {split} split: {names[0]!r} is missing",
        "point mnist:DIR to the folder that holds the IDX files",
    )


def _header(path: Path, rank: int) -> tuple[int, ...]:
    """Return the sizes that an IDX file of unsigned bytes promises."""
    with reading(path.name), open_stream(path) as stream:
        magic = bytes(read_exactly(stream, 4, path.name))
        if magic != bytes((0, 0, _UNSIGNED_BYTE, rank)):
            raise SmithError(
                f"{path.name!r} is no IDX file of rank {rank}: it begins with 0x{magic.hex()}",
                "get the original file, or name it after what it holds",
            )
        sizes = struct.unpack(f">{rank}I", read_exactly(stream, 4 * rank, path.name))
    if any(not 0 < side <= _LARGEST_SIDE for side in sizes[1:]):
        raise SmithError(
            f"{path.name!r} promises images of {sizes[1]} x {sizes[2]} pixels", "get the file again"
        )
    return sizes


def _expect_end(stream: IO[bytes], name: str) -> None:
    if stream.read(1):
        raise SmithError(
            f"{name!r} is longer than its header promises", "get the file again: it is damaged"
        )
