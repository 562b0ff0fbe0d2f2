"""Names that a graph gives out more than once, and imports that it lacks.

The runtime takes Constants of one name with a warning, and the last one counts; other repeated
names it refuses.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import onnx

_STANDARD = ("", "ai.onnx")


def keep_last_constants(proto: onnx.ModelProto) -> None:
    """Keep the last of several Constants of one name in the main graph, as the runtime does."""
    graph = proto.graph
    makers: dict[str, list[int]] = {}
    for index, node in enumerate(graph.node):
        for name in node.output:
            if name:
                makers.setdefault(name, []).append(index)
    dropped = {
        index
        for indices in makers.values()
        if len(indices) > 1 and all(_is_constant(graph.node[i]) for i in indices)
        for index in indices[:-1]
    }
    for index in sorted(dropped, reverse=True):
        del graph.node[index]


def repair_names(proto: onnx.ModelProto, unread: Collection[str]) -> tuple[str, ...]:
    """Mend repeated names and missing imports, in place; return what was done, in words.

    Of equal initializers the first is kept. Where several nodes give out one name, a reader means
    the nearest definition before it, and all but the last are renamed. A domain without an import
    gets version 1; the version of the standard operators cannot be guessed. Nodes whose names
    repeat get a number. Training information goes: it names values that passes replace.

    Args:
        proto: The model.
        unread: Initializers whose values are still in the file: they cannot be compared.
    """
    done = [*_same_initializers(proto.graph, unread), *_rename_repeats(proto.graph)]
    imported = {entry.domain for entry in proto.opset_import} | set(_STANDARD)
    used = {node.domain for node in nodes_of(proto.graph)}
    for domain in sorted(used - imported):
        proto.opset_import.add(domain=domain, version=1)
        done.append(f"imported version 1 of the operators of {domain!r}")
    done += _rename_nodes(proto.graph)
    if proto.training_info:
        proto.ClearField("training_info")
        done.append("removed the training information, which no inference reads")
    return tuple(done)


def _rename_nodes(graph: onnx.GraphProto) -> Iterator[str]:
    taken = {node.name for node in nodes_of(graph)}
    seen: set[str] = set()
    for node in graph.node:
        if node.name and node.name in seen:
            words = describe(node)
            node.name = _fresh(node.name, taken)
            yield f"renamed {words} to {node.name!r}: another node has this name"
        seen.add(node.name)
        for attribute in node.attribute:
            for inner in _graphs(attribute):
                yield from _rename_nodes(inner)


def nodes_of(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of a graph or function and of the graphs inside it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from nodes_of(attribute.g)
            for inner in attribute.graphs:
                yield from nodes_of(inner)


def _same_initializers(graph: onnx.GraphProto, unread: Collection[str]) -> Iterator[str]:
    seen: dict[str, bytes] = {}
    copies = []
    for index, tensor in enumerate(graph.initializer):
        if tensor.name in unread:
            continue
        data = tensor.SerializeToString()
        if tensor.name in seen and seen[tensor.name] == data:
            copies.append(index)
            yield f"removed a second copy of the initializer {tensor.name!r}"
        seen.setdefault(tensor.name, data)
    for index in reversed(copies):
        del graph.initializer[index]


def _rename_repeats(graph: onnx.GraphProto) -> Iterator[str]:
    outputs = [name for node in graph.node for name in node.output if name]
    taken = {*outputs, *(v.name for v in graph.input), *(t.name for t in graph.initializer)}
    left = {name: outputs.count(name) for name in set(outputs) if outputs.count(name) > 1}
    current: dict[str, str] = {}
    for node in graph.node if left else ():
        _read(node, current)
        for place, name in enumerate(node.output):
            if name not in left:
                continue
            left[name] -= 1
            if left[name] == 0:
                current.pop(name, None)
                continue
            fresh = _fresh(name, taken)
            node.output[place] = current[name] = fresh
            yield f"renamed the output {name!r} of {describe(node)} to {fresh!r}: it is made twice"


def _read(node: onnx.NodeProto, names: dict[str, str]) -> None:
    """Let a node, and what is inside it, read other names."""
    for inner in _with_inner(node):
        for place, name in enumerate(inner.input):
            inner.input[place] = names.get(name, name)


def _graphs(attribute: onnx.AttributeProto) -> Iterator[onnx.GraphProto]:
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs


def _fresh(name: str, taken: set[str]) -> str:
    number = 1
    while f"{name}_{number}" in taken:
        number += 1
    taken.add(f"{name}_{number}")
    return f"{name}_{number}"


def describe(node: onnx.NodeProto) -> str:
    """Name a node as a person finds it: its operator, and its name or what it makes."""
    kind = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    made = next((name for name in node.output if name), "")
    return f"the {kind} node {node.name!r}" if node.name else f"the {kind} node that makes {made!r}"


def node_in_cycle(graph: onnx.GraphProto) -> onnx.NodeProto | None:
    """Return a node that depends on its own output, if there is one in this very graph."""
    nodes = list(graph.node)  # held, so that their ids stay theirs
    makers = {name: node for node in nodes for name in node.output if name}
    users: dict[int, list[onnx.NodeProto]] = {}
    waiting: dict[int, int] = {}
    for node in nodes:
        read = {name for inner in _with_inner(node) for name in inner.input} & makers.keys()
        sources = {id(makers[name]) for name in read}
        waiting[id(node)] = len(sources)
        for source in sources:
            users.setdefault(source, []).append(node)
    ready = [node for node in nodes if not waiting[id(node)]]
    while ready:
        for user in users.get(id(ready.pop()), ()):
            waiting[id(user)] -= 1
            if not waiting[id(user)]:
                ready.append(user)
    current = next((node for node in nodes if waiting[id(node)]), None)
    seen: set[int] = set()
    # Behind a cycle lie nodes that only wait for it: going back leads into it.
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        names = (name for inner in _with_inner(current) for name in inner.input if name in makers)
        current = next((makers[n] for n in names if waiting[id(makers[n])]), None)
    return current


def _with_inner(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    yield node
    for attribute in node.attribute:
        for graph in _graphs(attribute):
            yield from nodes_of(graph)


def _is_constant(node: onnx.NodeProto) -> bool:
    return node.op_type == "Constant" and node.domain in _STANDARD
