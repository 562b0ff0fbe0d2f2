"""Load frozen graphs: find their ends, cut them where asked, and make functions of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.frontends.base import ConvertRequest
from onnxsmith.pipeline.frontends.tensorflow.freeze import LARGE_BYTES
from onnxsmith.pipeline.frontends.tensorflow.signature import distinct, plain_name
from onnxsmith.pipeline.frontends.tensorflow.source import Loaded
from onnxsmith.pipeline.loading import describe
from onnxsmith.spec import ValueSpec

_MAX_BYTES = 2**31 - 1
_PLACEHOLDERS = ("Placeholder", "PlaceholderV2")
# Nodes that nothing reads and that are no outputs.
_NO_OUTPUTS = frozenset((
    "Const", "NoOp", "Assert", "Assign", "AssignVariableOp", "SaveV2", "RestoreV2", "Print",
    "PrintV2", "MergeSummary", "ScalarSummary", "HistogramSummary", "ImageSummary",
    "InitializeTableV2", "VarIsInitializedOp", "IsVariableInitialized",
    *_PLACEHOLDERS, "PlaceholderWithDefault",
))  # fmt: skip
_VARIABLES = ("Variable", "VariableV2", "VarHandleOp", "TemporaryVariable")
_RATE = 16000
_RATE_NAME = "/sample_rate_of_onnxsmith"
_RATE_NOTE = (
    "the graph decodes WAV files, which ONNX cannot: the model starts at the samples {name!r} "
    f"(float32, -1 to 1), taken as {_RATE} Hz"
)


@dataclass(frozen=True)
class Ends:
    """Where a graph begins and ends.

    Attributes:
        inputs: Tensor names, ``node:0``.
        specs: For each, what was asked for; None where nothing was.
        outputs: Tensor names.
    """

    inputs: tuple[str, ...]
    specs: tuple[ValueSpec | None, ...]
    outputs: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The inputs' names: as asked for, else the nodes'."""
        pairs = zip(self.inputs, self.specs, strict=True)
        return tuple(spec.name if spec else plain_name(tensor) for tensor, spec in pairs)


@dataclass(frozen=True)
class _Cut:
    graph_def: Any
    inputs: tuple[str, ...]  # placeholders


def load_graph(path: Path, request: ConvertRequest) -> Loaded:
    """Load a frozen graph from a file.

    Raises:
        SmithError: The file is no frozen ``GraphDef``.
        UsageError: A tensor that was asked for is not in it.
    """
    if path.stat().st_size > _MAX_BYTES:
        raise SmithError(f"{path} is larger than 2 GB, which no GraphDef is", "check the file")
    graph_def = tf.compat.v1.GraphDef()
    try:
        graph_def.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise SmithError(
            f"{path} is not a frozen graph: {describe(error)}",
            "give a GraphDef in binary form, or the folder of a SavedModel",
        ) from None
    return from_graph_def(graph_def, request, str(path))


def from_graph_def(graph_def: Any, request: ConvertRequest, what: str) -> Loaded:
    """Make a function of a ``GraphDef``, which is emptied.

    Raises:
        SmithError: It has variables, no end, or TensorFlow refuses it.
        UsageError: A tensor that was asked for is not in it.
    """
    nodes = {node.name: node for node in graph_def.node}
    if not nodes:
        raise SmithError(f"{what} is a graph without nodes", "check the file")
    for node in graph_def.node:
        if node.op in _VARIABLES:
            raise SmithError(
                f"{what} is not frozen: {node.name!r} is a variable",
                "freeze it, or give the SavedModel with its variables",
            )
    open_wav_decoders(graph_def)
    ends = find_ends(graph_def, request)
    try:
        function = _wrap(_cut(graph_def, ends), ends)
    except SmithError:
        raise
    except Exception as error:  # TensorFlow has no common base
        raise SmithError(
            f"TensorFlow cannot read the graph of {what}: {describe(error)}",
            "check the file; --input and --part name the tensors between which it is taken",
        ) from error
    outputs = distinct([plain_name(name) for name in ends.outputs], ends.names)
    opened = [name for name in ends.names if name in _opened(graph_def)]
    notes = tuple(_RATE_NOTE.format(name=name) for name in opened)
    return Loaded(function, None, "GraphDef", ends.names, outputs, notes)


def find_ends(graph_def: Any, request: ConvertRequest) -> Ends:
    """Return the inputs and outputs: placeholders and sinks, where nothing else was asked for.

    What lies before an input that was asked for is cut off.

    Raises:
        SmithError: There is no output.
        UsageError: A tensor that was asked for is not there.
    """
    nodes = {node.name: node for node in graph_def.node}
    if request.part is not None:
        outputs = [_tensor(name.strip(), nodes) for name in request.part.split(",")]
    else:
        outputs = _sinks(graph_def)
    inputs = [_tensor(spec.name, nodes) for spec in request.inputs]
    specs: list[ValueSpec | None] = list(request.inputs)
    for name in _reached(nodes, outputs, set(inputs)):
        if nodes[name].op in _PLACEHOLDERS and f"{name}:0" not in inputs:
            inputs.append(f"{name}:0")
            specs.append(None)
    return Ends(tuple(inputs), tuple(specs), tuple(dict.fromkeys(outputs)))


def open_wav_decoders(graph_def: Any) -> None:
    """Let the graph begin at the samples that ``DecodeWav`` gives, at a fixed sample rate."""
    for node in graph_def.node:
        if node.op != "DecodeWav":
            continue
        rate = graph_def.node.add(name=f"{node.name}{_RATE_NAME}", op="Const")
        rate.attr["dtype"].type = tf.int32.as_datatype_enum
        rate.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(_RATE, tf.int32))
        for user in graph_def.node:
            for index, name in enumerate(user.input):
                if name == f"{node.name}:1":
                    user.input[index] = rate.name
        wanted = [node.attr[f"desired_{what}"].i for what in ("samples", "channels")]
        _make_placeholder(node, tf.float32, [size if size > 0 else None for size in wanted])


def _opened(graph_def: Any) -> set[str]:
    names = {node.name for node in graph_def.node}
    return {name for name in names if f"{name}{_RATE_NAME}" in names}


def _sinks(graph_def: Any) -> list[str]:
    """Return the first output of each node that nothing reads."""
    read = {_node(name) for node in graph_def.node for name in node.input}
    sinks = [
        f"{node.name}:0"
        for node in graph_def.node
        if node.name not in read and node.op not in _NO_OUTPUTS
    ]
    if not sinks:
        raise SmithError("the graph has no output", "name one with --part")
    return sinks


def _tensor(name: str, nodes: dict[str, Any]) -> str:
    """Return ``node:0`` for what the user calls a tensor.

    Raises:
        UsageError: There is no such node.
    """
    node, _, index = name.partition(":")
    if node not in nodes or (index and not index.isdigit()):
        alike = [known for known in nodes if node.lower() in known.lower()][:5]
        known = ", ".join(alike or list(nodes)[-5:])
        raise UsageError(f"the graph has no tensor {name!r}", f"it has: {known}")
    return f"{node}:{index or 0}"


def _node(reference: str) -> str:
    return reference.lstrip("^").partition(":")[0]


def _plain_reference(reference: str) -> str:
    return reference if ":" in reference or reference.startswith("^") else f"{reference}:0"


def _reached(nodes: dict[str, Any], outputs: Sequence[str], stops: set[str]) -> list[str]:
    """Return the nodes that the outputs depend on, in the graph's order."""
    seen: set[str] = set()
    open_ = [_node(name) for name in outputs if name not in stops]
    while open_:
        name = open_.pop()
        if name in seen or name not in nodes:
            continue
        seen.add(name)
        open_ += [_node(i) for i in nodes[name].input if _plain_reference(i) not in stops]
    return [name for name in nodes if name in seen]


def _cut(graph_def: Any, ends: Ends) -> Any:
    """Put placeholders where the inputs are, and leave out what no output needs."""
    nodes = {node.name: node for node in graph_def.node}
    places: dict[str, str] = {}
    for tensor in ends.inputs:
        if nodes[_node(tensor)].op in _PLACEHOLDERS:
            continue
        name = f"onnxsmith_{_node(tensor).replace('/', '_')}_{tensor.rpartition(':')[2]}"
        found = _look_up(graph_def, tensor)
        for node in graph_def.node:
            for index, reference in enumerate(node.input):
                if _plain_reference(reference) == tensor:
                    node.input[index] = name
        shape = None if found.shape.rank is None else found.shape.as_list()
        _make_placeholder(graph_def.node.add(name=name), found.dtype, shape)
        places[tensor] = f"{name}:0"
    nodes = {node.name: node for node in graph_def.node}
    needed = set(_reached(nodes, ends.outputs, set()))
    for index in reversed(range(len(graph_def.node))):
        if graph_def.node[index].name not in needed:
            del graph_def.node[index]
    return _Cut(graph_def, tuple(places.get(name, name) for name in ends.inputs))


def _look_up(graph_def: Any, tensor: str) -> Any:
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(graph_def, name="")
        return graph.get_tensor_by_name(tensor)


def _make_placeholder(node: Any, dtype: Any, shape: Sequence[int | None] | None) -> None:
    node.op = "Placeholder"
    del node.input[:]
    node.attr.clear()
    node.attr["dtype"].type = dtype.as_datatype_enum
    node.attr["shape"].shape.CopyFrom(tf.TensorShape(shape).as_proto())


def _wrap(cut: _Cut, ends: Ends) -> Any:
    """Make a function of a graph; its large constants become captured tensors."""
    graph_def = cut.graph_def
    large = _take_constants(graph_def)
    specs, kept = [], []
    nodes = {node.name: node for node in graph_def.node}
    for number, tensor in enumerate(cut.inputs):
        node = nodes.get(_node(tensor))
        if node is None:
            raise SmithError(
                f"no output depends on the input {ends.names[number]!r}", "leave it out of --input"
            )
        kept.append(node)
        shape = None if node.attr["shape"].shape.unknown_rank else node.attr["shape"].shape
        dtype = tf.as_dtype(node.attr["dtype"].type)
        specs.append(tf.TensorSpec(shape, dtype, name=f"onnxsmith_input_{number}"))

    def imported(*arguments: Any) -> Any:
        graph = tf.compat.v1.get_default_graph()
        captured = {name: graph.capture(tensor) for name, tensor in large.items()}
        places = dict(zip(cut.inputs, arguments, strict=True)) | captured
        found = tf.graph_util.import_graph_def(
            graph_def,
            input_map={plain_name(name): value for name, value in places.items()},
            return_elements=list(ends.outputs),
            name="graph",
        )
        return [tf.identity(tensor) for tensor in found]

    return tf.compat.v1.wrap_function(imported, specs)


def _take_constants(graph_def: Any) -> dict[str, Any]:
    """Take the large constants out of a graph: name to tensor; placeholders stay in their place."""
    found = {}
    for node in graph_def.node:
        value = node.attr["value"].tensor if node.op == "Const" else None
        if value is not None and len(value.tensor_content) >= LARGE_BYTES:
            array = np.asarray(tf.make_ndarray(value))
            with tf.init_scope():
                found[f"{node.name}:0"] = tf.constant(array)
            _make_placeholder(node, tf.as_dtype(array.dtype), array.shape)
    return found
