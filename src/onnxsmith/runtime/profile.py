"""How long each kernel of a model takes, by the runtime's own profiler."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxsmith.artifact import Artifact
from onnxsmith.runtime.session import Session
from onnxsmith.target import Target

_ENDING = "_kernel_time"
# The runtime calls a convolution in its blocked layout after the value that it makes.
_BLOCKED = "_nchwc"
_FUSED = "fused "
# Behind a layer, these become part of its kernel; the kernel may then be called after the last.
_TAKEN_IN = ("Add", "Clip", "HardSwish", "LeakyRelu", "Mul", "Relu", "Sigmoid", "Tanh")
_RUNS = 5


def node_times(
    artifact: Artifact,
    target: Target,
    feeds: Mapping[str, np.ndarray[Any, Any]],
    threads: int | None = None,
) -> tuple[dict[ir.Node, float], float]:
    """Return the milliseconds of each node of the main graph, and of all kernels together.

    Nodes that the runtime fuses into others, or drops, have no time of their own: what is taken
    into a layer counts as that layer's.

    Args:
        artifact: The model.
        target: Supplies the providers.
        feeds: Inputs by name.
        threads: Threads within an operator; None leaves the choice to the runtime.

    Raises:
        SmithError: The model does not run.
    """
    with tempfile.TemporaryDirectory() as folder:
        session = Session(artifact, target, threads=threads, profile=Path(folder, "profile"))
        with session:
            for _ in range(_RUNS + 1):
                session.run(feeds)
            events = json.loads(session.end_profiling().read_text(encoding="utf-8"))
    kernels = _kernel_times(events)
    nodes = _nodes(artifact.model.graph)
    times: dict[ir.Node, float] = defaultdict(float)
    for name, time in kernels.items():
        node = nodes.get(name)
        if node is not None:
            times[node] += time
    return dict(times), sum(kernels.values())


def _kernel_times(events: list[dict[str, Any]]) -> dict[str, float]:
    """Return the median milliseconds of each kernel, the first run left out."""
    samples: dict[str, list[float]] = defaultdict(list)
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") == "Node" and name.endswith(_ENDING):
            samples[name.removesuffix(_ENDING)].append(event["dur"] / 1000)
    return {name: statistics.median(found[1:] or found) for name, found in samples.items()}


def _nodes(graph: ir.Graph) -> dict[str, ir.Node]:
    """Return the node that a kernel's name stands for."""
    found: dict[str, ir.Node] = {}
    for node in graph:
        for value in node.outputs:
            if value.name:
                found[value.name + _BLOCKED] = _layer(node)
    for node in graph:
        if node.name:
            found[node.name] = node
            found[_FUSED + node.name] = node
    return found


def _layer(node: ir.Node) -> ir.Node:
    """Return the layer whose kernel takes a node in; the node itself where there is none."""
    layer = node
    while layer.op_type in _TAKEN_IN:
        before = [v.producer() for v in layer.inputs if v is not None]
        makers = [maker for maker in before if maker is not None]
        convolutions = [maker for maker in makers if maker.op_type == "Conv"]
        if not convolutions and len(makers) != 1:
            return node
        # Of two convolutions that are added up the later one takes the sum in.
        layer = convolutions[-1] if convolutions else makers[0]
    return layer if layer.op_type == "Conv" else node
