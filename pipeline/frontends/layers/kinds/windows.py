"""Sizes of what slides over images: strides, padding and what comes out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from onnxsmith.pipeline.frontends.layers.scope import Scope, Size

Numbers = int | tuple[int, ...]
Padding = Literal["valid", "same"] | Numbers


@dataclass(frozen=True)
class Windows:
    """Windows over the spatial dimensions, a number for each of them.

    Attributes:
        kernel: Sizes of a window.
        stride: Steps between two.
        dilation: Steps between two of its elements.
        pads: Zeros before each dimension, then behind each.
        sizes: How many windows there are.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: tuple[int, ...]
    sizes: tuple[Size, ...]

    def attributes(self) -> dict[str, object]:
        """Return the attributes of a convolution or of pooling."""
        found: dict[str, object] = {"kernel_shape": list(self.kernel), "strides": list(self.stride)}
        if any(size != 1 for size in self.dilation):
            found["dilations"] = list(self.dilation)
        return {**found, "pads": list(self.pads)} if any(self.pads) else found


def windows(
    scope: Scope,
    spatial: tuple[Size, ...],
    kernel: Numbers,
    stride: Numbers,
    padding: Padding,
    dilation: Numbers = 1,
) -> Windows:
    """Return the windows over an image.

    ``same`` pads so that there are as many windows as elements, or ``ceil(size / stride)``, with
    the odd zero behind.

    Raises:
        SmithError: A list has another length than the image dimensions, or no window fits.
    """
    rank = len(spatial)
    k, s, d = (
        _each(scope, word, numbers, rank)
        for word, numbers in (("kernel", kernel), ("stride", stride), ("dilation", dilation))
    )
    spans = [d[i] * (k[i] - 1) + 1 for i in range(rank)]
    if padding == "same":
        totals = [_same(scope, spatial[i], spans[i], s[i]) for i in range(rank)]
        before = tuple(total // 2 for total in totals)
        behind = tuple(total - total // 2 for total in totals)
    else:
        before = behind = _each(scope, "padding", 0 if padding == "valid" else padding, rank, 0)
    sizes: list[Size] = []
    for i, size in enumerate(spatial):
        room = before[i] + behind[i] - spans[i]
        if isinstance(size, str):
            sizes.append(size if s[i] == 1 and room == -1 else f"{scope.name}_{i}")
            continue
        if size + room < 0:
            raise scope.refuse(
                f"has windows of {spans[i]} elements, but its input has {size} there",
                "make the kernel smaller, or add padding",
            )
        sizes.append((size + room) // s[i] + 1)
    return Windows(k, s, d, before + behind, tuple(sizes))


def _each(scope: Scope, word: str, numbers: Numbers, rank: int, least: int = 1) -> tuple[int, ...]:
    found = (numbers,) * rank if isinstance(numbers, int) else numbers
    if len(found) != rank or min(found) < least:
        raise scope.refuse(
            f"has the {word} {numbers}, but its input has {rank} dimensions to slide over",
            f"give one number, or {rank}, of at least {least}",
        )
    return found


def _same(scope: Scope, size: Size, span: int, stride: int) -> int:
    if stride == 1:
        return span - 1
    if isinstance(size, str):
        raise scope.refuse(
            f"pads to the same size, but the size {size!r} is open", "give the padding as a number"
        )
    return max((math.ceil(size / stride) - 1) * stride + span - size, 0)
