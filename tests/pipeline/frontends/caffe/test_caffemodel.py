"""Weights, found in their file without being read."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.caffe.caffemodel import Caffemodel
from onnxsmith.storage.tensors import EmbeddedTensor

W = np.random.default_rng(1).normal(size=(200, 100)).astype(np.float32)
B = np.arange(5, dtype=np.float32) - 2.25


@pytest.fixture
def load(tmp_path: Path) -> Callable[[bytes], Caffemodel]:
    def write(data: bytes) -> Caffemodel:
        path = tmp_path / "net.caffemodel"
        path.write_bytes(data)
        return Caffemodel(path)

    return write


@pytest.mark.parametrize("form", ["current", "v1", "v0"])
@pytest.mark.parametrize("kind", ["packed", "double", "single", "legacy"])
def test_every_form_of_layer_and_blob(load: Any, weights: Any, form: str, kind: str) -> None:
    model = load(weights({"fc": [W, B], "other": [B]}, form, kind))
    assert list(model.blobs) == ["fc", "other"]
    first, second = model.blobs["fc"]
    assert first.shape == ((1, 1, 200, 100) if kind == "legacy" else (200, 100))
    assert (first.values, second.values) == (W.size, B.size)
    np.testing.assert_array_equal(model.array(first).reshape(W.shape), W)
    np.testing.assert_array_equal(model.array(second), B)


def test_large_packed_weights_stay_in_the_file(load: Any, weights: Any) -> None:
    model = load(weights({"fc": [W, B]}))
    large, small = model.blobs["fc"]
    tensor = model.tensor(large, (200, 100), "w")
    assert isinstance(tensor, EmbeddedTensor)
    np.testing.assert_array_equal(tensor.numpy(), W)
    assert model.tensor(small, (5,), "b") is None
    for kind in ("double", "single"):
        model = load(weights({"fc": [W]}, "current", kind))
        assert model.tensor(model.blobs["fc"][0], (200, 100), "w") is None


def test_a_file_that_changes_under_the_weights_is_noticed(load: Any, weights: Any) -> None:
    model = load(weights({"fc": [W]}))
    tensor = model.tensor(model.blobs["fc"][0], (200, 100), "w")
    load(weights({"fc": [W, B]}))
    with pytest.raises(SmithError, match="was replaced after"):
        tensor.numpy()


def test_single_values_among_other_fields(load: Any, wire: Any) -> None:
    """Values that are not packed may be interrupted, and come in several pieces."""
    one = bytes([5 << 3 | 5])
    values = np.arange(300, dtype="<f4")
    body = b"".join(one + v.tobytes() for v in values[:100])
    body += wire(7, wire(1, b"\xac\x02"))
    body += b"".join(one + v.tobytes() for v in values[100:299]) + wire(5, values[299:].tobytes())
    model = load(wire(100, wire(1, b"l") + wire(7, body)))
    (blob,) = model.blobs["l"]
    assert (blob.shape, blob.values) == ((300,), 300)
    np.testing.assert_array_equal(model.array(blob), values)


def test_double_values_win_over_floats(load: Any, wire: Any) -> None:
    body = wire(5, np.float32([1, 2]).tobytes()) + wire(8, np.float64([3, 4]).tobytes())
    model = load(wire(100, wire(1, b"l") + wire(7, body)))
    np.testing.assert_array_equal(model.array(model.blobs["l"][0]), [3, 4])


def test_sizes_that_are_not_packed(load: Any, wire: Any) -> None:
    shape = wire(1, 2) + wire(1, 3)
    body = wire(7, shape) + wire(5, np.zeros(6, "<f4").tobytes())
    (blob,) = load(wire(100, wire(1, b"l") + wire(7, body))).blobs["l"]
    assert blob.shape == (2, 3)


def test_layers_without_blobs_are_left_out(load: Any, wire: Any) -> None:
    assert load(wire(100, wire(1, b"relu"))).blobs == {}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"\x89HDF\r\n\x1a\n" + bytes(60), "is HDF5"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a page of text"),
        (b"<!DOCTYPE html><html>", "a page of text"),
        (b'name: "LeNet"\nlayer { }', "is not a caffemodel"),
        (b"\x0a\x03net", "it has no layers"),
        (bytes(1000), "field number 0"),
        (b"\xa2\x06\xff\xff\xff\xff\x0f", "claims 4294967295 bytes, but 0 are left"),
    ],
)
def test_other_files_are_named(load: Any, data: bytes, message: str) -> None:
    with pytest.raises(SmithError) as caught:
        load(data)
    assert message in caught.value.message


def test_blobs_that_lie_are_refused(load: Any, wire: Any) -> None:
    def layer(blob: bytes) -> bytes:
        return wire(100, wire(1, b"l") + wire(7, blob))

    cases = {
        wire(5, b"12345"): "end within a number",
        wire(5, 7): "of another type",
        wire(7, wire(1, b"\xff" * 9 + b"\x01")): "claims the size",
        wire(7, wire(1, b"\x01" * 40)): "more than 32 dimensions",
        wire(7, b"\x0a\x80"): "is not a caffemodel",
    }
    for blob, message in cases.items():
        with pytest.raises(SmithError, match=message):
            load(layer(blob))


def test_more_records_than_any_network_has_are_refused(load: Any, wire: Any) -> None:
    with pytest.raises(SmithError, match="more than 100,000 records"):
        load(wire(1, b"") * 400_000)
    # Alternating fields, so that no run of values is long.
    many = (bytes([5 << 3 | 5]) + bytes(4) + wire(1, 1)) * 400_000
    with pytest.raises(SmithError, match="more than 100,000 records"):
        load(wire(100, wire(7, many)))


def test_a_folder_and_a_missing_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(SmithError, match=r"cannot read|not a regular file"):
        Caffemodel(tmp_path)
    with pytest.raises(SmithError, match="cannot read"):
        Caffemodel(tmp_path / "none.caffemodel")


def test_truncation_at_every_byte(load: Any, weights: Any) -> None:
    """Only between layers can a file end and still be one."""
    data = weights({"a": [B], "b": [B[:2], B[:1]]})
    whole = []
    for end in range(len(data)):
        with contextlib.suppress(SmithError):
            if load(data[:end]).blobs:
                whole.append(end)
    assert whole == [len(weights({"a": [B]}))]  # behind the first layer


def test_values_beyond_float32_become_infinite_without_a_warning(load: Any, wire: Any) -> None:
    body = wire(8, struct.pack("<d", 1e300))
    model = load(wire(100, wire(1, b"l") + wire(7, body)))
    assert np.isinf(model.array(model.blobs["l"][0])).all()
