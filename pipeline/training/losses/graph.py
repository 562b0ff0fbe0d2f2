"""A loss of the user's own: an ONNX graph, or an onnxscript function."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir

from onnxsmith.artifact import Artifact, file_digest
from onnxsmith.errors import SmithError
from onnxsmith.passes.autodiff.path import FLOATS
from onnxsmith.passes.autodiff.prepare import prepare
from onnxsmith.passes.autodiff.writer import Writer
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.layout.convert_opset import ConvertOpset
from onnxsmith.passes.match import STANDARD
from onnxsmith.pipeline.loading import load_callable, user_code
from onnxsmith.pipeline.training.losses.base import Loss, Target

_HINT = "give a graph of two inputs, the model's output and the labels, and one float output"


@dataclass(frozen=True)
class GraphLoss(Loss):
    """What a graph of two inputs computes: the model's output and the labels.

    Attributes:
        artifact: The graph; its output is a scalar, or is averaged.
        name: What to call it in the history: no folders, and a digest of what it computes.
    """

    artifact: Artifact
    name: str

    def __post_init__(self) -> None:
        spec = self.artifact.spec
        if len(spec.inputs) != 2 or len(spec.outputs) != 1:
            raise SmithError(
                f"the loss has {len(spec.inputs)} inputs and {len(spec.outputs)} outputs", _HINT
            )
        result = self.artifact.model.graph.outputs[0]
        if result.dtype not in FLOATS:
            raise SmithError("the loss gives no float", _HINT)

    @classmethod
    def load(cls, text: str) -> GraphLoss:
        """Return the loss of a file, or of ``package.module:function``.

        The function is one of onnxscript, or one without arguments that returns such a function
        or a ModelProto.

        Raises:
            SmithError: The file cannot be read, the function fails, or it is no loss.
        """
        if text.endswith(".onnx"):
            return cls(Artifact.load(text), f"{Path(text).name} {file_digest(text)[:16]}")
        found = load_callable(text)
        with user_code(f"calling {text!r}"):
            made = found if hasattr(found, "to_model_proto") else found()
            proto = made.to_model_proto() if hasattr(made, "to_model_proto") else made
        if not isinstance(proto, onnx.ModelProto):
            raise SmithError(
                f"{text!r} gives a {type(proto).__name__}, not a loss",
                "name an onnxscript function, or one that returns a ModelProto",
            )
        return cls(Artifact.from_proto(proto), text)

    @property
    def separable(self) -> bool:
        """Whether it gives a number for each sample."""
        shape = self.artifact.model.graph.outputs[0].shape
        return shape is not None and len(shape) == 1

    def target(self, output: ir.Value) -> Target:
        """Return what the second input looks like."""
        value = self._inputs()[1]
        if value.dtype is None:
            raise SmithError("the labels of the loss have no type", _HINT)
        return Target(value.dtype, value.shape)

    def write(self, w: Writer, output: ir.Value, target: ir.Value) -> ir.Value:
        """Copy the graph behind the model.

        Raises:
            SmithError: It is of a newer opset than the model, or of another element type.
        """
        taken = self._inputs()[0]
        if taken.dtype != output.dtype:
            raise SmithError(
                f"the loss takes {taken.dtype}, but the output {output.name!r} is {output.dtype}",
                "write the loss for that type",
            )
        model = self._prepared(w.version)
        graph = model.graph
        inputs = [v for v in graph.inputs if v.name not in graph.initializers]
        for value, replacement in zip(inputs, (output, target), strict=True):
            value.replace_all_uses_with(replacement)
        _rename(w, model)
        result = graph.outputs[0]
        graph.outputs.clear()
        nodes = list(graph)
        graph.remove(nodes)
        w.nodes.extend(nodes)
        if result.shape is None or len(result.shape):
            result = w.op("ReduceMean", result, attributes={"keepdims": 0})
        return result

    def _inputs(self) -> list[ir.Value]:
        graph = self.artifact.model.graph
        return [v for v in graph.inputs if v.name not in graph.initializers]

    def _prepared(self, version: int) -> ir.Model:
        """Return a copy in the model's opset, without functions."""
        model = prepare(self.artifact.clone().model, ())
        current = max(model.opset_imports.get(domain, 0) for domain in STANDARD)
        if current < version:
            return ConvertOpset(version).apply(model, PassContext()).model
        if current > version:
            raise SmithError(
                f"the loss is of opset {current}, the model of {version}",
                f"write it in opset {version}, or convert the model: "
                f"onnxsmith optimize --passes convert-opset:opset={current}",
            )
        return model


def _rename(w: Writer, model: ir.Model) -> None:
    """Give everything names that the model does not have, and its constants to the model."""
    for graph in model.graphs():
        for value in list(graph.initializers.values()):
            graph.initializers.pop(value.name or "")
            value.name = w.name("loss")
            w.root.register_initializer(value)
        for value in graph.inputs if graph is not model.graph else ():
            value.name = w.name("loss")
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        node.name = None
        for value in node.outputs:
            value.name = w.name("loss")
