import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.data import open_data
from onnxsmith.pipeline.data.base import join

COUNT = 23
PIXELS = np.random.default_rng(0).integers(0, 256, (COUNT, 4, 5), np.uint8)
LABELS = np.arange(COUNT, dtype=np.uint8) % 10


def images(count: int = COUNT, rows: int = 4, columns: int = 5, magic: int = 0x803) -> bytes:
    return struct.pack(">4I", magic, count, rows, columns) + PIXELS.tobytes()


def labels(count: int = COUNT, magic: int = 0x801) -> bytes:
    return struct.pack(">2I", magic, count) + LABELS.tobytes()


def write(folder: Path, pixels: bytes, classes: bytes, ending: str = ".gz") -> str:
    pack = gzip.compress if ending else bytes
    (folder / f"t10k-images-idx3-ubyte{ending}").write_bytes(pack(pixels))
    (folder / f"t10k-labels-idx1-ubyte{ending}").write_bytes(pack(classes))
    return f"mnist:{folder}?split=test"


@pytest.mark.parametrize("ending", [".gz", ""])
def test_reads_plain_and_packed(tmp_path: Path, ending: str) -> None:
    source = open_data(write(tmp_path, images(), labels(), ending))
    assert source.size == COUNT
    batch = join(list(source.batches(10)))
    assert batch.inputs["x"].dtype == np.uint8
    np.testing.assert_array_equal(batch.inputs["x"], PIXELS[:, None])
    np.testing.assert_array_equal(batch.labels, LABELS)


def test_query(tmp_path: Path) -> None:
    text = write(tmp_path, images(), labels()) + "&scale=1/255&layout=NHWC"
    batch = next(iter(open_data(text).batches(3)))
    np.testing.assert_allclose(batch.inputs["x"], PIXELS[:3, :, :, None] / 255, rtol=1e-6)


@pytest.mark.parametrize(
    ("pixels", "classes", "message"),
    [
        (images(magic=0x802), labels(), "begins with 0x00000802"),
        (b"not an idx file at all", labels(), "no IDX file of rank 3"),
        (images(), labels(22), "promises 23 images, but .* 22 labels"),
        (images(rows=0), labels(), "images of 0 x 5"),
        (images(rows=2**31, columns=2**31), labels(), "pixels"),
        (images()[:9], labels(), "is truncated"),
        (images()[:-1], labels(), "'t10k-images-idx3-ubyte.*' is truncated: it ends 1 bytes early"),
        (images(), labels()[:-2], "'t10k-labels-idx1-ubyte.*' is truncated"),
        (images() + b"x", labels(), "longer than its header"),
        (images(), labels() + b"x", "longer than its header"),
        (images(4_000_000_000), labels(4_000_000_000), "is truncated"),
    ],
)
@pytest.mark.parametrize("ending", [".gz", ""])
def test_damaged_files(
    tmp_path: Path, pixels: bytes, classes: bytes, message: str, ending: str
) -> None:
    text = write(tmp_path, pixels, classes, ending)
    with pytest.raises(SmithError, match=message) as caught:
        list(open_data(text).batches(8))
    assert caught.value.hint
    assert str(tmp_path) not in caught.value.message


@pytest.mark.parametrize("cut", [2, 12, 40, 200, -9, -1])
def test_truncated_gzip(tmp_path: Path, cut: int) -> None:
    text = write(tmp_path, images(), labels())
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(SmithError, match=r"truncated or damaged|no IDX file|is truncated"):
        list(open_data(text).batches(8))


def test_garbage_in_gzip(tmp_path: Path) -> None:
    text = write(tmp_path, images(), labels())
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    data = bytearray(path.read_bytes())
    data[60:90] = b"\xff" * 30
    path.write_bytes(data)
    with pytest.raises(SmithError, match="truncated or damaged"):
        list(open_data(text).batches(8))


def test_missing_folder_file_and_split(tmp_path: Path) -> None:
    with pytest.raises(SmithError, match="does not exist"):
        open_data(f"mnist:{tmp_path / 'none'}")
    with pytest.raises(SmithError, match=r"'train-images-idx3-ubyte.gz' is missing"):
        open_data(f"mnist:{tmp_path}")
    (tmp_path / "file").touch()
    with pytest.raises(SmithError, match="is not a folder"):
        open_data(f"mnist:{tmp_path / 'file'}")
