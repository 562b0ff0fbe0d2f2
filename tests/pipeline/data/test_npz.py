import io
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.data import open_data, shared_samples
from onnxsmith.pipeline.data.archive import load_archive
from onnxsmith.pipeline.data.base import join
from onnxsmith.spec import ModelSpec, ValueSpec


def spec(*inputs: str) -> ModelSpec:
    return ModelSpec(tuple(ValueSpec.parse(text) for text in inputs), ())


X = np.arange(60, dtype=np.float32).reshape(12, 5)
Y = np.arange(12) % 3


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_streams_inputs_and_labels(tmp_path: Path, save) -> None:
    save(tmp_path / "d.npz", x=X, y=Y)
    source = open_data(f"npz:{tmp_path / 'd.npz'}")
    assert source.size == 12
    assert source.name == "npz:d.npz"
    batch = join(list(source.batches(5)))
    np.testing.assert_array_equal(batch.inputs["x"], X)
    np.testing.assert_array_equal(batch.labels, Y)


def test_fortran_order_and_label_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.asfortranarray(X), truth=Y)
    batch = join(list(open_data(f"npz:{tmp_path / 'd.npz'}?label=truth").batches(5)))
    np.testing.assert_array_equal(batch.inputs["x"], X)
    assert list(batch.inputs) == ["x"]
    np.testing.assert_array_equal(load_archive(str(tmp_path / "d.npz"))["x"], X)


def test_large_members_are_not_loaded(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "d.npz", x=np.zeros((4000, 4000), np.float32))
    source = open_data(f"npz:{tmp_path / 'd.npz'}")
    tracemalloc.start()
    total = sum(len(batch) for batch in source.batches(10))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 4000
    assert peak < 8e6  # the array has 64e6 bytes


def test_keras_style_splits(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x_train=X, y_train=Y, x_test=X[:4], y_test=Y[:4])
    text = f"npz:{tmp_path / 'd.npz'}"
    assert open_data(text).size == 12
    assert open_data(f"{text}?split=test").size == 4
    assert open_data(text, default_split="test").size == 4
    assert list(next(iter(open_data(text).batches(1))).inputs) == ["x"]


def test_content_split_keeps_equal_samples_together(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(0, 40, (2000, 1)).astype(np.float32)
    np.savez(tmp_path / "d.npz", x=rows)
    text = f"npz:{tmp_path / 'd.npz'}?split="
    train = {float(v) for b in open_data(text + "train").batches(64) for v in b.inputs["x"][:, 0]}
    test = {float(v) for b in open_data(text + "test").batches(64) for v in b.inputs["x"][:, 0]}
    assert train
    assert test
    assert not train & test
    assert len(train | test) == 40
    assert len(test) < len(train) / 2


def test_large_integers_are_told_apart(tmp_path: Path) -> None:
    for name, low in [("a", 2**24), ("b", 2**24 + 1)]:
        np.savez(tmp_path / f"{name}.npz", ids=np.array([[low], [2**40]]))
    first, second = (open_data(f"npz:{tmp_path / name}.npz") for name in "ab")
    assert shared_samples(first, second) == 1
    np.savez(tmp_path / "c.npz", x=np.float64([[7], [0.5], [-0.0]]))
    np.savez(tmp_path / "d.npz", x=np.array([[7], [8], [0]], np.uint8))
    first, second = (open_data(f"npz:{tmp_path / name}.npz") for name in "cd")
    assert shared_samples(first, second) == 2


def test_several_inputs_by_name_and_position(tmp_path: Path) -> None:
    np.savez(tmp_path / "n.npz", b=X, a=Y, other=X)
    wanted = spec("a:int64[N]", "b:float32[N,5]")
    batch = next(iter(open_data(f"npz:{tmp_path / 'n.npz'}", wanted).batches(2)))
    assert list(batch.inputs) == ["a", "b"]
    np.savez(tmp_path / "p.npz", in_0=Y, in_1=X)
    batch = next(iter(open_data(f"npz:{tmp_path / 'p.npz'}", wanted).batches(2)))
    np.testing.assert_array_equal(batch.inputs["b"], X[:2])


def test_an_input_called_y_is_no_label(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=X, y=X)
    source = open_data(f"npz:{tmp_path / 'd.npz'}", spec("x:float32[N,5]", "y:float32[N,5]"))
    assert next(iter(source.batches(1))).labels is None


def _zip(path: Path, **members: bytes) -> str:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return f"npz:{path}"


def _npy(shape: str, data: bytes, descr: str = "'<f4'") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (_npy("(3,)", b"\0" * 8), "promises 12 bytes, but has 8"),
        (_npy("(1000000000000,)", b"\0" * 8), "promises 4000000000000 bytes"),
        (_npy("(-1,)", b"\0" * 8), "promises"),
        (_npy("(2,)", b"\0" * 16, "'|O'"), "Python objects, which are refused"),
        (_npy("(2,)", b"\0" * 16, "[('a', '<f8')]"), "which no model takes"),
        (_npy("(2,)", b"\0" * 16, "'<M8[s]'"), "which no model takes"),
        (b"no array", "cannot be read"),
        (b"\x93NUMPY\x01\x00\xff\xff{", "cannot be read"),
        (b"\x93NUMPY\x09\x00", "cannot be read"),
        (b"", "cannot be read"),
    ],
)
def test_hostile_members(tmp_path: Path, member: bytes, message: str) -> None:
    with pytest.raises(SmithError, match=message) as caught:
        list(open_data(_zip(tmp_path / "d.npz", x=member)).batches(2))
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_pickles_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.asarray([{"a": 1}, None], object))
    with pytest.raises(SmithError, match="holds Python objects, which are refused"):
        open_data(f"npz:{tmp_path / 'd.npz'}")


@pytest.mark.parametrize("cut", [0, 10, 200, 390, -1])
def test_truncated_archives(tmp_path: Path, cut: int) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, x=X)
    (tmp_path / "d.npz").write_bytes(buffer.getvalue()[:cut])
    with pytest.raises(SmithError, match=r"is no .npz file|is damaged"):
        open_data(f"npz:{tmp_path / 'd.npz'}")


def test_flipped_bytes_are_noticed(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "d.npz", x=np.random.default_rng(0).random((500, 5)))
    data = bytearray((tmp_path / "d.npz").read_bytes())
    data[3000:3010] = b"\xff" * 10
    (tmp_path / "d.npz").write_bytes(data)
    with pytest.raises(SmithError, match="damaged"):
        list(open_data(f"npz:{tmp_path / 'd.npz'}").batches(10))


@pytest.mark.parametrize(
    ("arrays", "query", "message"),
    [
        ({"x": X, "y": Y[:3]}, "", "different lengths: x 12, y 3"),
        ({"y": Y}, "", "no array for the inputs"),
        ({"x": X, "y": np.float32(3)}, "", "'y' of 'd.npz' is a single value"),
        ({"x": X}, "?label=truth", "no array 'truth'"),
        ({"x_train": X, "y_train": Y}, "?split=test", "no split 'test'"),
    ],
)
def test_archives_that_are_no_data_set(
    tmp_path: Path, arrays: dict[str, np.ndarray], query: str, message: str
) -> None:
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(SmithError, match=message):
        open_data(f"npz:{tmp_path / 'd.npz'}{query}")


def test_single_array_file_gets_a_hint(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", X)
    with pytest.raises(SmithError, match=r"is no \.npz file") as caught:
        open_data(f"npz:{tmp_path / 'd.npy'}")
    assert "x=array" in caught.value.hint
