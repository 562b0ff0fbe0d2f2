"""Weights that are read, or transposed, when they are needed."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.storage.tensors import ExternalWeight, FileTensor, TransposedTensor, read_array

Load = Callable[..., Artifact]


def in_file(path: Path, array: np.ndarray, before: int) -> FileTensor:
    """Write an array behind some other bytes; return it as a weight of that file."""
    path.write_bytes(b"\7" * before + array.tobytes() + b"\7" * 9)
    dtype = ir.DataType.from_numpy(array.dtype)
    proto = ir.to_proto(ir.Tensor(np.empty(array.shape, array.dtype), dtype, name="w"))
    identity = (path.stat().st_dev, path.stat().st_ino, path.stat().st_size)
    return ExternalWeight(
        path, (*identity, path.stat().st_mtime_ns), before, before + array.nbytes, proto
    )


@pytest.mark.parametrize("dtype", [np.float32, np.bool_, ml_dtypes.bfloat16, np.complex64])
def test_a_weight_is_read_from_its_place(tmp_path: Path, dtype: type) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    tensor = in_file(tmp_path / "w.data", array, before=5)
    found = read_array(tensor)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)
    assert tensor.raw is None  # nothing stays mapped


def test_a_weight_whose_file_was_cut_is_an_error(tmp_path: Path) -> None:
    tensor = in_file(tmp_path / "w.data", np.zeros(8, np.float32), before=0)
    (tmp_path / "w.data").write_bytes(b"short")
    with pytest.raises(SmithError, match="was replaced"):
        read_array(tensor)


@pytest.mark.parametrize("rank", [1, 2, 3, 4])
def test_axes_in_every_order(tmp_path: Path, rank: int) -> None:
    """Sizes beyond one piece of rows, all different so that none can be taken for another."""
    sizes = (70, 33, 3, 5)[:rank]
    array = np.arange(np.prod(sizes), dtype=np.float32).reshape(sizes)
    tensor = in_file(tmp_path / "w.data", array, before=4)
    for order in itertools.permutations(range(rank)):
        result = TransposedTensor(tensor, order, "t")
        expected = array.transpose(order)
        assert list(result.shape) == list(expected.shape)
        np.testing.assert_array_equal(result.numpy(), expected)
        assert result.tobytes() == expected.tobytes()


def test_orders_add_up() -> None:
    array = np.arange(24, dtype=np.int64).reshape(2, 3, 4)
    once = TransposedTensor(ir.Tensor(array), (1, 2, 0), "a")
    twice = TransposedTensor(once, (1, 0, 2), "b")
    assert not isinstance(twice.source, TransposedTensor)
    np.testing.assert_array_equal(twice.numpy(), array.transpose(1, 2, 0).transpose(1, 0, 2))
