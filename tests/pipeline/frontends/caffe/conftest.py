"""Caffe files made in memory, and a way to run what they become."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.pipeline.frontends.convert import ConvertResult, convert
from onnxsmith.runtime.session import Session

Array = np.ndarray[Any, Any]
Blobs = Mapping[str, Sequence[Array]]


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def record(number: int, payload: bytes | int) -> bytes:
    """Encode a field: a number, or bytes with their length."""
    if isinstance(payload, int):
        return varint(number << 3) + varint(payload)
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def encode_blob(array: Array, kind: str = "packed") -> bytes:
    """Encode a BlobProto: packed, single (unpacked), double, or legacy (four sizes)."""
    flat = np.ascontiguousarray(array).reshape(-1)
    if kind == "legacy":
        dims = [1] * (4 - array.ndim) + list(array.shape)
        head = b"".join(record(number + 1, dim) for number, dim in enumerate(dims))
    else:
        head = record(7, record(1, b"".join(varint(dim) for dim in array.shape)))
    if kind == "double":
        return head + record(8, flat.astype("<f8").tobytes())
    if kind == "single":
        values = flat.astype("<f4")
        return head + b"".join(varint(5 << 3 | 5) + value.tobytes() for value in values)
    return head + record(5, flat.astype("<f4").tobytes())


def encode_weights(blobs: Blobs, form: str = "current", kind: str = "packed") -> bytes:
    """Encode a NetParameter with the layers' names and blobs: current, v1 or v0."""
    out = b""
    for name, arrays in blobs.items():
        encoded = [encode_blob(np.asarray(array, np.float32), kind) for array in arrays]
        if form == "current":
            body = record(1, name.encode()) + b"".join(record(7, one) for one in encoded)
            out += record(100, body)
        elif form == "v1":
            body = record(4, name.encode()) + b"".join(record(6, one) for one in encoded)
            out += record(2, body)
        else:
            inner = record(1, name.encode()) + b"".join(record(50, one) for one in encoded)
            out += record(2, record(1, inner))
    return record(1, b"net") + out


class Files:
    """Writes Caffe's files, converts them and runs the result."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made = 0

    def write(self, text: str, blobs: Blobs | None = None) -> Path:
        self.made += 1
        path = self.folder / f"net{self.made}.prototxt"
        path.write_text(text)
        if blobs is not None:
            path.with_suffix(".caffemodel").write_bytes(encode_weights(blobs))
        return path

    def convert(self, text: str, blobs: Blobs | None = None, **options: Any) -> ConvertResult:
        return convert(self.write(text, blobs), **{"verify": False, **options})

    def artifact(self, text: str, blobs: Blobs | None = None, **options: Any) -> Artifact:
        return self.convert(text, blobs, **options).artifact

    def run(
        self, text: str, blobs: Blobs | None, feeds: Mapping[str, Array], **options: Any
    ) -> dict[str, Array]:
        """Convert and run: with the shapes that the file declares and that are fed."""
        return run(self.artifact(text, blobs, **options), feeds)

    def layer(
        self, kind: str, settings: str, arrays: Sequence[Array], *bottoms: Array, **options: Any
    ) -> Array:
        """Run one layer named ``it`` on inputs ``x0``, ``x1``, ...; return its first output."""
        text = layer_text(kind, settings, [b.shape for b in bottoms])
        feeds = {f"x{at}": bottom for at, bottom in enumerate(bottoms)}
        return self.run(text, {"it": arrays}, feeds, **options)["y"]


def layer_text(kind: str, settings: str, shapes: Sequence[tuple[int, ...]]) -> str:
    inputs = "".join(
        f'layer {{ name: "x{at}" type: "Input" top: "x{at}" input_param {{ shape {{'
        f"{''.join(f' dim: {dim}' for dim in shape)} }} }} }}\n"
        for at, shape in enumerate(shapes)
    )
    bottoms = "".join(f' bottom: "x{at}"' for at in range(len(shapes)))
    return f'{inputs}layer {{ name: "it" type: "{kind}"{bottoms} top: "y" {settings} }}\n'


def run(artifact: Artifact, feeds: Mapping[str, Array]) -> dict[str, Array]:
    with Session(artifact, optimize=False, threads=1) as session:
        return session.run({name: array.astype(np.float32) for name, array in feeds.items()})


@pytest.fixture
def caffe(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture(scope="session")
def weights() -> Callable[..., bytes]:
    """Encode a ``.caffemodel``."""
    return encode_weights


@pytest.fixture(scope="session")
def wire() -> Callable[[int, bytes | int], bytes]:
    """Encode one protobuf field."""
    return record


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)
