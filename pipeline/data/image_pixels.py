"""Read one picture into an array of the size, colours and layout that are wanted."""

from __future__ import annotations

import importlib
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.data.base import Array
from onnxsmith.pipeline.data.query import Options
from onnxsmith.pipeline.loading import describe
from onnxsmith.spec import ModelSpec

_SIZE = re.compile(r"^(\d{1,5})(?:x(\d{1,5}))?$")
_COLORS = {"rgb": "RGB", "bgr": "RGB", "gray": "L"}
_MOST_PIXELS = 100_000_000


@dataclass(frozen=True)
class Geometry:
    """What pictures are brought to.

    Attributes:
        resize: ``(height, width)``; with a width of 0 the shorter side becomes ``height``.
        crop: ``(height, width)`` cut from the middle after resizing.
        color: ``rgb``, ``bgr`` or ``gray``.
        layout: ``NCHW`` or ``NHWC``.
    """

    resize: tuple[int, int] | None
    crop: tuple[int, int] | None
    color: str
    layout: str


def choose_geometry(options: Options, spec: ModelSpec | None) -> Geometry:
    """Take size, colours and layout from the query, else from the model's input.

    Raises:
        UsageError: A size or colour cannot be read.
    """
    shape = _image_shape(options, spec)
    layout = options.layout or _layout_of(shape)
    channels, height, width = _parts(shape, layout)
    color = options.own.get("color", "gray" if channels == 1 else "rgb").lower()
    if color not in _COLORS:
        raise UsageError(f"unknown color {color!r}", f"known: {', '.join(_COLORS)}")
    resize, crop = _size(options, "resize"), _size(options, "crop")
    if crop is not None and crop[1] == 0:
        crop = (crop[0], crop[0])
    if isinstance(height, int) and isinstance(width, int):
        if resize is None and crop is None:
            resize = (height, width)
        elif resize is not None and resize[1] == 0 and crop is None:
            crop = (height, width)
    elif resize is not None and resize[1] == 0 and crop is None:
        resize = (resize[0], resize[0])
    return Geometry(resize, crop, color, layout)


class PixelReader:
    """Reads pictures with Pillow.

    Raises:
        SmithError: Pillow is not installed.
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        try:
            self._image: Any = importlib.import_module("PIL.Image")
        except ImportError as error:
            raise SmithError(
                "pictures need Pillow, which is not installed", "pip install 'onnxsmith[images]'"
            ) from error

    def read(self, path: Path) -> Array:
        """Return the pixels, uint8 ``[C, H, W]`` or ``[H, W, C]``.

        Raises:
            SmithError: The file is no picture, damaged or too large.
        """
        try:
            with warnings.catch_warnings():
                # Pillow warns of pictures that unpack to very much; the limit below is ours.
                warnings.simplefilter("ignore")
                with self._image.open(path) as image:
                    pixels = self._bring(image, path)
        except (OSError, ValueError, SyntaxError, EOFError, ArithmeticError) as error:
            # Pillow's plugins raise each of these on damaged files.
            raise SmithError(
                f"the picture {path.name!r} cannot be read: {describe(error)}",
                "replace or remove the file",
            ) from error
        except self._image.DecompressionBombError as error:
            raise _too_large(path) from error
        if self.geometry.color == "bgr":
            pixels = pixels[:, :, ::-1]
        return pixels if self.geometry.layout == "NHWC" else pixels.transpose(2, 0, 1)

    def _bring(self, image: Any, path: Path) -> Array:
        if image.width * image.height > _MOST_PIXELS:
            raise _too_large(path)
        image = image.convert(_COLORS[self.geometry.color])
        resize, crop = self.geometry.resize, self.geometry.crop
        if resize is not None:
            image = image.resize(_resized(image.size, resize), self._image.Resampling.BILINEAR)
        if crop is not None:
            image = self._crop(image, crop, path)
        pixels = np.asarray(image, np.uint8)
        return pixels[:, :, None] if pixels.ndim == 2 else pixels

    def _crop(self, image: Any, crop: tuple[int, int], path: Path) -> Any:
        height, width = crop
        if image.width < width or image.height < height:
            raise SmithError(
                f"the picture {path.name!r} of {image.height}x{image.width} pixels is smaller than "
                f"crop={height}x{width}",
                "add resize=SIZE to the data",
            )
        left, top = (image.width - width) // 2, (image.height - height) // 2
        return image.crop((left, top, left + width, top + height))


def _resized(size: tuple[int, int], resize: tuple[int, int]) -> tuple[int, int]:
    """Return Pillow's (width, height) of the resized picture."""
    height, width = resize
    if width:
        return width, height
    shorter = min(size)
    return max(1, round(size[0] * height / shorter)), max(1, round(size[1] * height / shorter))


def _too_large(path: Path) -> SmithError:
    return SmithError(
        f"the picture {path.name!r} has more than {_MOST_PIXELS // 1_000_000} million pixels",
        "make it smaller, or remove it",
    )


def _image_shape(options: Options, spec: ModelSpec | None) -> tuple[Any, ...] | None:
    """Return the ``[N, ...]`` shape of the image input, where the model has one of rank 4."""
    if spec is None:
        return None
    if options.input is not None:
        value = spec.input(options.input)
        return value.shape if value.shape is not None and len(value.shape) == 4 else None
    return next((v.shape for v in spec.inputs if v.shape is not None and len(v.shape) == 4), None)


def _layout_of(shape: tuple[Any, ...] | None) -> str:
    last = shape is not None and shape[3] in (1, 3) and shape[1] not in (1, 3)
    return "NHWC" if last else "NCHW"


def _parts(shape: tuple[Any, ...] | None, layout: str) -> tuple[Any, Any, Any]:
    """Return channels, height and width as far as the shape says."""
    if shape is None:
        return None, None, None
    return (shape[3], shape[1], shape[2]) if layout == "NHWC" else shape[1:]


def _size(options: Options, key: str) -> tuple[int, int] | None:
    text = options.own.get(key)
    if text is None:
        return None
    match = _SIZE.match(text)
    height, width = (int(match[1]), int(match[2] or 0)) if match else (0, 0)
    if height < 1 or (match is not None and match[2] is not None and width < 1):
        raise UsageError(f"cannot read {key}={text!r} of the data", f"write {key}=224x224")
    return height, width
