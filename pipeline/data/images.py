"""``images:DIR``: picture files, labelled by sub-folder or by a ``labels.csv``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.data.base import Array, Batch
from onnxsmith.pipeline.data.files import find_folder
from onnxsmith.pipeline.data.image_files import Listing, list_images
from onnxsmith.pipeline.data.image_pixels import Geometry, PixelReader, choose_geometry
from onnxsmith.pipeline.data.query import COMMON, Options
from onnxsmith.spec import ModelSpec

KEYS = COMMON | {"resize", "crop", "color", "labels"}


@dataclass(frozen=True)
class ImagesReader:
    """Inputs uint8 ``[N, C, H, W]`` (or ``[N, H, W, C]``), labels int64 ``[N]``.

    The layout, size and number of channels are those of the query, else those of the model's
    input, else NCHW, the size of the pictures and three.

    Attributes:
        listing: The files, their labels and classes.
        geometry: Size, colours and layout to bring them to.
        split: The sub-folder read (``train``, ``test``), where there are such.
    """

    keys: ClassVar[frozenset[str]] = KEYS

    listing: Listing
    geometry: Geometry
    split: str | None

    @classmethod
    def open(cls, location: str, options: Options, spec: ModelSpec | None) -> ImagesReader:
        """List the files.

        Raises:
            SmithError: There is no picture, a listed file is missing, or Pillow is not installed.
            UsageError: An option does not fit.
        """
        folder = find_folder(location, "images")
        geometry = choose_geometry(options, spec)
        PixelReader(geometry)  # says at once where Pillow is missing
        listing = list_images(folder, options)
        return cls(listing, geometry, listing.split)

    @property
    def size(self) -> int:
        """The number of files."""
        return len(self.listing.files)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The classes: the sub-folders, or the sorted texts of ``labels.csv``."""
        return self.listing.classes

    @property
    def channel_axis(self) -> int:
        """The axis of the channels."""
        return 3 if self.geometry.layout == "NHWC" else 1

    def read(self, batch_size: int) -> Iterator[Batch]:
        """Yield the pictures in the order of their names.

        Raises:
            SmithError: A file cannot be read, or its size differs from the others'.
        """
        pixels = PixelReader(self.geometry)
        shape: tuple[int, ...] | None = None
        for start in range(0, self.size, batch_size):
            arrays = []
            for path in self.listing.files[start : start + batch_size]:
                array = pixels.read(path)
                shape = shape or array.shape
                if array.shape != shape:
                    raise SmithError(
                        f"{path.name!r} has another size than the pictures before it",
                        "add resize=HxW to the data",
                    )
                arrays.append(array)
            yield Batch({"x": np.stack(arrays)}, self._labels(start, start + batch_size))

    def _labels(self, start: int, stop: int) -> Array | None:
        return None if self.listing.labels is None else self.listing.labels[start:stop]
