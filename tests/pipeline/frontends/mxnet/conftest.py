"""MXNet's files made in memory, and a way to run what they become."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.pipeline.frontends.convert import ConvertResult, convert
from onnxsmith.runtime.session import Session

Array = np.ndarray[Any, Any]

# mshadow's type flags.
FLAGS = {"float32": 0, "float64": 1, "float16": 2, "uint8": 3, "int32": 4, "int8": 5, "int64": 6}
FLAGS |= {"bool": 7, "int16": 8, "uint16": 9, "uint32": 10, "uint64": 11}
V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA


def dims(shape: Sequence[int], code: str = "q", rank: str = "<i") -> bytes:
    return struct.pack(rank, len(shape)) + struct.pack(f"<{len(shape)}{code}", *shape)


def encode_array(array: Array, form: str = "v2") -> bytes:
    """Encode an array as MXNet 0.8 (v0), 0.9 to 0.12 (v1), 1.x (v2) or its numpy mode (v3) do."""
    head = {
        "v0": lambda: dims(array.shape, "I", "<I"),
        "v1": lambda: struct.pack("<I", V1) + dims(array.shape),
        "v2": lambda: struct.pack("<Ii", V2, 0) + dims(array.shape),
        "v3": lambda: struct.pack("<Ii", V3, 0) + dims(array.shape),
    }[form]()
    tail = struct.pack("<iii", 1, 0, FLAGS[str(array.dtype)])
    return head + tail + np.ascontiguousarray(array).tobytes()


def encode_params(
    arrays: Mapping[str, Array | bytes], form: str = "v2", prefix: str = "arg:"
) -> bytes:
    """Encode a whole file; an array may be given encoded already."""
    out = struct.pack("<QQQ", 0x112, 0, len(arrays))
    for array in arrays.values():
        out += array if isinstance(array, bytes) else encode_array(array, form)
    names = [(prefix + name).encode() for name in arrays]
    return (
        out
        + struct.pack("<Q", len(names))
        + b"".join(struct.pack("<Q", len(name)) + name for name in names)
    )


Node = tuple[str, str, Mapping[str, object], Sequence[Any]]


def encode_symbol(
    nodes: Sequence[Node], heads: Sequence[Any], version: int | None = 10901, key: str = "attrs"
) -> str:
    """Encode a graph; inputs and heads are nodes' numbers, or (number, output)."""

    def entry(value: Any) -> list[int]:
        return [*value, 0] if isinstance(value, tuple) else [value, 0, 0]

    listed = [
        {
            "op": op,
            "name": name,
            key: {k: str(v) for k, v in attrs.items()},
            "inputs": [entry(value) for value in inputs],
        }
        for op, name, attrs, inputs in nodes
    ]
    graph: dict[str, Any] = {
        "nodes": listed,
        "arg_nodes": [at for at, node in enumerate(nodes) if node[0] == "null"],
        "heads": [entry(value) for value in heads],
    }
    if version is not None:
        graph["attrs"] = {"mxnet_version": ["int", version]}
    return json.dumps(graph, indent=2)


class Files:
    """Writes MXNet's files, converts them and runs the result."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made = 0

    def write(
        self,
        nodes: Sequence[Node],
        heads: Sequence[Any],
        weights: Mapping[str, Array | bytes] | None = None,
        **options: Any,
    ) -> Path:
        self.made += 1
        path = self.folder / f"net{self.made}-symbol.json"
        path.write_text(encode_symbol(nodes, heads, **options))
        if weights is not None:
            params = self.folder / f"net{self.made}-0000.params"
            params.write_bytes(encode_params(weights))
        return path

    def convert(self, path: Path, **options: Any) -> ConvertResult:
        return convert(path, **{"verify": False, **options})

    def run(
        self, path: Path, feeds: Mapping[str, Array], *, batch: bool = False, **options: Any
    ) -> dict[str, Array]:
        """Convert with the fed shapes (``batch`` leaves the first sizes open), and run."""
        inputs = [
            f"{name}:{a.dtype}[{','.join(['batch' if batch else str(a.shape[0])] * (a.ndim > 0))}"
            f"{''.join(f',{dim}' for dim in a.shape[1:])}]"
            for name, a in feeds.items()
        ]
        return run(self.convert(path, inputs=inputs, **options).artifact, feeds)

    def outputs(
        self,
        op: str,
        attrs: Mapping[str, object],
        *data: Array,
        weights: Sequence[Array] = (),
        count: int = 1,
        batch: bool = True,
        **options: Any,
    ) -> list[Array]:
        """Run one operator named ``it`` on inputs and then weights, with open batches and without.

        Both must give the same; ``batch=False`` leaves out the first.
        """
        nodes: list[Node] = [("null", f"x{at}", {}, []) for at in range(len(data))]
        nodes += [("null", f"w{at}", {}, []) for at in range(len(weights))]
        nodes.append((op, "it", attrs, list(range(len(nodes)))))
        heads = [(len(nodes) - 1, number) for number in range(count)]
        named = {f"w{at}": array for at, array in enumerate(weights)}
        path = self.write(nodes, heads, named)
        feeds = {f"x{at}": array for at, array in enumerate(data)}
        found = list(self.run(path, feeds, **options).values())
        if batch:
            opened = self.run(path, feeds, batch=True, **options).values()
            for first, second in zip(found, opened, strict=True):
                assert first.shape == second.shape
                np.testing.assert_allclose(first, second, rtol=1e-6, atol=1e-6)
        return found

    def op(self, op: str, attrs: Mapping[str, object], *data: Array, **options: Any) -> Array:
        """Run one operator; return its only output."""
        return self.outputs(op, attrs, *data, **options)[0]


def run(artifact: Artifact, feeds: Mapping[str, Array]) -> dict[str, Array]:
    with Session(artifact, optimize=False, threads=1) as session:
        return session.run(dict(feeds))


def assert_close(found: Array, expected: Array, tolerance: float = 1e-5) -> None:
    """Compare shapes, and values by the largest magnitude."""
    expected = np.asarray(expected)
    assert found.shape == expected.shape
    largest = np.abs(expected[np.isfinite(expected)]).max(initial=1e-3)
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * float(largest))


@pytest.fixture
def mxnet(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
def close() -> Callable[..., None]:
    return assert_close


@pytest.fixture(scope="session")
def symbol() -> Callable[..., str]:
    """Encode a ``-symbol.json`` file."""
    return encode_symbol


@pytest.fixture(scope="session")
def params() -> Callable[..., bytes]:
    """Encode a ``.params`` file."""
    return encode_params


@pytest.fixture(scope="session")
def stored() -> Callable[..., bytes]:
    """Encode one array."""
    return encode_array


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)
