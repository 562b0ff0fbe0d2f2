"""A worker survives whatever a source does, and its end is told in words."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from onnxsmith.pipeline.frontends.base import ConvertRequest
from onnxsmith.pipeline.frontends.process import (
    Limits,
    WorkerError,
    WorkerLostError,
    WorkerSource,
)


def fail(source: str, folder: Path, limits: Limits | None = None) -> WorkerError:
    with (
        pytest.raises(WorkerError) as caught,
        WorkerSource("sklearn", folder, limits or Limits()) as worker,
    ):
        worker.open(ConvertRequest(source))
    assert "\n" not in caught.value.message
    assert caught.value.hint
    return caught.value


def test_sys_exit_in_user_code_is_an_error(project: Path, tmp_path: Path) -> None:
    error = fail("faults:leaves", tmp_path)
    assert "SystemExit: had enough" in error.message


def test_a_process_that_leaves_python_is_an_error(project: Path, tmp_path: Path) -> None:
    error = fail("faults:leaves_hard", tmp_path)
    assert isinstance(error, WorkerLostError)
    assert "exit status 7" in error.message


def test_a_crash_names_its_signal_and_shows_where(project: Path, tmp_path: Path) -> None:
    error = fail("faults:crashes", tmp_path)
    assert "SIGSEGV" in error.message
    assert "about to crash" in error.output
    assert "in crashes" in error.output


def test_a_kill_is_taken_for_a_lack_of_memory(project: Path, tmp_path: Path) -> None:
    error = fail("faults:killed", tmp_path)
    assert "SIGKILL" in error.message
    assert "memory" in error.hint


def test_an_endless_loop_meets_the_time_limit(project: Path, tmp_path: Path) -> None:
    error = fail("faults:endless", tmp_path, Limits(seconds=1.5))
    assert isinstance(error, WorkerLostError)
    assert "took longer than 1.5 s" in error.message
    assert "--timeout" in error.hint


def test_a_memory_hog_meets_the_memory_limit(project: Path, tmp_path: Path) -> None:
    error = fail("faults:hog", tmp_path, Limits(memory=400 << 20))
    assert "used more than 0.39 GiB" in error.message
    assert "--memory" in error.hint


def test_an_exception_is_one_line_and_its_trace_is_kept(project: Path, tmp_path: Path) -> None:
    error = fail("faults:raises", tmp_path)
    assert "ValueError: wrong in two lines [bold]" in error.message
    assert "in raises" in error.output


def test_much_noise_is_cut_to_its_end(project: Path, tmp_path: Path) -> None:
    error = fail("faults:shouts", tmp_path)
    assert "after much noise" in error.message
    assert len(error.output) < 10_000
    assert "after much noise" in error.output


def test_user_code_cannot_read_the_orders(project: Path, tmp_path: Path) -> None:
    assert "read ''" in fail("faults:reads", tmp_path).message


def test_children_of_a_source_end_with_it(project: Path, tmp_path: Path) -> None:
    fail("faults:spawns", tmp_path)
    child = int((project / "child.pid").read_text())
    while Path(f"/proc/{child}").exists():
        if (Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]) == "Z":
            break
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("faults:nothing", "has no 'nothing'"),
        ("no_such_module:build", "no module 'no_such_module'"),
        ("estimators:unfitted", "is not fitted"),
        ("estimators:X", "not callable"),
    ],
)
def test_plain_mistakes_show_no_trace(
    project: Path, tmp_path: Path, source: str, message: str
) -> None:
    error = fail(source, tmp_path)
    assert message in error.message
    assert error.output == ""


def test_users_own_packages_are_not_shadowed(project: Path, tmp_path: Path) -> None:
    """``models``, ``passes`` and ``pipeline`` are the user's, not ours."""
    with WorkerSource("sklearn", tmp_path, Limits()) as worker:
        worker.open(ConvertRequest("ours:build"))


def test_the_worker_ends_with_its_parent(project: Path, tmp_path: Path) -> None:
    """Kill the parent outright: the end of the control pipe ends the worker."""
    code = (
        "import sys; from pathlib import Path;"
        "from onnxsmith.pipeline.frontends.process import *;"
        "from onnxsmith.pipeline.frontends.base import ConvertRequest;"
        f"w = WorkerSource('sklearn', Path({str(tmp_path)!r}), Limits());"
        "print(w._process.pid, flush=True); w.open(ConvertRequest('faults:endless'))"
    )
    parent = subprocess.Popen([sys.executable, "-P", "-c", code], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    while not (tmp_path / "request-1.json").exists():
        time.sleep(0.02)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    while _runs(worker):
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
