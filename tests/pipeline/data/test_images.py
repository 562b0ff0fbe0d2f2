import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.data import open_data
from onnxsmith.pipeline.data.base import Batch, join
from onnxsmith.spec import ModelSpec, ValueSpec

RED, BLUE = (255, 0, 10), (0, 20, 255)


def picture(path: Path, color: tuple[int, int, int], size: tuple[int, int] = (6, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    picture(tmp_path / "red" / "b.png", RED)
    picture(tmp_path / "blue" / "a.png", BLUE)
    picture(tmp_path / "blue" / "c.png", BLUE)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "blue" / "notes.txt").touch()
    return tmp_path


def read(folder: Path, query: str = "", spec: ModelSpec | None = None) -> Batch:
    return join(list(open_data(f"images:{folder}{query}", spec).batches(2)))


def test_folders_are_classes(folder: Path) -> None:
    batch = read(folder)
    assert batch.inputs["x"].shape == (3, 3, 4, 6)
    assert batch.inputs["x"].dtype == np.uint8
    np.testing.assert_array_equal(batch.labels, [0, 0, 1])
    assert batch.inputs["x"][2, :, 0, 0].tolist() == list(RED)
    assert open_data(f"images:{folder}").classes == ("blue", "red")


def test_layout_color_and_normalisation(folder: Path) -> None:
    batch = read(folder, "?layout=NHWC&color=bgr")
    assert batch.inputs["x"].shape == (3, 4, 6, 3)
    assert batch.inputs["x"][2, 0, 0].tolist() == list(RED[::-1])
    batch = read(folder, "?scale=1/255&mean=0.5,0.25,0&std=1,2,4")
    expected = (np.array(RED) / 255 - [0.5, 0.25, 0]) / [1, 2, 4]
    np.testing.assert_allclose(batch.inputs["x"][2, :, 0, 0], expected, rtol=1e-5, atol=1e-7)


def test_size_layout_and_channels_follow_the_model(folder: Path) -> None:
    nhwc = ModelSpec((ValueSpec.parse("im:float32[N,8,10,3]"),), ())
    batch = read(folder, "", nhwc)
    assert batch.inputs["im"].shape == (3, 8, 10, 3)
    assert batch.inputs["im"].dtype == np.float32
    gray = ModelSpec((ValueSpec.parse("im:float32[N,1,5,5]"),), ())
    assert read(folder, "", gray).inputs["im"].shape == (3, 1, 5, 5)


def test_resize_and_crop(tmp_path: Path) -> None:
    # Columns of one colour each tell whether the middle was cut.
    pixels = np.repeat(np.arange(20, dtype=np.uint8)[None, :, None], 10, 0).repeat(3, 2)
    Image.fromarray(pixels).save(tmp_path / "p.png")
    batch = read(tmp_path, "?crop=4x6")
    assert batch.inputs["x"][0, 0, 0].tolist() == [7, 8, 9, 10, 11, 12]
    assert batch.labels is None
    assert read(tmp_path, "?resize=5&crop=5").inputs["x"].shape == (1, 3, 5, 5)
    assert read(tmp_path, "?resize=7x9").inputs["x"].shape == (1, 3, 7, 9)
    with pytest.raises(SmithError, match=r"smaller than crop=30x30"):
        read(tmp_path, "?crop=30")


def test_table_of_labels(folder: Path) -> None:
    (folder / "labels.csv").write_text("file,label,n\nred/b.png,warm,7\nblue/a.png,cold,3\n")
    batch = read(folder)
    np.testing.assert_array_equal(batch.labels, [1, 0])
    assert open_data(f"images:{folder}").classes == ("cold", "warm")
    np.testing.assert_array_equal(read(folder, "?label=n").labels, [7, 3])


def test_split_folders(tmp_path: Path) -> None:
    picture(tmp_path / "train" / "red" / "a.png", RED)
    picture(tmp_path / "val" / "red" / "a.png", RED)
    picture(tmp_path / "val" / "red" / "b.png", RED)
    assert len(read(tmp_path)) == 1
    assert len(read(tmp_path, "?split=val")) == 2
    with pytest.raises(SmithError, match="no split 'test'"):
        read(tmp_path, "?split=test")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("file,label\n../../etc/passwd,1\n", "line 2: there is no picture"),
        ("file,label\n/etc/passwd,1\n", "line 2: there is no picture"),
        ("file,label\nred/b.png,1\nred/z.png,1\n", "line 3: there is no picture 'red/z.png'"),
        ("file,label\nred/b.png,\n", "line 2: the label is missing"),
        ("file,class\nred/b.png,1\n", "no column 'label'"),
        ("name,label\nred/b.png,1\n", "no column 'file'"),
        ("file,label\n", "lists no file"),
    ],
)
def test_bad_tables(folder: Path, table: str, message: str) -> None:
    (folder / "labels.csv").write_text(table)
    with pytest.raises(SmithError, match=message):
        read(folder)


def test_link_out_of_the_folder_is_refused(folder: Path, tmp_path_factory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "o.png"
    picture(outside, RED)
    (folder / "l.png").symlink_to(outside)
    (folder / "labels.csv").write_text("file,label\nl.png,1\n")
    with pytest.raises(SmithError, match="there is no picture"):
        read(folder)


@pytest.mark.parametrize("data", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 50])
def test_unreadable_pictures_are_named(folder: Path, data: bytes) -> None:
    (folder / "red" / "bad.png").write_bytes(data)
    with pytest.raises(SmithError, match=r"'bad.png' cannot be read"):
        read(folder)


def test_truncated_picture_is_named(folder: Path) -> None:
    path = folder / "red" / "bad.jpg"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(SmithError, match=r"'bad.jpg' cannot be read"):
        read(folder, "?resize=4x4")


def test_decompression_bombs_are_refused(folder: Path) -> None:
    for side in (12_000, 60_000):
        chunks = [(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)), (b"IEND", b"")]
        data = b"\x89PNG\r\n\x1a\n"
        for kind, body in chunks:
            data += struct.pack(">I", len(body)) + kind + body
            data += struct.pack(">I", zlib.crc32(kind + body))
        (folder / "red" / "bomb.png").write_bytes(data)
        with pytest.raises(SmithError, match="more than 100 million pixels"):
            read(folder)


def test_sizes_that_differ_ask_for_resize(folder: Path) -> None:
    picture(folder / "red" / "z.png", RED, (9, 9))
    with pytest.raises(SmithError, match="another size") as caught:
        read(folder)
    assert "resize" in caught.value.hint


def test_no_pictures_and_bad_options(tmp_path: Path, folder: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(SmithError, match="holds no pictures"):
        read(empty)
    for query, message in [
        ("?resize=0x4", "resize='0x4'"),
        ("?resize=big", "resize='big'"),
        ("?color=cmyk", "color 'cmyk'"),
        ("?header=1", "no option 'header'"),
    ]:
        with pytest.raises(UsageError, match=message):
            read(folder, query)
    with pytest.raises(SmithError, match="2 numbers in mean do not fit"):
        read(folder, "?mean=1,2")


def test_without_pillow(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(SmithError, match="Pillow, which is not installed") as caught:
        read(folder)
    assert "onnxsmith[images]" in caught.value.hint
