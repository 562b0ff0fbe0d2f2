"""External data: which files a model may name.

Source: ONNX external data specification; CVE-2024-27318 and CVE-2025-51480 show why it is checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx

from onnxsmith.errors import SmithError


def check_external_data(proto: onnx.ModelProto, folder: Path) -> None:
    """Refuse external data that is missing, too short, or outside the model's folder.

    Raises:
        SmithError: Naming the tensor and the location.
    """
    root = folder.resolve()
    sizes: dict[str, int] = {}
    for tensor in _external_tensors(proto):
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        if location not in sizes:
            sizes[location] = _size(tensor.name, location, folder, root)
        offset, length = (_number(tensor.name, entries, key) for key in ("offset", "length"))
        if offset + length > sizes[location]:
            raise SmithError(
                f"external data of {tensor.name!r} ends at byte {offset + length}, "
                f"but {location!r} has {sizes[location]} bytes",
                "copy the complete data file beside the model",
            )


def _size(tensor: str, location: str, folder: Path, root: Path) -> int:
    path = Path(location)
    if not location or path.is_absolute() or ".." in path.parts:
        raise SmithError(
            f"external data of {tensor!r} points outside the model's folder: {location!r}",
            "do not trust this file; a location must be a relative path without '..'",
        )
    full = folder / path
    if not full.resolve().is_relative_to(root):
        raise SmithError(
            f"external data of {tensor!r} leaves the model's folder through a link: {location!r}",
            "replace the link by the file it points to",
        )
    if not full.is_file():
        raise SmithError(
            f"external data of {tensor!r} is missing: {location!r}",
            "copy the data file beside the model",
        )
    return full.stat().st_size


def _number(tensor: str, entries: dict[str, str], key: str) -> int:
    text = entries.get(key, "0")
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise SmithError(
            f"external data of {tensor!r} has the {key} {text[:40]!r}", "export the model again"
        )
    return int(text)


def _external_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from _in_graph(proto.graph)
    for function in proto.functions:
        yield from _in_nodes(function.node)


def _in_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from filter(_is_external, graph.initializer)
    for sparse in graph.sparse_initializer:
        yield from filter(_is_external, (sparse.values, sparse.indices))
    yield from _in_nodes(graph.node)


def _in_nodes(nodes: object) -> Iterator[onnx.TensorProto]:
    for node in nodes:  # type: ignore[attr-defined]  # protobuf's containers have no public type
        for attribute in node.attribute:
            yield from filter(_is_external, (attribute.t, *attribute.tensors))
            for graph in (attribute.g, *attribute.graphs):
                if graph.node or graph.initializer:
                    yield from _in_graph(graph)


def _is_external(tensor: onnx.TensorProto) -> bool:
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)
