"""The reader of ``.tflite`` files: what it finds, and that no file leads it astray."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.tflite.flatbuffer import Budget, FlatbufferError, Table, root
from onnxsmith.pipeline.frontends.tflite.frontend import TfliteFrontend
from onnxsmith.pipeline.frontends.tflite.schema import read_file, read_graphs

CORPUS = Path(__file__).parent / "corpus"
FILES = sorted(CORPUS.glob("*.tflite"))
MUTATIONS = 5000  # of each of the two sound files


def attempt(data: bytes) -> str:
    """Read; return what was wrong, or nothing."""
    try:
        read_graphs(memoryview(data))
    except FlatbufferError as error:
        return str(error)
    return ""


def test_a_float_file() -> None:
    (graph,) = read_file(CORPUS / "float.tflite")
    (image,) = (graph.tensors[index] for index in graph.inputs)
    assert (image.name, image.dtype, image.shape) == (
        "serving_default_image:0", "float32", (1, 4, 4, 2),
    )  # fmt: skip
    (scores,) = (graph.tensors[index] for index in graph.outputs)
    assert (scores.dtype, scores.shape) == ("float32", (1, 2))
    assert [operator.code for operator in graph.operators] == [3, 40, 9, 25]  # CONV_2D to SOFTMAX
    assert not graph.quantized
    weights = [tensor.shape for tensor in graph.tensors if tensor.constant]
    assert (3, 2, 2, 2) in weights


def test_an_integer_file() -> None:
    (graph,) = read_file(CORPUS / "int8.tflite")
    (image,) = (graph.tensors[index] for index in graph.inputs)
    assert image.dtype == "int8"
    assert len(image.scale) == 1
    assert 0.001 < image.scale[0] < 0.1
    assert graph.quantized
    kernel = next(t for t in graph.tensors if t.shape == (3, 2, 2, 2))
    assert len(kernel.scale) == 3  # one for each channel


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files_cut_short_anywhere_are_refused_or_read(path: Path) -> None:
    data = path.read_bytes()
    refused = sum(bool(attempt(data[:length])) for length in range(len(data)))
    assert refused > 0.9 * len(data)


@pytest.mark.parametrize("path", [p for p in FILES if p.stem in ("float", "int8")])
def test_mutations_are_refused_or_read(path: Path) -> None:
    data = np.frombuffer(path.read_bytes(), np.uint8)
    generator = np.random.default_rng(7)
    refused = 0
    try:
        for number in range(MUTATIONS):
            if number == MUTATIONS - 300:  # watching makes it slow
                tracemalloc.start()
            changed = data.copy()
            places = generator.integers(0, len(data), 1 + number % 4)
            kind = number % 3
            if kind == 0:
                changed[places] = generator.integers(0, 256, len(places))
            elif kind == 1:
                changed[places] = 255
            else:  # a length or an offset that lies
                place = int(places[0]) & ~3
                changed[place : place + 4] = generator.integers(0, 256, 4)
            refused += bool(attempt(changed.tobytes()))
        assert tracemalloc.get_traced_memory()[1] < 20 * 1024 * 1024
    finally:
        tracemalloc.stop()
    assert refused > MUTATIONS / 10


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_behind_the_identifier(tail: bytes) -> None:
    attempt(struct.pack("<I", 8) + b"TFL3" + tail)


def test_vectors_that_lie_about_their_length() -> None:
    data = bytearray(struct.pack("<I4sI", 12, b"TFL3", 0))
    # A table of one field that leads to a vector of 2**31 numbers.
    data += struct.pack("<iI", 12 - 20, 4) + struct.pack("<HHHH", 6, 8, 4, 0) + b"\xff\xff\xff\x7f"
    table = root(memoryview(bytes(data)))
    with pytest.raises(FlatbufferError):
        table.numbers(0, "<i8")
    with pytest.raises(FlatbufferError):
        list(table.tables(0))


def test_offsets_that_lead_nowhere_are_named() -> None:
    with pytest.raises(FlatbufferError, match="beyond the file"):
        root(memoryview(b"\xff\xff\xff\xff")).number(0, "i")
    with pytest.raises(FlatbufferError, match="beyond the file"):
        Table(memoryview(bytes(8)), -4, Budget(8)).number(0, "i")


def crowded(entries: int, name: int) -> bytes:
    """Return a file whose graph lists one tensor many times, of a name of ``name`` bytes.

    Offsets lead forward only: each table's list of fields stands before it, what it holds behind.
    """
    text = struct.pack("<I", name) + b"n" * name + bytes(-name % 4)
    tensor = struct.pack("<HHHHHH", 12, 8, 0, 0, 0, 4) + struct.pack("<iI", 12, 4) + text
    graph = struct.pack("<HHHH", 6, 8, 4, 0) + struct.pack("<iII", 8, 4, entries)
    graph += (4 * entries + 12 - 4 * np.arange(entries)).astype("<u4").tobytes()
    model = struct.pack("<HHHHHH", 10, 8, 0, 0, 4, 0) + struct.pack("<iIII", 12, 4, 1, 4 + 8)
    return struct.pack("<I4s", 8 + 12, b"TFL3") + model + graph + tensor


@pytest.mark.parametrize(
    ("entries", "name", "reason"),
    [(1_000_000, 4, "more than 100000 tensors"), (50_000, 1 << 20, "lie over each other")],
)
def test_a_tensor_that_is_listed_many_times_is_not_read_as_often(
    entries: int, name: int, reason: str
) -> None:
    (graph,) = read_graphs(memoryview(crowded(3, 4)))
    assert [tensor.name for tensor in graph.tensors] == ["nnnn"] * 3
    assert reason in attempt(crowded(entries, name))


def changed_file(tmp_path: Path, old: bytes, new: bytes) -> Path:
    data = (CORPUS / "float.tflite").read_bytes()
    assert data.count(old) >= 1
    path = tmp_path / "changed.tflite"
    path.write_bytes(data.replace(old, new, 1))
    return path


def test_a_weight_of_another_size_than_its_shape_is_refused(tmp_path: Path) -> None:
    shape = struct.pack("<5i", 4, 3, 2, 2, 2)
    path = changed_file(tmp_path, shape, struct.pack("<5i", 4, 3, 2, 2, 1 << 30))
    with pytest.raises(SmithError, match="bytes where its shape asks"):
        read_file(path)


def test_an_input_that_is_not_there_is_refused(tmp_path: Path) -> None:
    (graph,) = read_file(CORPUS / "float.tflite")
    path = changed_file(
        tmp_path,
        struct.pack("<2i", 1, graph.outputs[0]),
        struct.pack("<2i", 1, len(graph.tensors)),
    )
    with pytest.raises(SmithError, match="a tensor has the number"):
        read_file(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tflite"
    with pytest.raises(SmithError, match="there is no file"):
        read_file(path)
    path.write_bytes(b"short")
    with pytest.raises(SmithError, match="it has 5 bytes"):
        read_file(path)
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(SmithError, match="it does not begin with TFL3"):
        read_file(path)


def test_files_are_recognised_by_their_suffix() -> None:
    frontend = TfliteFrontend()
    assert frontend.match("a/net.TFLITE") is not None
    assert frontend.match("a/net.onnx") is None
    assert frontend.match_object(object()) is None
    assert frontend.packages == ("tensorflow", "tf2onnx")
