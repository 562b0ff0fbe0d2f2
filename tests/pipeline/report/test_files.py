import json
import os
import stat

import pytest

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.report import Report, write


def test_the_page_its_data_and_its_markdown_are_written(tmp_path, whole_run):
    page, data = write(whole_run, tmp_path / "new" / "folder")
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert Report.from_json(json.loads(data.read_text(encoding="utf-8"))) == whole_run
    assert Report.load(data) == whole_run
    assert sorted(p.name for p in page.parent.iterdir()) == [
        "report.html",
        "report.json",
        "report.md",
    ]


def test_hostile_strings_are_written_too(tmp_path, hostile_run):
    _, data = write(hostile_run, tmp_path)
    assert repr(Report.load(data)) == repr(hostile_run)  # it holds a NaN


def test_the_same_report_gives_the_same_bytes(tmp_path, whole_run):
    one, other = write(whole_run, tmp_path / "a"), write(whole_run, tmp_path / "b")
    assert [p.read_bytes() for p in one] == [p.read_bytes() for p in other]


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(SmithError) as caught:
        write(Report("t"), tmp_path / "file" / "sub")
    assert str(tmp_path / "file") in caught.value.message
    assert caught.value.hint


def test_a_failed_write_leaves_the_old_report(tmp_path, monkeypatch):
    page, data = write(Report("old"), tmp_path)
    before = page.read_bytes(), data.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SmithError, match="No space left"):
        write(Report("new"), tmp_path)
    assert (page.read_bytes(), data.read_bytes()) == before
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_a_report_that_cannot_be_rendered_writes_nothing(tmp_path):
    with pytest.raises(TypeError):
        write(Report("t", warnings=(1j,)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_files_are_as_readable_as_others(tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("x")
    page, _ = write(Report("t"), tmp_path)
    assert stat.S_IMODE(page.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
