"""External data: which files a model may name, and what is read from them at once.

Source: ONNX external data specification; CVE-2024-27318 and CVE-2025-51480 show why it is checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx

from onnxsmith.errors import SmithError
from onnxsmith.storage.tensors import ExternalWeight, file_identity, tensor_bytes

# What is read at once may exceed the data files' size, as tensors may share bytes, but not by
# much: a small hostile model could otherwise name the same bytes a million times.
_SHARED_ALLOWANCE = 64 * 1024**2


def place_external_data(
    proto: onnx.ModelProto, folder: Path, threshold: int
) -> dict[str, ExternalWeight]:
    """Check all external data; leave large weights on disk and read the rest into ``proto``.

    Args:
        proto: The model; on return only the returned weights are external.
        folder: The model's folder.
        threshold: Initializers of the main graph from this many bytes on stay in their file.

    Returns:
        The weights that stay on disk, by initializer name.

    Raises:
        SmithError: A location is missing, too short, or outside the model's folder.
    """
    files = _Files(folder)
    weights: dict[str, ExternalWeight] = {}
    graph = proto.graph
    rest: list[onnx.TensorProto] = []
    for tensor in graph.initializer:
        if _is_external(tensor):
            path, start, end = files.place(tensor)
            if end - start >= threshold:
                weight = ExternalWeight(path, file_identity(path), start, end, tensor)
                weights[tensor.name] = weight
            else:
                rest.append(tensor)
    rest += _in_sparse(graph)
    rest += _in_nodes(graph.node)
    for function in proto.functions:
        rest += _in_nodes(function.node)
    budget = sum(files.sizes.values()) + _SHARED_ALLOWANCE
    for tensor in rest:
        path, start, end = files.place(tensor)
        budget -= end - start
        if budget < 0:
            raise SmithError(
                "the tensors of subgraphs claim more external data than there is",
                "do not trust this file; export the model again",
            )
        with path.open("rb") as file:
            file.seek(start)
            tensor.raw_data = file.read(end - start)
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
    return weights


class _Files:
    """The data files of one model, each checked once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder.resolve()
        self.sizes: dict[str, int] = {}

    def place(self, tensor: onnx.TensorProto) -> tuple[Path, int, int]:
        """Return the file, first byte and end of the tensor's values."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        if location not in self.sizes:
            self.sizes[location] = self._size(tensor.name, location)
        start = _number(tensor.name, entries, "offset")
        needed = tensor_bytes(tensor)
        length = _number(tensor.name, entries, "length") if "length" in entries else needed
        if length != needed:
            raise SmithError(
                f"external data of {tensor.name!r} has {length} bytes, "
                f"but its type and shape need {needed}",
                "export the model again",
            )
        if start + length > self.sizes[location]:
            raise SmithError(
                f"external data of {tensor.name!r} ends at byte {start + length}, "
                f"but {location!r} has {self.sizes[location]} bytes",
                "copy the complete data file beside the model",
            )
        return self.folder / location, start, start + length

    def _size(self, tensor: str, location: str) -> int:
        path = Path(location)
        if not location or "\0" in location or path.is_absolute() or ".." in path.parts:
            raise SmithError(
                f"external data of {tensor!r} points outside the model's folder: {location!r}",
                "do not trust this file; a location must be a relative path without '..'",
            )
        full = self.folder / path
        try:
            if not full.resolve().is_relative_to(self.root):
                raise SmithError(
                    f"external data of {tensor!r} leaves the model's folder through a link: "
                    f"{location!r}",
                    "replace the link by the file it points to",
                )
            if full.is_file():
                return full.stat().st_size
        except (OSError, RuntimeError) as error:  # too long a name, a loop of links
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise SmithError(
                f"external data of {tensor!r} cannot be read: {location[:80]!r}: {reason}",
                "copy the data file beside the model",
            ) from error
        raise SmithError(
            f"external data of {tensor!r} is missing: {location!r}",
            "copy the data file beside the model",
        )


def _number(tensor: str, entries: dict[str, str], key: str) -> int:
    text = entries.get(key, "0")
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise SmithError(
            f"external data of {tensor!r} has the {key} {text[:40]!r}", "export the model again"
        )
    return int(text)


def _in_sparse(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    for sparse in graph.sparse_initializer:
        yield from filter(_is_external, (sparse.values, sparse.indices))


def _in_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from filter(_is_external, graph.initializer)
    yield from _in_sparse(graph)
    yield from _in_nodes(graph.node)


def _in_nodes(nodes: object) -> Iterator[onnx.TensorProto]:
    for node in nodes:  # type: ignore[attr-defined]  # protobuf's containers have no public type
        for attribute in node.attribute:
            yield from filter(_is_external, (attribute.t, *attribute.tensors))
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from filter(_is_external, (sparse.values, sparse.indices))
            for graph in (attribute.g, *attribute.graphs):
                if graph.node or graph.initializer or graph.sparse_initializer:
                    yield from _in_graph(graph)


def _is_external(tensor: onnx.TensorProto) -> bool:
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)
