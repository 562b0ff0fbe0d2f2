import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.data import open_data
from onnxsmith.pipeline.data.base import Batch, join


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "my_samples.py"
    sys.modules.pop("my_samples", None)


def read(module: Path, body: str, query: str = "") -> Batch:
    module.write_text(f"import numpy as np\n{body}")
    return join(list(open_data(f"my_samples:make{query}").batches(4)))


@pytest.mark.parametrize(
    "body",
    [
        "def make():\n    for i in range(3):\n        yield np.full((3, 2), i), np.full(3, i)\n",
        "def make():\n    return [({'x': [[i, i]] * 3}, [i] * 3) for i in range(3)]\n",
        "def make():\n    yield {'x': np.repeat(np.arange(3), 6).reshape(9, 2), "
        "'labels': np.repeat(np.arange(3), 3)}\n",
        "from onnxsmith.pipeline.data import Batch\n"
        "def make():\n    x = np.repeat(np.arange(3), 6).reshape(9, 2)\n"
        "    return Batch({'x': x}, x[:, 0])\n",
        "def make():\n    x = np.repeat(np.arange(3), 6).reshape(9, 2)\n    return x, x[:, 0]\n",
    ],
)
def test_forms_of_batches(module: Path, body: str) -> None:
    batch = read(module, body)
    np.testing.assert_array_equal(batch.inputs["x"], np.repeat(np.arange(3), 6).reshape(9, 2))
    np.testing.assert_array_equal(batch.labels, np.repeat(np.arange(3), 3))


def test_plain_arrays_have_no_labels(module: Path) -> None:
    batch = read(module, "def make():\n    yield np.zeros((5, 2))\n")
    assert (batch.inputs["x"].shape, batch.labels) == ((5, 2), None)


def test_batch_sizes_are_ours_and_passes_restart(module: Path) -> None:
    module.write_text("import numpy as np\ndef make():\n    yield np.zeros((9, 2))\n")
    source = open_data("my_samples:make")
    assert [len(batch) for batch in source.batches(4)] == [4, 4, 1]
    assert [len(batch) for batch in source.batches(4)] == [4, 4, 1]


def test_parameters_are_given_where_there_are_such(module: Path) -> None:
    body = (
        "def make(split='all', batch_size=1):\n"
        "    yield np.full((batch_size, 1), {'train': 0, 'test': 1}[split])\n"
    )
    assert read(module, body, "?split=test").inputs["x"].tolist() == [[1]] * 4


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def make():\n    raise KeyError('gone')\n", "failed: KeyError: 'gone'"),
        ("def make():\n    yield np.zeros((2, 2))\n    1 / 0\n", "ZeroDivisionError: division"),
        ("def make(path):\n    yield path\n", "failed: TypeError: .*path"),
        ("def make():\n    return 3\n", "returned something of type int, not batches"),
        ("def make():\n    yield 3\n", "without a first axis"),
        ("def make():\n    yield np.array([object()])\n", "no array of numbers or text"),
        ("def make():\n    yield [[1], [1, 2]], [0, 1]\n", "ValueError"),
        ("def make():\n    yield np.zeros((2, 2)), np.zeros(3)\n", "different lengths"),
        ("def make():\n    yield 1, 2, 3\n", "a sequence of 3 items"),
        ("def make():\n    yield {}\n", "without a first axis"),
        ("def make():\n    yield {'x': [1]}\n    yield {'z': [1]}\n", "of different kinds"),
        ("def make():\n    yield None\n", "no array of numbers"),
    ],
)
def test_bad_callables_are_named_in_one_line(module: Path, body: str, message: str) -> None:
    with pytest.raises(SmithError, match=message) as caught:
        read(module, body)
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_label_of_the_query_must_be_there(module: Path) -> None:
    with pytest.raises(SmithError, match="yields no 'truth'"):
        read(module, "def make():\n    yield {'x': [1]}\n", "?label=truth")
