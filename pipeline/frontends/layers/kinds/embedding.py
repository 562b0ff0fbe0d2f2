"""Embeddings."""

from __future__ import annotations

from typing import Literal

import onnx_ir as ir
from pydantic import Field

from onnxsmith.pipeline.frontends.layers.initializers import Initializer
from onnxsmith.pipeline.frontends.layers.kinds.base import FLOAT, Layer
from onnxsmith.pipeline.frontends.layers.scope import Scope, in_words, shaped, sizes_of


class Embedding(Layer):
    """A vector for each id: integers ``[N, L]`` become ``[N, L, units]``."""

    type: Literal["embedding"]
    vocabulary: int = Field(ge=1, description="How many ids there are.")
    units: int = Field(ge=1, description="Features of an id.")
    positions: int | None = Field(
        None, ge=1, description="Add a learned vector for each place, of at most so many."
    )
    initializer: Initializer = "normal"

    def build(self, scope: Scope, inputs: list[ir.Value]) -> ir.Value:
        """Write a Gather, and the places' vectors added to it."""
        (ids,), w = inputs, scope.w
        sizes = sizes_of(ids)
        if len(sizes) != 2 or ids.dtype not in (ir.DataType.INT64, ir.DataType.INT32):
            raise scope.refuse(
                f"takes int64 ids [N, length], but gets {in_words(ids)} of "
                f"{str(ids.dtype).lower()}",
                "put it first, behind an input such as ids:int64[batch,32]",
            )
        weight = scope.weight("weight", (self.vocabulary, self.units), self.initializer)
        result = shaped(w.op("Gather", weight, ids, dtype=FLOAT), (*sizes, self.units))
        if self.positions is None:
            return result
        if isinstance(sizes[1], int) and sizes[1] > self.positions:
            raise scope.refuse(
                f"has {self.positions} positions for a length of {sizes[1]}", "give it more"
            )
        places = scope.weight("positions", (self.positions, self.units), self.initializer)
        if sizes[1] != self.positions:
            places = w.op("Slice", places, w.ints([0]), w.size_of(ids, 1), w.ints([0]))
        return shaped(w.op("Add", result, places), (*sizes, self.units))
