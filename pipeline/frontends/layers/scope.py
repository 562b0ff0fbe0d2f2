"""What a layer builds with: nodes, weights, and the sizes of what it is given."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from onnxsmith.errors import SmithError
from onnxsmith.passes.autodiff.writer import Writer
from onnxsmith.passes.match import add_constant
from onnxsmith.pipeline.frontends.layers.initializers import Initializer, initial

_MOST = 2**29  # two GiB

Size = int | str
Sizes = tuple[Size, ...]


class Scope:
    """The place of one layer in a graph.

    Attributes:
        name: The layer's name; what it makes is named after it.
        w: Writes its nodes.
    """

    def __init__(self, graph: ir.Graph, version: int, name: str, words: str, seed: list[int]):
        self.name, self.w = name, Writer(graph, version, f"{name}/")
        self._graph, self._words = graph, words
        self._rng = np.random.default_rng(seed)

    def weight(
        self,
        word: str,
        shape: Sequence[int],
        kind: Initializer,
        fans: tuple[int, int] | None = None,
    ) -> ir.Value:
        """Return a weight of the layer, called ``LAYER.WORD``.

        Args:
            word: What it is: ``weight``, ``bias``.
            shape: Its sizes.
            kind: How it begins.
            fans: How many numbers go into an output and come out of an input; the last two sizes
                where omitted.
        """
        if math.prod(shape) > _MOST:
            raise self.refuse(f"has a {word} of {math.prod(shape):,} numbers", "make it smaller")
        found = fans or ((shape[-2], shape[-1]) if len(shape) > 1 else (1, 1))
        array = initial(kind, shape, found, self._rng)
        return add_constant(self._graph, array, f"{self.name}.{word}")

    def constant_weight(self, word: str, array: np.ndarray) -> ir.Value:
        """Return a weight of the layer that begins as it is given."""
        return add_constant(self._graph, array, f"{self.name}.{word}")

    def refuse(self, what: str, hint: str) -> SmithError:
        """Return an error that names the layer."""
        return SmithError(f"{self._words} {what}", hint)


def sizes_of(value: ir.Value) -> Sizes:
    """Return the sizes of a value; each layer sets those of what it makes."""
    assert value.shape is not None  # set by the layer that made it
    return tuple(size if isinstance(size, int) else str(size.value) for size in value.shape)


def shaped(value: ir.Value, sizes: Sequence[Size]) -> ir.Value:
    """Set the sizes of a value and return it."""
    value.shape = ir.Shape(sizes)
    return value


def in_words(value: ir.Value) -> str:
    """Return the sizes of a value as a user writes them."""
    return f"[{', '.join(map(str, sizes_of(value)))}]"
