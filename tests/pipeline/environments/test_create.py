"""An environment is there completely or not at all, and says what is wrong with it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.environments import create, environment
from onnxsmith.pipeline.environments.create import create_environment, remove_environment
from onnxsmith.pipeline.environments.environment import MARKER, claim, look, look_at_all
from onnxsmith.pipeline.environments.install import InstallError, Pip, find_installer


def visible(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if not path.name.endswith(".lock"))


def test_an_environment_is_made_and_runs_where_it_was_renamed_to(
    installer: Any, lock: Path, root: Path
) -> None:
    lines: list[str] = []
    made = create_environment("tiny", root=root, lock=lock, report=lines.append)
    assert (made.state, made.reason) == ("ready", "")
    assert made.python == ".".join(map(str, sys.version_info[:3]))
    assert installer.folders == [root / ".tiny.new"]
    assert visible(root) == ["tiny"]
    assert any("installing 1 packages with pip" in line for line in lines)
    command = [str(made.interpreter), "-P", "-c", "import tiny; print(tiny.__file__)"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).is_relative_to(root / "tiny")
    # Scripts would name the folder that it was made in.
    assert all(p.name.startswith("python") for p in made.interpreter.parent.iterdir())
    assert 100 < made.size() < 1_000_000
    marker = json.loads((made.folder / MARKER).read_text())
    assert marker["packages"] == {"tiny": "1.0"}


def test_making_it_again_replaces_it(installer: Any, lock: Path, root: Path) -> None:
    made = create_environment("tiny", root=root, lock=lock)
    (made.folder / "rubbish").touch()
    again = create_environment("tiny", root=root, lock=lock)
    assert again.state == "ready"
    assert not (again.folder / "rubbish").exists()
    assert visible(root) == ["tiny"]


@pytest.mark.parametrize("fault", [InstallError("no"), OSError("disk"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_one_and_nothing_half_made(
    installer: Any, lock: Path, root: Path, fault: BaseException
) -> None:
    create_environment("tiny", root=root, lock=lock)

    def fail() -> None:
        raise fault

    installer.fault = fail
    with pytest.raises((SmithError, KeyboardInterrupt)):
        create_environment("tiny", root=root, lock=lock)
    assert visible(root) == ["tiny"]
    assert look("tiny", root).state == "ready"


def test_packages_that_do_not_import_are_refused(installer: Any, lock: Path, root: Path) -> None:
    installer.module = "raise ImportError('libfoo.so.1 is missing')"
    with pytest.raises(InstallError, match=r"do not import: ImportError: libfoo.so.1") as caught:
        create_environment("tiny", root=root, lock=lock)
    assert "libfoo" in caught.value.output
    assert visible(root) == []


def test_what_a_killed_run_left_is_said_and_mended(installer: Any, lock: Path, root: Path) -> None:
    (root / ".tiny.new" / "lib").mkdir(parents=True)
    (root / ".tiny.old").mkdir()
    found = look("tiny", root)
    assert (found.state, found.reason) == ("broken", "it was not made to the end")
    assert create_environment("tiny", root=root, lock=lock).state == "ready"
    assert visible(root) == ["tiny"]


def test_two_processes_do_not_make_the_same_one(installer: Any, lock: Path, root: Path) -> None:
    (root / ".tiny.new").mkdir(parents=True)
    with claim(root, "tiny"):
        assert look("tiny", root).state == "making"
        with pytest.raises(SmithError, match="another process is making or removing") as caught:
            create_environment("tiny", root=root, lock=lock)
        assert "wait" in caught.value.hint
        with pytest.raises(SmithError, match="another process"):
            remove_environment("tiny", root=root)
    assert look("tiny", root).state == "broken"


def test_an_installer_that_outlives_its_parent_keeps_the_environment_claimed(
    root: Path,
) -> None:
    root.mkdir()
    (root / ".tiny.new").mkdir()
    code = (
        "import sys; from pathlib import Path;"
        "from onnxsmith.pipeline.environments.environment import claim;"
        "from onnxsmith.pipeline.environments.install import run;"
        "file = claim(Path(sys.argv[1]), 'tiny');"
        "run(['sh', '-c', 'echo $$ > pid; echo Downloading it; exec sleep 1000'], print)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-u", "-P", "-c", code, str(root)],
        cwd=root,
        text=True,
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    assert "Downloading" in parent.stdout.readline()
    parent.kill()
    parent.communicate()
    assert look("tiny", root).state == "making"
    os.kill(int((root / "pid").read_text()), signal.SIGKILL)
    while look("tiny", root).state == "making":
        time.sleep(0.02)
    assert look("tiny", root).state == "broken"


def test_damage_is_found(installer: Any, lock: Path, root: Path) -> None:
    made = create_environment("tiny", root=root, lock=lock)
    (site,) = made.folder.glob("lib/python*/site-packages")
    (site / "tiny-1.0.dist-info").rename(site / "tiny-1.1.dist-info")
    assert look("tiny", root).reason == "its package tiny is gone or another version"
    (site / "tiny-1.1.dist-info").rename(site / "tiny-1.0.dist-info")
    python = made.interpreter.resolve()
    made.interpreter.unlink()
    assert look("tiny", root).reason == "the Python that it was made with is gone"
    made.interpreter.symlink_to(made.folder / "nowhere")
    assert look("tiny", root).state == "broken"
    made.interpreter.unlink()
    made.interpreter.symlink_to(python)
    assert look("tiny", root).state == "ready"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"lock": 1}', '{"packages": 3, "shipped": true}'])
def test_a_damaged_marker_is_found(installer: Any, lock: Path, root: Path, text: str) -> None:
    made = create_environment("tiny", root=root, lock=lock)
    (made.folder / MARKER).write_text(text)
    assert look("tiny", root).reason == "its file of facts is missing or damaged"
    assert not look("tiny", root).usable
    (made.folder / MARKER).unlink()
    assert look("tiny", root).state == "broken"


def test_a_newer_list_makes_a_shipped_one_outdated(
    installer: Any, lock: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = create.read_lock(lock, "tiny")
    monkeypatch.setattr(create, "find_lock", lambda name: shipped)
    made = create_environment("tiny", root=root)
    # No list of that name comes with this version.
    assert (made.state, made.usable) == ("outdated", True)
    monkeypatch.setattr(environment, "lock_names", lambda: ("tiny",))
    monkeypatch.setattr(environment, "find_lock", lambda name: shipped)
    assert look("tiny", root).state == "ready"
    lock.write_text(lock.read_text() + "# newer\n")
    newer = create.read_lock(lock, "tiny")
    monkeypatch.setattr(environment, "find_lock", lambda name: newer)
    found = look("tiny", root)
    assert (found.state, found.usable) == ("outdated", True)
    assert "other packages" in found.reason


def test_all_are_listed_and_removed(installer: Any, lock: Path, root: Path) -> None:
    create_environment("tiny", root=root, lock=lock)
    (root / "no-environment").mkdir()
    states = {found.name: found.state for found in look_at_all(root)}
    assert states["tiny"] == "ready"
    assert states["paddle"] == "missing"
    assert "no-environment" not in states
    remove_environment("tiny", root=root)
    assert visible(root) == ["no-environment"]
    for name in ("tiny", "no-environment", "..", ".", "", "../environments"):
        with pytest.raises(UsageError, match="there is no environment"):
            remove_environment(name, root=root)
    assert root.is_dir()


def test_a_python_that_does_not_suit_is_refused_before_anything_is_made(
    installer: Any, lock: Path, root: Path
) -> None:
    lock.write_text(lock.read_text().replace(">=3.11", ">=4"))
    with pytest.raises(SmithError, match="needs Python >=4, and this is") as caught:
        create_environment("tiny", root=root, lock=lock)
    assert "--python" in caught.value.hint
    for wrong in (str(lock), "/bin/echo", "no-such-python"):
        with pytest.raises(SmithError, match="does not run as a Python interpreter"):
            create_environment("tiny", root=root, lock=lock, python=wrong)
    assert not root.exists()


def test_a_full_disk_is_refused_before_anything_is_made(
    installer: Any, lock: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000_000))
    with pytest.raises(SmithError, match=r"has 0.0 GB free, and the environment 'tiny' needs"):
        create_environment("tiny", root=root, lock=lock)
    assert installer.folders == []


def test_a_folder_that_cannot_be_written_is_refused(
    installer: Any, lock: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SmithError, match="cannot write to the folder of environments") as caught:
        create_environment("tiny", root=tmp_path / "file" / "below", lock=lock)
    assert "--env-dir" in caught.value.hint


def test_pip_says_what_it_cannot_have_and_nothing_stays(
    lock: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Really with pip, and without a network."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(InstallError, match="packages of the environment 'tiny' cannot") as caught:
        create_environment("tiny", root=root, lock=lock, installer="pip")
    assert "No matching distribution found for tiny==1.0" in caught.value.output
    assert "another Python" in caught.value.hint
    assert visible(root) == []


def test_uv_is_used_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert isinstance(find_installer(), Pip)
    with pytest.raises(UsageError, match="uv is not on the path"):
        find_installer("uv")
    program = tmp_path / "uv"
    program.write_text("#!/bin/sh\necho cannot $1\nexit 3\n")
    program.chmod(0o755)
    chosen = find_installer()
    assert chosen.name == "uv"
    with pytest.raises(InstallError, match="uv cannot make") as caught:
        chosen.make(tmp_path / "e", sys.executable)
    assert caught.value.output == "cannot venv"
    assert isinstance(find_installer("pip"), Pip)
