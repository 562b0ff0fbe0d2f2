"""What a custom operator is, and the check that its parts agree."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import onnx_ir as ir

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.numerics import Difference, Tolerance, compare
from onnxsmith.runtime.session import Session

Array = np.ndarray[Any, Any]


class CustomOp(abc.ABC):
    """An operator outside the ONNX standard, written once for every part of the tool.

    A runtime that has a native kernel for ``domain::name`` uses it; any other runs the portable
    body, which travels inside the model as a model-local function.

    Class attributes:
        domain: The operator's domain, not empty.
        name: The operator's name.
        version: Version of the domain that it belongs to.
        kernels: Shared libraries with native kernels; may be empty.
    """

    domain: ClassVar[str]
    name: ClassVar[str]
    version: ClassVar[int] = 1
    kernels: ClassVar[tuple[Path, ...]] = ()

    @abc.abstractmethod
    def schema(self) -> onnx.defs.OpSchema:
        """Return inputs, outputs, attributes and type constraints."""

    @abc.abstractmethod
    def reference(
        self, arrays: Sequence[Array], attributes: Mapping[str, Any]
    ) -> tuple[Array, ...]:
        """Compute the outputs in numpy, independently of :meth:`function`."""

    @abc.abstractmethod
    def function(self) -> ir.Function:
        """Return the portable body in standard operators."""

    def infer(self, inputs: Sequence[ir.Value], attributes: Mapping[str, Any]) -> list[ir.Value]:
        """Return the outputs' types and shapes, found by inference through the portable body.

        Raises:
            SmithError: The body does not fit the inputs.
        """
        model = self._model(inputs, attributes)
        try:
            proto = onnx.shape_inference.infer_shapes(
                ir.to_proto(model), strict_mode=True, data_prop=True
            )
        except onnx.shape_inference.InferenceError as error:
            text = " ".join(str(error).split())[:300]
            raise SmithError(
                f"{self.domain}::{self.name} does not fit its inputs: {text}", "check their shapes"
            ) from error
        return list(ir.from_proto(proto).graph.outputs)

    def gradient(self, node: ir.Node, outputs: Sequence[ir.Value | None]) -> list[ir.Value | None]:
        """Return the gradients of the inputs, given those of the outputs.

        Where an operator does not override this, its portable body is differentiated.

        Args:
            node: A node of this operator; what it reads and computes may be used.
            outputs: The gradient of each of its outputs, None where nothing depends on one.

        Returns:
            One for each input, made by new nodes that stand in no graph yet, or by none: a gradient
            of an output as it is. None where there is no gradient.

        Raises:
            SmithError: The operator has no rule of its own; its body can be differentiated.
        """
        raise SmithError(
            f"{self.domain}::{self.name} has no gradient", "differentiate its portable body"
        )

    def check(
        self,
        arrays: Sequence[Array],
        attributes: Mapping[str, Any],
        tolerance: Tolerance | None = None,
    ) -> tuple[Difference, ...]:
        """Compare the portable body, run by the runtime, with the reference.

        Raises:
            SmithError: The body does not run.
        """
        inputs = [
            ir.Value(
                name=f"input_{index}",
                shape=ir.Shape(array.shape),
                type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
            )
            for index, array in enumerate(arrays)
        ]
        with Session(Artifact(self._model(inputs, attributes)), optimize=False) as session:
            feeds = {value.name or "": a for value, a in zip(inputs, arrays, strict=True)}
            found = session.run(feeds)
        expected = dict(zip(found, self.reference(arrays, attributes), strict=True))
        return compare(expected, found, tolerance)

    def _model(self, inputs: Sequence[ir.Value], attributes: Mapping[str, Any]) -> ir.Model:
        function = self.function()
        node = ir.node(
            self.name,
            list(inputs),
            dict(attributes),
            domain=self.domain,
            num_outputs=len(function.outputs),
        )
        for index, output in enumerate(node.outputs):
            output.name = f"output_{index}"
        opsets = {**function.opset_imports, self.domain: self.version}
        graph = ir.Graph(list(inputs), node.outputs, nodes=[node], opset_imports=opsets, name="op")
        return ir.Model(graph, ir_version=10, functions=[function])


def add_functions(model: ir.Model, operators: Sequence[CustomOp]) -> int:
    """Add the portable bodies of the operators that ``model`` uses and lacks; return how many."""
    used = {(node.domain, node.op_type) for node in model.graph.all_nodes()}
    known = {(domain, name) for domain, name, _ in model.functions}
    added = 0
    for operator in operators:
        if (operator.domain, operator.name) in used - known:
            function = operator.function()
            model.functions[function.identifier()] = function
            model.graph.opset_imports.setdefault(operator.domain, operator.version)
            added += 1
    return added
