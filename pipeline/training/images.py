"""Change images before they are learned: flips, shifts, turns, colors and holes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import numpy as np

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.options import from_texts, split_options
from onnxsmith.pipeline.data.base import Array, Batch

# What a color image is as grey: the weights of Rec. ITU-R BT.601.
_GREY = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class ImageAugment:
    """Random changes of images, of each sample by itself.

    Attributes:
        flip: How likely an image is mirrored, left to right.
        crop: The most pixels that it is moved by, along each axis; zeros come in.
        rotate: The most degrees that it is turned by, to either side; zeros come in.
        color: Brightness, contrast and (of three channels) saturation change by this share.
        cutout: The side of a square that is set to zero, in pixels.
        layout: Where the channels are.

    Source: Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural Networks"
    (2012); DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with
    Cutout" (2017).
    """

    flip: float = 0.0
    crop: int = 0
    rotate: float = 0.0
    color: float = 0.0
    cutout: int = 0
    layout: Literal["NCHW", "NHWC"] = "NCHW"

    def __post_init__(self) -> None:
        if not 0 <= self.flip <= 1 or not 0 <= self.color < 1:
            raise UsageError("flip is in [0, 1] and color in [0, 1)", "write flip=0.5:color=0.2")
        if min(self.crop, self.rotate, self.cutout) < 0:
            raise UsageError("crop, rotate and cutout are not negative", "write crop=2:rotate=10")

    @classmethod
    def parse(cls, text: str) -> ImageAugment:
        """Read ``flip=0.5:crop=2:rotate=10:color=0.2:cutout=4``.

        Raises:
            UsageError: An option is unknown, or a value does not fit.
        """
        _, texts = split_options("augmentation", f"images:{text}")
        return cast(ImageAugment, from_texts(cls, "--augment", texts))

    def __call__(self, batch: Batch, rng: np.random.Generator) -> Batch:
        """Return a changed copy of the images of a batch; other inputs stay.

        Raises:
            SmithError: No input is a batch of images of floats.
        """
        names = [n for n, a in batch.inputs.items() if a.ndim == 4 and a.dtype.kind == "f"]
        if not names:
            raise SmithError(
                "no input is a batch of images of floats, [N, C, H, W]",
                "leave --augment away, or give the data a layout",
            )
        inputs = {n: self._changed(a, rng) if n in names else a for n, a in batch.inputs.items()}
        return Batch(inputs, batch.labels)

    def _changed(self, images: Array, rng: np.random.Generator) -> Array:
        last = self.layout == "NHWC"
        x = images.transpose(0, 3, 1, 2) if last else images
        if self.flip or self.crop or self.rotate:
            x = self._moved(x, rng)
        if self.color:
            x = self._colored(x, rng)
        if self.cutout:
            x = _holes(x, self.cutout, rng)
        return np.ascontiguousarray(x.transpose(0, 2, 3, 1) if last else x)

    def _moved(self, x: Array, rng: np.random.Generator) -> Array:
        """Return ``[N, C, H, W]`` sampled where each pixel comes from."""
        count, _, height, width = x.shape
        flip = np.where(rng.random(count) < self.flip, -1.0, 1.0)
        shift = rng.integers(-self.crop, self.crop + 1, (2, count, 1, 1))
        angle = np.deg2rad(rng.uniform(-self.rotate, self.rotate, (count, 1, 1)))
        rows = np.arange(height)[None, :, None] - (height - 1) / 2 + shift[0]
        columns = np.arange(width)[None, None, :] - (width - 1) / 2 + shift[1]
        from_row = np.cos(angle) * rows - np.sin(angle) * columns + (height - 1) / 2
        from_column = np.sin(angle) * rows + np.cos(angle) * columns
        from_column = from_column * flip[:, None, None] + (width - 1) / 2
        if not self.rotate:
            return _pick(x, np.rint(from_row).astype(int), np.rint(from_column).astype(int))
        return _interpolated(x, from_row, from_column)

    def _colored(self, x: Array, rng: np.random.Generator) -> Array:
        low, high, shape = 1 - self.color, 1 + self.color, (len(x), 1, 1, 1)
        bright, contrast, vivid = (rng.uniform(low, high, shape).astype(x.dtype) for _ in range(3))
        x = x * bright
        mean = x.mean((1, 2, 3), keepdims=True)
        x = mean + (x - mean) * contrast
        if x.shape[1] != 3:
            return x
        grey = np.einsum("nchw,c->nhw", x, _GREY.astype(x.dtype))[:, None]
        return np.asarray(grey + (x - grey) * vivid)


def _pick(x: Array, rows: Array, columns: Array) -> Array:
    """Return pixels by whole indices ``[N, H, W]``; zeros outside."""
    height, width = x.shape[2:]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    sample = np.arange(len(x))[:, None, None]
    found = x[sample, :, rows.clip(0, height - 1), columns.clip(0, width - 1)]
    return np.where(inside[:, None], found.transpose(0, 3, 1, 2), x.dtype.type(0))


def _interpolated(x: Array, rows: Array, columns: Array) -> Array:
    """Return what lies between four pixels."""
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    down = (rows - top)[:, None].astype(x.dtype)
    right = (columns - left)[:, None].astype(x.dtype)
    upper = _pick(x, top, left) * (1 - right) + _pick(x, top, left + 1) * right
    lower = _pick(x, top + 1, left) * (1 - right) + _pick(x, top + 1, left + 1) * right
    return np.asarray(upper * (1 - down) + lower * down)


def _holes(x: Array, side: int, rng: np.random.Generator) -> Array:
    """Return images with a square of zeros, whose middle is anywhere in the image."""
    count, _, height, width = x.shape
    row = rng.integers(0, height, (count, 1, 1)) - side // 2
    column = rng.integers(0, width, (count, 1, 1)) - side // 2
    rows, columns = np.arange(height)[None, :, None], np.arange(width)[None, None, :]
    hole = (rows >= row) & (rows < row + side) & (columns >= column) & (columns < column + side)
    return np.where(hole[:, None], x.dtype.type(0), x)
