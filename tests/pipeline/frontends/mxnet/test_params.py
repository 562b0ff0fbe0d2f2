""".params files of all versions, and what is said about damaged ones."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.mxnet.params import Params, read_params

Array = np.ndarray[Any, Any]
V2, V3 = 0xF993FAC9, 0xF993FACA
DTYPES = [
    "float32",
    "float64",
    "float16",
    "uint8",
    "int32",
    "int8",
    "int64",
    "bool",
    "int16",
    "uint16",
    "uint32",
    "uint64",
]


@pytest.fixture
def read(tmp_path: Path) -> Callable[[bytes], Params]:
    def read(data: bytes) -> Params:
        path = tmp_path / "net-0000.params"
        path.write_bytes(data)
        return read_params(path)

    return read


@pytest.mark.parametrize("form", ["v0", "v1", "v2", "v3"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_layout(read: Any, params: Any, form: str, dtype: str) -> None:
    arrays = {
        "weight": np.arange(24).reshape(2, 3, 4).astype(dtype),
        "bias": np.array([3, 0, 1]).astype(dtype),
    }
    found = read(params(arrays, form)).by_name()
    assert list(found) == ["weight", "bias"]
    for name, array in arrays.items():
        assert str(found[name].numpy().dtype) == dtype
        np.testing.assert_array_equal(found[name].numpy(), array)
        np.testing.assert_array_equal(found[name].tensor(name).numpy(), array)


@pytest.mark.parametrize("prefix", ["arg:", "aux:", ""])
def test_names_lose_their_prefix(read: Any, params: Any, prefix: str) -> None:
    """Checkpoints and exports have one, save_parameters has none."""
    array = np.ones(2, np.float32)
    assert list(read(params({"conv0_weight": array}, prefix=prefix)).by_name()) == ["conv0_weight"]
    odd = read(params({"aux:x": array, "arg:y": array}, prefix="arg:")).by_name()
    assert list(odd) == ["aux:x", "arg:y"]  # one prefix is MXNet's, the other a name's


def test_one_name_twice(read: Any, params: Any, stored: Any) -> None:
    one = stored(np.ones(2, np.float32))
    data = params({"x": one, "y": one}, prefix="")
    again = data[:-1] + b"x"
    with pytest.raises(SmithError, match="the file of weights holds 'x' twice"):
        read(again).by_name()


def test_values_of_arrays_that_were_never_filled(read: Any, params: Any) -> None:
    empty = struct.pack("<Iii", V2, 0, 0)
    unknown = struct.pack("<Iii", V3, 0, -1)
    old = struct.pack("<I", 0)
    ones = np.ones(2, np.float32)
    for array in (empty, unknown, old):
        assert list(read(params({"a": array, "b": ones})).by_name()) == ["b"]


def test_scalars_of_the_numpy_mode(read: Any, params: Any) -> None:
    found = read(params({"s": np.array(2.5, np.float32)}, "v3")).by_name()["s"]
    assert found.shape == ()
    assert found.numpy() == 2.5


def test_large_values_stay_in_the_file(read: Any, params: Any) -> None:
    big, small = np.arange(40_000, dtype=np.float32), np.ones(3, np.float32)
    found = read(params({"small": small, "big": big})).by_name()
    tensor = found["big"].tensor("big", (200, 200))
    assert type(tensor).__name__ == "ExternalWeight"
    np.testing.assert_array_equal(tensor.numpy(), big.reshape(200, 200))
    assert type(found["small"].tensor("small")).__name__ == "Tensor"


def test_a_file_that_changes_while_it_is_read(read: Any, params: Any, tmp_path: Path) -> None:
    found = read(params({"w": np.ones(3, np.float32)})).by_name()["w"]
    (tmp_path / "net-0000.params").write_bytes(b"something else")
    with pytest.raises(SmithError, match="has changed while it was read"):
        found.numpy()


def shape(*dims: int) -> bytes:
    return struct.pack(f"<i{len(dims)}q", len(dims), *dims)


def row_sparse(dense: Array, rows: list[int], count: int | None = None) -> bytes:
    kept = dense[[row % len(dense) for row in rows]]
    return (
        struct.pack("<Ii", V2, 1)
        + shape(len(rows) if count is None else count, *dense.shape[1:])
        + shape(*dense.shape)
        + struct.pack("<iii", 1, 0, 0)
        + struct.pack("<i", 6)
        + shape(len(rows))
        + kept.tobytes()
        + np.array(rows, np.int64).tobytes()
    )


def csr(dense: Array, starts: list[int] | None = None, columns: list[int] | None = None) -> bytes:
    at = np.nonzero(dense)
    found = np.concatenate([[0], np.cumsum((dense != 0).sum(1))]) if starts is None else starts
    where = list(at[1]) if columns is None else columns
    return (
        struct.pack("<Ii", V2, 2)
        + shape(len(at[0]))
        + shape(*dense.shape)
        + struct.pack("<iii", 1, 0, 0)
        + struct.pack("<i", 6)
        + shape(len(found))
        + struct.pack("<i", 6)
        + shape(len(where))
        + dense[at].tobytes()
        + np.array(found, np.int64).tobytes()
        + np.array(where, np.int64).tobytes()
    )


DENSE = np.array([[0, 0, 0], [1, 0, 2], [0, 0, 0], [0, 3, 0]], np.float32)


def test_sparse_arrays(read: Any, params: Any) -> None:
    data = params({"rows": row_sparse(DENSE, [1, 3]), "csr": csr(DENSE), "x": DENSE})
    found = read(data).by_name()
    for name in ("rows", "csr", "x"):
        np.testing.assert_array_equal(found[name].numpy(), DENSE)
        np.testing.assert_array_equal(found[name].tensor(name, (2, 6)).numpy(), DENSE.reshape(2, 6))
    none = read(params({"rows": row_sparse(DENSE, [])})).by_name()["rows"]
    np.testing.assert_array_equal(none.numpy(), np.zeros((4, 3)))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (row_sparse(DENSE, [1, 4]), "a sparse array has rows outside its shape"),
        (row_sparse(DENSE, [-1, 3]), "a sparse array has rows outside its shape"),
        (row_sparse(DENSE, [1, 3], 1), "the parts of a sparse array do not fit together"),
        (csr(DENSE, [0, 3, 2, 2, 3]), "a sparse array has columns outside its shape"),
        (csr(DENSE, columns=[0, 5, 1]), "a sparse array has columns outside its shape"),
        (csr(DENSE, columns=[0, -1, 1]), "a sparse array has columns outside its shape"),
        (csr(DENSE, [1, 1, 2, 2, 3]), "a sparse array has columns outside its shape"),
        (csr(DENSE, [0, 0, 2, 3]), "a sparse array has columns outside its shape"),
        (
            struct.pack("<Ii", V2, 1)
            + shape(0, 2**20)
            + shape(2**20, 2**20)
            + struct.pack("<iiii", 1, 0, 0, 6)
            + shape(0),
            r"a sparse array claims 4398046511104 bytes in its dense form",
        ),
    ],
)
def test_sparse_arrays_that_lie(read: Any, params: Any, array: bytes, message: str) -> None:
    with pytest.raises(SmithError, match=message):
        read(params({"x": array})).by_name()["x"].numpy()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04" + b"\0" * 60, "is not a .params file of MXNet"),
        (struct.pack("<QQQ", 0x112, 0, 2**63), "it claims 9223372036854775808 arrays"),
        (struct.pack("<QQQ", 0x112, 0, 5), "it ends at byte 24, inside an array or a name"),
        (struct.pack("<QQQI", 0x112, 0, 1, 33), "an array has 33 dimensions"),
        (struct.pack("<QQQIi", 0x112, 0, 1, V2, 7), "an array has the storage type 7"),
        (struct.pack("<QQQIii", 0x112, 0, 1, V2, 0, -3), "an array has -3 dimensions"),
        (
            struct.pack("<QQQIii2q", 0x112, 0, 1, V2, 0, 2, 2**40, 2**40),
            r"an array has the shape \[1099511627776, 1099511627776\]",
        ),
        (struct.pack("<QQQIiiq", 0x112, 0, 1, V2, 0, 1, -5), r"an array has the shape \[-5\]"),
        (
            struct.pack("<QQQIiiqiii", 0x112, 0, 1, V2, 0, 1, 4, 1, 0, 99),
            "an array has the element type 99",
        ),
        (
            struct.pack("<QQQIiiqiii", 0x112, 0, 1, V2, 0, 1, 2**40, 1, 0, 0),
            "inside an array or a name",
        ),
        (struct.pack("<QQQQ", 0x112, 0, 0, 3), "it has 0 arrays, but 3 names"),
    ],
)
def test_files_that_lie(read: Any, data: bytes, message: str) -> None:
    with pytest.raises(SmithError, match=message):
        read(data)


def test_names_that_lie(read: Any, stored: Any) -> None:
    body = struct.pack("<QQQ", 0x112, 0, 1) + stored(np.ones(2, np.float32)) + struct.pack("<Q", 1)
    with pytest.raises(SmithError, match="a name claims 1099511627776 bytes"):
        read(body + struct.pack("<Q", 2**40) + b"x")
    with pytest.raises(SmithError, match="a name is not UTF-8"):
        read(body + struct.pack("<Q", 2) + b"\xff\xfe")
    with pytest.raises(SmithError, match="inside an array or a name"):
        read(body + struct.pack("<Q", 9) + b"short")


def test_a_list_without_names(read: Any, stored: Any) -> None:
    data = struct.pack("<QQQ", 0x112, 0, 1) + stored(np.ones(2, np.float32)) + struct.pack("<Q", 0)
    with pytest.raises(SmithError, match="holds a list without names"):
        read(data).by_name()


@pytest.mark.parametrize("form", ["v0", "v1", "v2", "v3"])
def test_truncation_at_every_byte(read: Any, params: Any, form: str) -> None:
    data = params({"a": np.ones((2, 3), np.float32), "b": np.ones(3, np.int8)}, form)
    for end in range(len(data)):
        with pytest.raises(SmithError):
            read(data[:end])
    assert len(read(data).by_name()) == 2


def test_sparse_truncation_at_every_byte(read: Any, params: Any) -> None:
    data = params({"a": row_sparse(DENSE, [1, 3]), "b": csr(DENSE)})
    for end in range(len(data)):
        with pytest.raises(SmithError):
            read(data[:end])


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(SmithError, match=r"cannot read .*: No such file"):
        read_params(tmp_path / "missing.params")
    with pytest.raises(SmithError, match=r"cannot read .*: Is a directory"):
        read_params(tmp_path)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    dims=st.lists(st.integers(1, 4), min_size=1, max_size=6),
    dtype=st.sampled_from(DTYPES),
    form=st.sampled_from(["v0", "v1", "v2", "v3"]),
    name=st.text(min_size=1, max_size=30),
)
def test_any_array_comes_back(
    read: Any, params: Any, dims: list[int], dtype: str, form: str, name: str
) -> None:
    array = (np.arange(np.prod(dims)) % 7).reshape(dims).astype(dtype)
    found = read(params({name: array}, form)).by_name()[name]
    np.testing.assert_array_equal(found.numpy(), array)
