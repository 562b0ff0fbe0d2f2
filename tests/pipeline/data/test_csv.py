import gzip
from pathlib import Path

import numpy as np
import pytest

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.data import open_data
from onnxsmith.pipeline.data.base import Batch, join
from onnxsmith.spec import ModelSpec, ValueSpec


def read(folder: Path, text: str, query: str = "", batch_size: int = 2) -> Batch:
    path = folder / "t.csv"
    path.write_text(text, "utf-8")
    return join(list(open_data(f"csv:{path}{query}").batches(batch_size)))


def test_header_and_label_by_name(tmp_path: Path) -> None:
    batch = read(tmp_path, "a,kind,b\n1,0,2.5\n-3e1,1,4\n", "?label=kind")
    np.testing.assert_array_equal(batch.inputs["x"], np.float32([[1, 2.5], [-30, 4]]))
    assert batch.inputs["x"].dtype == np.float32
    assert batch.labels is not None
    assert batch.labels.dtype == np.int64
    np.testing.assert_array_equal(batch.labels, [0, 1])


@pytest.mark.parametrize("label", ["2", "-1"])
def test_without_header_columns_are_numbers(tmp_path: Path, label: str) -> None:
    batch = read(tmp_path, "1,2,b\n3,4,a\n5,6,b\n", f"?label={label}")
    np.testing.assert_array_equal(batch.inputs["x"], [[1, 2], [3, 4], [5, 6]])
    np.testing.assert_array_equal(batch.labels, [1, 0, 1])


def test_classes_are_sorted_and_text_after_numbers_counts(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("v,c\n1,10\n1,9\n1,x\n")
    source = open_data(f"csv:{path}?label=c")
    assert source.classes == ("10", "9", "x")
    np.testing.assert_array_equal(next(iter(source.batches(9))).labels, [0, 1, 2])
    path.write_text("v,c\n1,10\n1,9\n1,9\n")
    source = open_data(f"csv:{path}?label=c&categorical=1")
    assert source.classes == ("9", "10")
    np.testing.assert_array_equal(next(iter(source.batches(9))).labels, [1, 0, 0])


def test_labels_with_a_point_are_values(tmp_path: Path) -> None:
    batch = read(tmp_path, "1,24.0\n2,25\n", "?label=1")
    assert batch.labels is not None
    assert batch.labels.dtype == np.float32


def test_header_can_be_forced(tmp_path: Path) -> None:
    assert read(tmp_path, "1,2\n3,4\n", "?header=1").inputs["x"].tolist() == [[3, 4]]
    batch = read(tmp_path, "1,2\n3,4\n", "?header=0")
    assert batch.inputs["x"].tolist() == [[1, 2], [3, 4]]
    assert batch.labels is None


def test_delimiters_quotes_blanks_bom_and_gzip(tmp_path: Path) -> None:
    assert read(tmp_path, "\ufeffa; b\r\n1 ; 2\r\n\r\n").inputs["x"].tolist() == [[1, 2]]
    assert read(tmp_path, "\ufeffa,b\n1,2\n", "?label=a").labels is not None
    assert read(tmp_path, "1\t2\n").inputs["x"].tolist() == [[1, 2]]
    assert read(tmp_path, "1|2\n", "?delimiter=|").inputs["x"].tolist() == [[1, 2]]
    batch = read(tmp_path, 'n,v\n"a, b",1\n"c\nd",2\n', "?label=n")
    np.testing.assert_array_equal(batch.labels, [0, 1])
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"1,2\n"))
    assert open_data(f"csv:{tmp_path / 't.csv.gz'}").size == 1


def test_one_input_a_column_where_the_model_names_them(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("age,sex,fare,alive\n3,m,1.5,0\n4,f,2.5,1\n")
    spec = ModelSpec((ValueSpec.parse("sex:string[N,1]"), ValueSpec.parse("age:float32[N,1]")), ())
    batch = next(iter(open_data(f"csv:{path}?label=alive", spec).batches(5)))
    assert batch.inputs["sex"].tolist() == [["m"], ["f"]]
    assert batch.inputs["age"].tolist() == [[3], [4]]


@pytest.mark.parametrize(
    ("text", "query", "message"),
    [
        ("", "", "is empty"),
        ("a,b\n", "", "has no samples"),
        ("a,b\n1,\n", "", "line 2: the value in column 'b' is missing"),
        ("a,b\n1,2\n3,?\n", "", "line 3: the value in column 'b' is missing"),
        ("a,b\n1,2\n3,NaN\n", "?label=b", "line 3: the value in column 'b' is missing"),
        ("a,b\n1,2\n3\n", "", "line 3: 1 cells instead of 2"),
        ("a,b\n1,2\n3,4,5\n", "", "line 3: 3 cells instead of 2"),
        ("a,b\n1,2\nx,4\n", "", "line 3: 'x' in column 'a' is no number"),
        ("a,b\n1,2\n1_0,4\n", "", "'1_0' in column 'a' is no number"),
        ("a,b\n1,inf\n", "", "is no number"),
        ("a,a\n1,2\n", "", "names a column twice"),
        ('a,b\n"1,2\n', "", "line"),
        ("a\n1\n", "?label=a", "no column beside the label"),
    ],
)
def test_bad_tables(tmp_path: Path, text: str, query: str, message: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(SmithError, match=message) as caught:
        open_data(f"csv:{path}{query}", ModelSpec((ValueSpec("x", "float32", None),), ()))
    assert caught.value.hint


def test_lines_are_counted_over_quoted_line_breaks(tmp_path: Path) -> None:
    with pytest.raises(SmithError, match="line 4"):
        read(tmp_path, 'n,v\n"a\nb",1\nc,\n', "?label=n")


def test_not_text(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe1,2\n")
    with pytest.raises(SmithError, match="no text in UTF-8"):
        open_data(f"csv:{tmp_path / 't.csv'}")
    (tmp_path / "t.csv").write_bytes(b"1,2\n" * 9000 + b"\xff\n")
    with pytest.raises(SmithError, match="no text in UTF-8"):
        open_data(f"csv:{tmp_path / 't.csv'}")


def test_damaged_gzip(tmp_path: Path) -> None:
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"1,2\n" * 999)[:-20])
    with pytest.raises(SmithError, match="truncated or damaged"):
        open_data(f"csv:{tmp_path / 't.csv.gz'}")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("label=c", "no column 'c'"),
        ("label=7", "no column '7'"),
        ("header=maybe", "header='maybe'"),
        ("delimiter=ab", "delimiter='ab'"),
        ("layout=NCHW", "no option 'layout'"),
        ("split=dev", "no split 'dev'"),
    ],
)
def test_bad_options(tmp_path: Path, query: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read(tmp_path, "a,b\n1,2\n", f"?{query}")


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(SmithError, match="there is no file"):
        open_data(f"csv:{tmp_path / 'none.csv'}")
    with pytest.raises(SmithError, match="is a folder"):
        open_data(f"csv:{tmp_path}")
