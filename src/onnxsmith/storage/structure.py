"""Is a parsed file a graph at all? Names resolve, nothing is defined twice, text is text.

onnx_ir repairs or drops much of this with a log line; a model that computes something else than
its file says must not get that far.
"""

from __future__ import annotations

import graphlib
from collections.abc import Iterable, Iterator

import onnx
from google.protobuf.message import Message

from onnxsmith.errors import SmithError
from onnxsmith.storage.maps import holds_map
from onnxsmith.storage.repeats import describe, nodes_of

# com.microsoft, com.microsoft.nchwc, com.ms.internal.nhwc ... and one that it imports by itself.
_RUNTIME_DOMAINS = ("com.microsoft", "com.ms.", "ai.onnx.ml")

_Scopes = tuple[frozenset[str], ...]


def check_structure(proto: onnx.ModelProto) -> None:
    """Refuse a model whose names do not resolve, or that onnx_ir would keep only in part.

    Raises:
        SmithError: Naming the first value that is wrong.
    """
    _check_text(proto)
    if proto.training_info:
        raise SmithError(
            "the model carries training information (training_info), which would be lost",
            "let 'onnxsmith optimize --repair' remove it, or clear the model's field training_info",
        )
    _check_imports(proto)
    _check_graph(proto.graph, ())
    _refuse_recursion(proto.functions)
    for function in proto.functions:
        scope = frozenset(function.input) | _outputs(function.node)
        _check_nodes(function.node, (scope,))
        _check_defined(function.output, (scope,), f"function {function.name!r}")


def _check_graph(graph: onnx.GraphProto, outer: _Scopes) -> None:
    initializers = [t.name for t in graph.initializer]
    initializers += [s.values.name for s in graph.sparse_initializer]
    _refuse_repeats(initializers, "initializer")
    _refuse_repeats([v.name for v in graph.input], "input")
    made = [name for node in graph.node for name in node.output if name]
    _refuse_repeated_outputs(graph)
    given = frozenset(initializers) | {v.name for v in graph.input}
    for name in made:
        if name in given:
            raise _invalid(f"the value {name!r} is both given and computed")
    if "" in given:
        raise _invalid("an input or initializer has no name")
    if outer:
        _refuse_inner_maps(graph)
    scopes = (*outer, given | frozenset(made))
    _check_nodes(graph.node, scopes)
    # A body returns its own values only: an outer one has to pass through an Identity.
    own = (scopes[-1],)
    _check_defined([v.name for v in graph.output], own, "a subgraph" if outer else "the graph")


def _check_nodes(nodes: Iterable[onnx.NodeProto], scopes: _Scopes) -> None:
    for node in nodes:
        for name in node.input:
            if name and not _defined(name, scopes):
                raise _invalid(f"the input {name!r} of {describe(node)} is defined nowhere")
        for attribute in node.attribute:
            for graph in _subgraphs(attribute):
                _check_graph(graph, scopes)


def _refuse_recursion(functions: Iterable[onnx.FunctionProto]) -> None:
    """Refuse functions that call themselves, by way of others or not."""
    known = {(f.domain, f.name, f.overload): f for f in functions}
    calls = {
        key: {(n.domain, n.op_type, n.overload) for n in nodes_of(f)} & known.keys()
        for key, f in known.items()
    }
    try:
        graphlib.TopologicalSorter(calls).prepare()
    except graphlib.CycleError as error:
        names = " -> ".join(f"{domain}.{name}" for domain, name, _ in error.args[1])
        raise _invalid(f"its functions call themselves: {names}") from error


def _subgraphs(attribute: onnx.AttributeProto) -> Iterator[onnx.GraphProto]:
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs


def _outputs(nodes: Iterable[onnx.NodeProto]) -> frozenset[str]:
    return frozenset(name for node in nodes for name in node.output if name)


def _check_defined(names: Iterable[str], scopes: _Scopes, owner: str) -> None:
    for name in names:
        if not _defined(name, scopes):
            raise _invalid(f"the output {name!r} of {owner} is computed nowhere")


def _defined(name: str, scopes: _Scopes) -> bool:
    return any(name in scope for scope in scopes)


def _refuse_repeats(names: list[str], role: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise _invalid(f"the {role} {name!r} is defined twice")
        seen.add(name)


def _refuse_repeated_outputs(graph: onnx.GraphProto) -> None:
    makers: dict[str, onnx.NodeProto] = {}
    for node in graph.node:
        for name in node.output:
            if name in makers:
                both = f"by {describe(makers[name])} and by {describe(node)}"
                raise _invalid(f"the node output {name!r} is defined twice, {both}")
            if name:
                makers[name] = node


def _check_imports(proto: onnx.ModelProto) -> None:
    """Refuse a node whose domain the model does not import: its version is unknown.

    The runtime's own domains have one version, and it reads models that do not import them.
    """
    imported = {"" if e.domain == "ai.onnx" else e.domain for e in proto.opset_import}
    for node in nodes_of(proto.graph):
        domain = "" if node.domain == "ai.onnx" else node.domain
        if domain not in imported and not domain.startswith(_RUNTIME_DOMAINS):
            raise SmithError(
                f"the model is not valid: {describe(node)} uses the operators of "
                f"{domain or 'ai.onnx'!r}, which the model does not import",
                "set the version that the model was written for"
                if not domain
                else "add the import, or let 'onnxsmith optimize --repair' add it",
            )


def _refuse_inner_maps(graph: onnx.GraphProto) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info):
        if holds_map(value.type):
            raise SmithError(
                f"the value {value.name!r} of a subgraph is a map, which is not supported",
                "export tensors instead; with skl2onnx: options={'zipmap': False}",
            )


def _check_text(message: Message) -> None:
    """Refuse text that is not UTF-8: protobuf hands it out as bytes and cannot write it again."""
    for descriptor, value in message.ListFields():
        if descriptor.type == descriptor.TYPE_MESSAGE:
            for inner in (value,) if isinstance(value, Message) else value:
                _check_text(inner)
        elif descriptor.type == descriptor.TYPE_STRING:
            for text in (value,) if isinstance(value, (str, bytes)) else value:
                if not isinstance(text, str):
                    raise _invalid(f"its {descriptor.name} is not UTF-8 text: {text[:40]!r}")


def _invalid(reason: str) -> SmithError:
    return SmithError(f"the model is not valid: {reason}", "export the model again")
