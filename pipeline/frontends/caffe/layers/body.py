"""The body of a Scan: what a recurrent layer does at one step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from onnxsmith.pipeline.frontends.caffe.builder import Tensor, shape_of
from onnxsmith.pipeline.frontends.caffe.dims import Dims
from onnxsmith.pipeline.frontends.caffe.scope import FLOAT, Scope


class Body:
    """A graph that is run once a step.

    Args:
        scope: The layer.
        states: What is handed from step to step, as before the first.
        sequences: What each step takes one slice of, along the first axis.

    Attributes:
        inputs: The body's own values for the states and the slices.
    """

    def __init__(self, scope: Scope, states: Sequence[Tensor], sequences: Sequence[Tensor]) -> None:
        self._scope = scope
        self._outer = [*states, *sequences]
        self._steps = len(sequences)
        self._nodes: list[ir.Node] = []
        dims = [one.dims for one in states] + [one.dims[1:] for one in sequences]
        self.inputs = [self._value("in", shape_of(one)) for one in dims]

    def op(
        self,
        op_type: str,
        inputs: Sequence[ir.Value],
        attributes: dict[str, Any] | None = None,
    ) -> ir.Value:
        """Add a node with one output."""
        output = self._value(op_type.lower(), None)
        node = ir.node(op_type, inputs, attributes or {}, outputs=[output], name=output.name)
        self._nodes.append(node)
        return output

    def split(self, value: ir.Value, parts: int) -> list[ir.Value]:
        """Split along the second axis into equal parts."""
        outputs = [self._value("gate", None) for _ in range(parts)]
        attributes: dict[str, int] = {"axis": 1}
        if self._scope.opset >= 18:
            attributes["num_outputs"] = parts
        name = self._scope.builder.free_name(f"{self._scope.layer.name}/split")
        self._nodes.append(ir.node("Split", [value], attributes, outputs=outputs, name=name))
        return outputs

    def scan(
        self, states: Sequence[ir.Value], outputs: Sequence[ir.Value], dims: Dims
    ) -> list[Tensor]:
        """Add the Scan.

        Args:
            states: The states after a step.
            outputs: What each step gives.
            dims: The sizes of all steps' outputs together.

        Returns:
            The states after the last step, and the outputs.
        """
        given = [self.op("Identity", [one]) for one in outputs]
        body = ir.Graph(
            self.inputs,
            [*states, *given],
            nodes=self._nodes,
            name=f"{self._scope.layer.name}/step",
        )
        for value in body.outputs:
            value.type = ir.TensorType(FLOAT)
        kept = [one.dims for one in self._outer[: len(states)]]
        attributes = {"body": body, "num_scan_inputs": self._steps}
        return self._scope.ops("Scan", self._outer, [*kept, *[dims] * len(given)], attributes)

    def _value(self, label: str, shape: ir.Shape | None) -> ir.Value:
        name = self._scope.builder.free_name(f"{self._scope.layer.name}/step/{label}")
        return ir.Value(name=name, shape=shape, type=ir.TensorType(FLOAT))
