"""Statistics of a model's values over all samples, computed inside the graph.

What leaves the graph are a few numbers for each channel, so that what is held does not grow with
the activations or with the number of samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.match import Array, add_constant
from onnxsmith.runtime.session import Session

_PREFIX = "onnxsmith_tap/"
# ReduceSum takes its axes as an input since opset 13, the other reductions since 18.
_AXES_INPUT = {"ReduceSum": 13}
_AXES_INPUT_OTHERS = 18


class Taps:
    """A copy of a model that hands out statistics instead of its own outputs."""

    def __init__(self, model: ir.Model) -> None:
        self.model = model.clone()
        self.graph = self.model.graph
        self.values = {v.name: v for v in self.graph.inputs if v.name}
        self.values |= {v.name: v for node in self.graph for v in node.outputs if v.name}
        self._opset = model.opset_imports.get("", 18)
        self._outputs = list(self.graph.outputs)
        self._names: list[str] = []

    def add(
        self,
        kind: str,
        inputs: Sequence[ir.Value | None],
        attributes: dict[str, Any] | None = None,
        domain: str = "",
    ) -> ir.Value:
        """Append a node; return its first output."""
        node = ir.node(kind, inputs, attributes or {}, domain=domain)
        self.graph.append(node)
        return node.outputs[0]

    def constant(self, array: Array) -> ir.Value:
        """Add an initializer."""
        return add_constant(self.graph, array, f"{_PREFIX}constant")

    def reduce(self, kind: str, value: ir.Value, axes: Sequence[int]) -> ir.Value:
        """Reduce over these axes, which are dropped."""
        if self._opset >= _AXES_INPUT.get(kind, _AXES_INPUT_OTHERS):
            inputs = [value, self.constant(np.array(axes, np.int64))]
            return self.add(kind, inputs, {"keepdims": 0})
        return self.add(kind, [value], {"keepdims": 0, "axes": list(axes)})

    def rows(self, value: ir.Value, channels: int) -> ir.Value:
        """Return a value whose last axis are the channels as a matrix."""
        return self.add("Reshape", [value, self.constant(np.array([-1, channels], np.int64))])

    def hand_out(self, value: ir.Value, name: str) -> None:
        """Make a value an output of this name."""
        value.name = f"{_PREFIX}{name}"
        self.graph.outputs.append(value)
        self._names.append(value.name)

    def run(self, context: PassContext, limit: int) -> Iterator[dict[str, Array]]:
        """Yield what was asked for, one batch of samples after the other.

        Args:
            context: With samples, and the target to run on.
            limit: Most batches to read.

        Raises:
            SmithError: There are no samples, or the model does not run on them.
        """
        assert context.samples is not None  # passes that calibrate say so in their needs
        for output in self._outputs:  # not needed, and may be large
            self.graph.outputs.remove(output)
        empty = True
        with Session(Artifact(self.model), context.target) as session:
            for feeds in islice(context.samples(), limit):
                empty = False
                found = session.run(feeds, self._names)
                yield {name.removeprefix(_PREFIX): array for name, array in found.items()}
        if empty:
            raise SmithError("the calibration data is empty", "give data with at least one sample")
