"""The collector's thresholds are raised within the block, and what they were behind it."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from onnxsmith.garbage import collected_rarely


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


def fail() -> None:
    with collected_rarely():
        assert gc.get_threshold()[0] > 10_000
        with collected_rarely():  # passes load models, too
            assert gc.get_threshold()[0] > 10_000
        assert gc.get_threshold()[0] > 10_000
        raise ValueError("inside")


def test_thresholds_come_back_also_after_an_error() -> None:
    gc.set_threshold(700, 10, 10)
    with pytest.raises(ValueError, match="inside"):
        fail()
    assert gc.get_threshold() == (700, 10, 10)


@pytest.mark.parametrize("chosen", [(0, 5, 5), (500_000, 5, 5)])
def test_who_chose_to_collect_less_is_obeyed(chosen: tuple[int, int, int]) -> None:
    gc.set_threshold(*chosen)
    with collected_rarely():
        assert gc.get_threshold() == chosen
    assert gc.get_threshold() == chosen
