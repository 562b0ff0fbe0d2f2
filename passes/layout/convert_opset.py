"""Write the model in another version of the standard operators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx
import onnx.shape_inference
import onnx.version_converter
import onnx_ir as ir

from onnxsmith.errors import SmithError
from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.match import STANDARD, all_nodes
from onnxsmith.storage.save import large_initializers, skeleton

_IR_VERSIONS = ((21, 10), (23, 11), (24, 12), (25, 13))
_OLDEST, _BATCHED_SCAN = 7, 8
# The first IR version whose initializers need not be inputs; onnx's converter insists on it.
_WEIGHTS_APART = 4
# These versions of the operator set brought bfloat16 and little else; the operators that came to
# mean something else by the same inputs and attributes are:
_TYPE_VERSIONS = (13, 14)
_OTHER_MEANING = ("BatchNormalization",)
_SOFTMAX = ("Softmax", "LogSoftmax", "Hardmax")


@dataclass(frozen=True)
class ConvertOpset(Pass):
    """Write the model in another version of the standard operators, newer or older.

    Operators of other domains stay as they are. Weights are left where they lie.

    Options:
        opset: The version to write; 0 for the newest that the target loads.

    Raises an error naming the operator that has no form in that version. Models with functions
    have to be inlined first.

    Source: ``onnx.version_converter``, and the operators' changelog for the steps it lacks.
    """

    name: ClassVar[str] = "convert-opset"

    opset: int = 0

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Convert, and lower the IR version to what the target loads.

        Raises:
            SmithError: An operator has no form in that version, or the version is unknown.
        """
        wanted = self.opset or context.target.max_opset
        newest = onnx.defs.onnx_opset_version()
        if not _OLDEST <= wanted <= newest:
            raise SmithError(
                f"opset {wanted} cannot be written", f"known versions: {_OLDEST} to {newest}"
            )
        current = max((model.opset_imports.get(domain, 0) for domain in STANDARD), default=0)
        if current == wanted or not current:
            return PassResult(model, False)
        if model.functions:
            raise SmithError("the model has functions", "put inline-functions before convert-opset")
        if current == _BATCHED_SCAN and any(n.op_type == "Scan" for n in all_nodes(model)):
            raise SmithError(
                "a Scan of opset 8 runs batches, which later ones do not",
                "export the model in opset 9 or later",
            )
        converted = _convert(model, wanted)
        converted.ir_version = min(context.target.max_ir_version, _ir_version(wanted))
        return PassResult(converted, True, {"from": current, "to": wanted})


def _ir_version(opset: int) -> int:
    return max([9, *(version for first, version in _IR_VERSIONS if opset >= first)])


def _step_by_step(proto: onnx.ModelProto, wanted: int) -> onnx.ModelProto:
    """Convert; downwards one version at a time, where onnx has gaps that cost nothing."""
    (current,) = (entry.version for entry in proto.opset_import if not entry.domain)
    while current > wanted:
        if current == 13:
            ranks = {
                info.name: len(info.type.tensor_type.shape.dim)
                for info in (*proto.graph.value_info, *proto.graph.input, *proto.graph.output)
                if info.type.tensor_type.HasField("shape")
            }
            _name_last_axes(proto.graph, ranks)
        if _only_types_differ(proto.graph, current):
            for entry in proto.opset_import:
                if not entry.domain:
                    entry.version = current - 1
        else:
            proto = onnx.version_converter.convert_version(proto, current - 1)
        current -= 1
    return onnx.version_converter.convert_version(proto, wanted)


def _name_last_axes(graph: onnx.GraphProto, ranks: dict[str, int]) -> None:
    """Write the axis of softmaxes so that it means the same before opset 13.

    There, all axes from the named one on were taken as one, which is the same for the last one
    only. onnx's converter leaves the number as it is.
    """
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _name_last_axes(attribute.g, ranks)
        if node.op_type not in _SOFTMAX or node.domain not in STANDARD:
            continue
        (axis,) = [a.i for a in node.attribute if a.name == "axis"] or [-1]
        rank = ranks.get(node.input[0], ranks.get(node.output[0]))
        if axis != -1 and (rank is None or axis != rank - 1):
            raise SmithError(
                f"{node.op_type} {node.output[0]!r} takes axis {axis} alone, not all from there on",
                "that has no form before opset 13",
            )
        del node.attribute[:]
        node.attribute.append(onnx.helper.make_attribute("axis", -1 if rank is None else rank - 1))


def _only_types_differ(graph: onnx.GraphProto, version: int) -> bool:
    """Tell whether all nodes mean the same one version earlier, which only knew fewer types."""
    for node in graph.node:
        bodies = [a.g for a in node.attribute if a.HasField("g")]
        if not all(_only_types_differ(body, version) for body in bodies):
            return False
        if node.domain not in STANDARD:
            continue
        try:
            new = onnx.defs.get_schema(node.op_type, version, "")
            old = onnx.defs.get_schema(node.op_type, version - 1, "")
        except onnx.defs.SchemaError:
            return False
        if new.since_version == old.since_version:
            continue
        if new.since_version not in _TYPE_VERSIONS or node.op_type in _OTHER_MEANING:
            return False
        if len(new.inputs) != len(old.inputs) or len(new.outputs) != len(old.outputs):
            return False
        if any(a.name not in old.attributes for a in node.attribute):
            return False
    return True


def _convert(model: ir.Model, wanted: int) -> ir.Model:
    large = {value.name or "": value for value in large_initializers(model)}
    placed = {
        name: ir.ExternalTensor(
            "unread", 0, value.const_value.nbytes, value.const_value.dtype,
            shape=ir.Shape(value.const_value.shape.numpy()), name=name,
        )
        for name, value in large.items()
        if value.const_value is not None
    }  # fmt: skip
    proto = skeleton(model, placed)
    proto.ir_version = max(proto.ir_version, _WEIGHTS_APART)
    for entry in proto.opset_import:
        if entry.domain == "ai.onnx":
            entry.domain = ""
    try:
        converted = ir.from_proto(_step_by_step(proto, wanted))
    except (
        RuntimeError,
        ValueError,
        onnx.version_converter.ConvertError,
        onnx.shape_inference.InferenceError,
    ) as error:
        words = " ".join(str(error).split())[:300]
        raise SmithError(
            f"the model cannot be written in opset {wanted}: {words}",
            "choose another opset, or 'decompose' the operator first",
        ) from error
    for name, value in large.items():
        if name in converted.graph.initializers:
            converted.graph.initializers[name].const_value = value.const_value
    converted.metadata_props.update(model.metadata_props)
    return converted
