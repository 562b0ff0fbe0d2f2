"""Does a graph use its operators as they are defined? The runtime says so late, and not by node."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx_ir as ir

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.passes.match import STANDARD
from onnxsmith.runtime.session import Session

_DEFINED = (*STANDARD, "ai.onnx.ml")
_INTERNAL = "__"  # the runtime's own attributes begin so
# The runtime's own operators that it registers in ONNX's domain, in every version of it.
_RUNTIME = (
    "Affine", "Crop", "DynamicSlice", "GivenTensorFill", "ImageScaler", "LayerNormalization",
    "ParametricSoftplus", "Scale", "ScaledTanh", "SimplifiedLayerNormalization",
)  # fmt: skip


def check_operators(artifact: Artifact) -> None:
    """Refuse nodes that the definitions of their operators do not allow.

    Checked are names of nodes, and of the domains that ONNX defines numbers of inputs and outputs,
    and attributes. A model that the runtime takes in spite of that is let through.

    Raises:
        SmithError: Naming the first node that is wrong.
    """
    try:
        _check_names(artifact.model)
        _check_nodes(artifact.model)
    except SmithError:
        if not _runs(artifact):
            raise


def _check_nodes(model: ir.Model) -> None:
    schemas: dict[tuple[str, str, int], onnx.defs.OpSchema | None] = {}
    for node, version in _nodes(model):
        function = model.functions.get(node.op_identifier())
        if function is not None:
            _check_call(node, function)
            continue
        key = (node.op_type, "" if node.domain in STANDARD else node.domain, version)
        if key not in schemas:
            schemas[key] = _schema(*key) if version else None
        schema = schemas[key]
        if schema is not None:
            _check(node, schema)
        elif version and node.op_type not in _RUNTIME:
            domain = "ai.onnx" if node.domain in STANDARD else node.domain
            raise _wrong(
                node,
                f"is of no operator of {domain} {version}",
                "mend its name or the version, or give it the domain of the library that defines "
                "it",
            )


def _check_names(model: ir.Model) -> None:
    """Refuse nodes of one graph that have one name: the runtime does."""
    for graph in model.graphs():
        seen: set[str] = set()
        for node in graph:
            if node.name and node.name in seen:
                raise SmithError(
                    f"the model is not valid: another node has the name of {_describe(node)}",
                    "let 'onnxsmith optimize --repair' rename it",
                )
            seen.add(node.name or "")


def _nodes(model: ir.Model) -> Iterator[tuple[ir.Node, int]]:
    """Yield all nodes, those of defined domains with the version they are written for, else 0."""
    graphs: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    for graph in graphs:
        versions = graph.opset_imports
        standard = versions.get("", versions.get("ai.onnx", 0))
        for node in ir.traversal.RecursiveGraphIterator(graph):
            if node.domain in STANDARD:
                yield node, standard
            else:
                yield node, versions.get(node.domain, 0) if node.domain in _DEFINED else 0


def _schema(kind: str, domain: str, version: int) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(kind, version, domain)
    except onnx.defs.SchemaError:
        return None


def _check_call(node: ir.Node, function: ir.Function) -> None:
    if len(node.inputs) > len(function.inputs) or len(node.outputs) > len(function.outputs):
        raise _wrong(node, "has more inputs or outputs than its function")


def _check(node: ir.Node, schema: onnx.defs.OpSchema) -> None:
    given = len(node.inputs)
    if not schema.min_input <= given <= schema.max_input:
        raise _wrong(node, f"has {given} inputs, and needs {_range(schema)}")
    if len(node.outputs) > schema.max_output:
        raise _wrong(node, f"has {len(node.outputs)} outputs, and may have {schema.max_output}")
    for name, attribute in node.attributes.items():
        known = schema.attributes.get(name)
        if known is None:
            if not name.startswith(_INTERNAL):
                raise _wrong(node, f"has an attribute {name!r}, which its operator has not")
        elif attribute.type.name != (wanted := str(known.type).rpartition(".")[2]):
            kind = attribute.type.name
            raise _wrong(node, f"has an attribute {name!r} of kind {kind}, not {wanted}")
    for name, known in schema.attributes.items():
        if known.required and name not in node.attributes:
            raise _wrong(node, f"lacks the attribute {name!r}")


def _range(schema: onnx.defs.OpSchema) -> str:
    low, high = schema.min_input, schema.max_input
    if low == high:
        return str(low)
    return f"{low} or more" if high > 1000 else f"{low} to {high}"


def _runs(artifact: Artifact) -> bool:
    try:
        Session(artifact, optimize=False).close()
    except SmithError:
        return False
    return True


def _describe(node: ir.Node) -> str:
    made = next((value.name for value in node.outputs if value.name), "")
    kind = f"the {node.op_type} node"
    return f"{kind} {node.name!r}" if node.name else f"{kind} that makes {made!r}"


def _wrong(node: ir.Node, reason: str, hint: str = "export the model again") -> SmithError:
    return SmithError(f"the model is not valid: {_describe(node)} {reason}", hint)
