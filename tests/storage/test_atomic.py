"""A write is whole or has not happened."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.storage.atomic import replacing, write_text

Load = Callable[..., Artifact]
RunPython = Callable[..., subprocess.CompletedProcess[str]]
TEXT = "g (float[N] x) => (float[N] y) { y = Add(x, w) }"


def filled(value: float, elements: int = 40_000) -> dict[str, np.ndarray[Any, Any]]:
    return {"w": np.full(elements, value, np.float32)}


def test_an_error_inside_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "f.txt"
    write_text(path, "old")
    with pytest.raises(ZeroDivisionError), replacing(path) as file:
        file.write(b"new" * (1 // 0))
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f.txt"]


def test_no_folder(load_text: Load, tmp_path: Path) -> None:
    with pytest.raises(SmithError, match="cannot write") as caught:
        load_text(TEXT, filled(1)).save(tmp_path / "no" / "o.onnx")
    assert "create the folder" in caught.value.hint


@pytest.mark.parametrize("external", [False, True])
def test_a_folder_that_takes_no_files(load_text: Load, tmp_path: Path, external: bool) -> None:
    artifact = load_text(TEXT, filled(1))
    (tmp_path / "file").write_text("kept")
    for folder in (Path("/proc"), tmp_path / "file"):
        with pytest.raises(SmithError, match="cannot write") as caught:
            artifact.save(folder / "o.onnx", external)
        assert caught.value.hint
    assert (tmp_path / "file").read_text() == "kept"


def test_folders_and_devices_are_never_replaced(load_text: Load, tmp_path: Path) -> None:
    artifact = load_text(TEXT, filled(1))
    (tmp_path / "d.onnx").mkdir()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (tmp_path / "d.onnx", pipe):
        with pytest.raises(SmithError, match="not a regular file"):
            artifact.save(path)
    assert (tmp_path / "d.onnx").is_dir()
    assert pipe.is_fifo()


@pytest.mark.parametrize("external", [False, True])
def test_a_full_disk_as_the_system_reports_it(
    load_text: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, external: bool
) -> None:
    path = tmp_path / "o.onnx"
    load_text(TEXT, filled(1)).save(path, external)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    other = load_text(TEXT, filled(2))
    before["text-1.onnx"] = (tmp_path / "text-1.onnx").read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SmithError, match="No space left on device") as caught:
        other.save(path, external)
    assert "free some space" in caught.value.hint
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


LIMITED = """
import resource, signal, sys
from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
artifact = Artifact.load(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    artifact.save(sys.argv[2], sys.argv[3] == "True")
except SmithError as error:
    print(error.message)
"""


@pytest.mark.parametrize("external", [False, True])
def test_a_write_that_stops_half_way(
    load_text: Load, tmp_path: Path, run_python: RunPython, external: bool
) -> None:
    path = tmp_path / "o.onnx"
    load_text(TEXT, filled(1)).save(path, external)
    load_text(TEXT, filled(2))
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    done = run_python(LIMITED, tmp_path / "text-1.onnx", path, external)
    assert f"cannot write {path}: File too large" in done.stdout, done.stderr
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


SAVE_FOREVER = """
import sys
from onnxsmith.artifact import Artifact
one, two = Artifact.load(sys.argv[1]), Artifact.load(sys.argv[2])
print("ready", flush=True)
while True:
    for artifact in (one, two):
        artifact.save(sys.argv[3], sys.argv[4] == "True")
"""


@pytest.mark.parametrize("external", [False, True])
def test_kill_in_the_middle_of_saves(load_text: Load, tmp_path: Path, external: bool) -> None:
    size = 400_000
    one, two = load_text(TEXT, filled(1, size)), load_text(TEXT, filled(2, size))
    folder = tmp_path / "out"
    folder.mkdir()
    path = folder / "o.onnx"
    one.save(path, external)
    rng = random.Random(0)
    sources = [str(tmp_path / f"text-{n}.onnx") for n in (0, 1)]
    for _ in range(20 // 2):  # ten in either form
        command = [sys.executable, "-c", SAVE_FOREVER, *sources, str(path), str(external)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            time.sleep(rng.uniform(0, 0.05))
            process.send_signal(signal.SIGKILL)
        found = Artifact.load(path).model.graph.initializers["w"].const_value
        assert found is not None
        values = np.unique(found.numpy())
        assert values.tolist() in ([1.0], [2.0])
    two.save(path, external)
    # The last save removed whatever the killed ones had left.
    assert len(list(folder.iterdir())) == 1 + external
    assert (onnx.load(path).graph.initializer[0].raw_data[:4]) == np.float32(2).tobytes()


def test_the_leftovers_of_the_living_are_theirs(tmp_path: Path) -> None:
    path = tmp_path / "f.txt"
    alive = tmp_path / f".f.txt.{os.getppid()}.tmp"
    dead = tmp_path / ".f.txt.999999999.tmp"
    other = tmp_path / ".g.txt.999999999.tmp"
    for file in (alive, dead, other):
        file.write_text("partial")
    write_text(path, "new")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([alive.name, other.name, path.name])
