"""Event files: what is written to whichever package is there, and a word where none is."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.training.logs import open_logs
from onnxsmith.pipeline.training.request import Epoch

ROWS = [Epoch(1, 2.5, 0.1, {"accuracy": 0.5}), Epoch(2, 1.5, 0.05, {"accuracy": 0.75})]
POINTS = [
    ("loss", 2.5, 1), ("rate", 0.1, 1), ("accuracy", 0.5, 1),
    ("loss", 1.5, 2), ("rate", 0.05, 2), ("accuracy", 0.75, 2),
]  # fmt: skip


def module(name: str, **content: Any) -> ModuleType:
    made = ModuleType(name)
    made.__spec__ = ModuleSpec(name, None)
    vars(made).update(content)
    return made


@pytest.fixture
def points() -> list[tuple[str, float, int]]:
    return []


def stub(points: list[tuple[str, float, int]], package: str) -> dict[str, ModuleType | None]:
    """Modules with the interface of the packages; tests/frameworks writes real files."""

    class Record:
        def __init__(self, **fields: Any) -> None:
            vars(self).update(fields)

    class Summary(Record):
        Value = Record

    class Writer:
        def __init__(self, folder: str) -> None:
            self.open = True

        def add_event(self, event: Any) -> None:
            assert event.wall_time > 1.7e9
            for point in event.summary.value:
                self.add_scalar(point.tag, point.simple_value, event.step)

        def add_scalar(self, tag: str, value: float, step: int) -> None:
            assert self.open
            points.append((tag, value, step))

        def flush(self) -> None: ...

        def close(self) -> None:
            self.open = False

    if package == "tensorboardX":
        return {"tensorboard": None, package: module(package, SummaryWriter=Writer)}
    home, proto = "tensorboard.summary.writer", "tensorboard.compat.proto"
    found = {
        f"{home}.event_file_writer": module("w", EventFileWriter=Writer),
        f"{proto}.event_pb2": module("e", Event=Record),
        f"{proto}.summary_pb2": module("s", Summary=Summary),
    }
    parents = ("tensorboard", "tensorboard.summary", home, "tensorboard.compat", proto)
    return {**{name: module(name, __path__=[]) for name in parents}, **found}


@pytest.mark.parametrize("package", ["tensorboard", "tensorboardX"])
def test_each_epoch_is_a_point_of_every_curve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, points: list[Any], package: str
) -> None:
    for name, made in stub(points, package).items():
        monkeypatch.setitem(sys.modules, name, made)
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: ModuleSpec(name, None) if name == package else None
    )
    with open_logs(None, tmp_path / "events") as logs:
        logs.write(ROWS[:1])
        logs.write(ROWS)
    assert points == POINTS


def test_without_a_package_the_hint_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SmithError, match="need the package tensorboard") as caught:
        open_logs(None, tmp_path / "events")
    assert "onnxsmith[tensorboard]" in caught.value.hint
    assert not (tmp_path / "events").exists()


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with open_logs(tmp_path / "file" / "log.csv", None) as logs, pytest.raises(SmithError):
        logs.write(ROWS)
