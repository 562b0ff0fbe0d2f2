"""Clean what skl2onnx writes: sequences of outputs, names of dimensions."""

from __future__ import annotations

from typing import Any

from onnxsmith.spec import ValueSpec


def finish_graph(proto: Any, specs: tuple[ValueSpec, ...]) -> None:
    """Make the graph of an estimator clean, in place.

    A sequence of outputs, the probabilities of several targets, becomes an output each, called
    ``probabilities_0`` and so on: sequences run on no accelerator.
    """
    _split_sequences(proto.graph)
    _name_batch(proto.graph, specs)


def _split_sequences(graph: Any) -> None:
    makers = {node.output[0]: node for node in graph.node if node.op_type == "SequenceConstruct"}
    outputs = list(graph.output)
    if not any(value.name in makers for value in outputs):
        return
    del graph.output[:]
    for value in outputs:
        maker = makers.get(value.name)
        if maker is None:
            graph.output.append(value)
            continue
        element = value.type.sequence_type.elem_type
        for number, name in enumerate(maker.input):
            new = f"{value.name}_{number}"
            _rename(graph, name, new)
            part = graph.output.add(name=new)
            part.type.CopyFrom(element)
        graph.node.remove(maker)


def _rename(graph: Any, old: str, new: str) -> None:
    for node in graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == old:
                    names[index] = new


def _name_batch(graph: Any, specs: tuple[ValueSpec, ...]) -> None:
    """Name the dimensions of the inputs, and the outputs' first after the inputs' first."""
    asked = {spec.name: spec.shape or () for spec in specs}
    batch = (specs[0].shape or ())[:1]
    for value in (*graph.input, *graph.output):
        dims = value.type.tensor_type.shape.dim
        for dim, name in zip(dims, asked.get(value.name, batch), strict=False):
            if isinstance(name, str) and not dim.dim_value:
                dim.dim_param = name
