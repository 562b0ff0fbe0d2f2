"""``onnxsmith env`` as a user runs it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from onnxsmith.pipeline.environments import create
from onnxsmith.pipeline.environments.install import InstallError

LOCK = "# For a test.\n# python: >=3.11\n# imports: json\n# gigabytes: 0.001\n\nsmall==1.0\n"


class SmallInstaller:
    name = "pip"

    def make(self, folder: Path, python: str) -> None:
        subprocess.run([python, "-I", "-m", "venv", "--without-pip", str(folder)], check=True)

    def install(self, python: Path, lock: Any, report: Callable[[str], None]) -> None:
        if lock.name == "failing":
            raise InstallError("it cannot be had", "try again", "last [bold]words[/bold]\n\x1b[31m")
        (site,) = python.parents[1].glob("lib/python*/site-packages")
        (site / "small-1.0.dist-info").mkdir()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(create, "find_installer", lambda name: SmallInstaller())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lock.txt").write_text(LOCK)
    return tmp_path


def test_an_environment_is_made_listed_and_removed(folder: Path, run_cli: Any) -> None:
    done = run_cli("env", "create", "small", "--lock", "lock.txt", "--env-dir", "envs")
    assert done.code == 0, done.err
    assert f"making {folder / 'envs' / 'small'}" in done.out
    assert "made small in" in done.out
    assert "used by no frontend" in done.out

    listed = run_cli("env", "list", "--env-dir", "envs")
    assert "small" in listed.out
    assert "not made" in listed.out
    assert "onnxsmith env create paddle" in listed.out

    rows = {
        r["name"]: r for r in json.loads(run_cli("env", "list", "--env-dir", "envs", "--json").out)
    }
    assert rows["small"]["state"] == "ready"
    assert rows["small"]["bytes"] > 0
    assert rows["small"]["python"].startswith("3.")
    assert rows["paddle"] | {"folder": ""} == {
        "name": "paddle",
        "purpose": "PaddlePaddle and its ONNX exporter.",
        "frontends": ["paddle"],
        "state": "missing",
        "reason": "it was not made yet",
        "python": "",
        "created": "",
        "folder": "",
        "bytes": 0,
        "fix": "onnxsmith env create paddle",
    }

    assert run_cli("env", "remove", "small", "--env-dir", "envs").code == 0
    assert not (folder / "envs" / "small").exists()
    again = run_cli("env", "remove", "small", "--env-dir", "envs")
    assert again.code == 2
    assert "there is no environment 'small'" in again.err


def test_an_unknown_name_is_a_usage_error(folder: Path, run_cli: Any) -> None:
    done = run_cli("env", "create", "padle", "--env-dir", "envs")
    assert done.code == 2
    assert "there is no environment 'padle' to make" in done.err
    assert "jax, paddle, tensorflow" in done.err
    assert not (folder / "envs").exists()


def test_a_failure_shows_the_installers_words_and_leaves_nothing(
    folder: Path, run_cli: Any
) -> None:
    arguments = ("--lock", "lock.txt", "--env-dir", "envs")
    done = run_cli("env", "create", "failing", *arguments)
    assert done.code == 1
    assert "error: it cannot be had" in done.err
    assert "hint: try again" in done.err
    assert "| last [bold]words[/bold]" in done.err
    assert "\x1b[31m" not in done.err
    assert [p.name for p in (folder / "envs").iterdir()] == [".failing.lock"]


def test_a_broken_one_is_told_by_list_and_doctor(folder: Path, run_cli: Any) -> None:
    (folder / "envs" / ".paddle.new").mkdir(parents=True)
    listed = run_cli("env", "list", "--env-dir", "envs")
    assert "paddle: it was not made to the end: onnxsmith env create paddle" in listed.out
    done = run_cli("doctor", "--env-dir", "envs")
    assert done.code == 0
    assert "the environment paddle is broken: it was not made to the end" in done.out
    told = json.loads(run_cli("doctor", "--env-dir", "envs", "--json").out)
    assert [row["name"] for row in told["environments"]] == ["paddle"]


def test_frontends_say_where_their_packages_are(folder: Path, run_cli: Any) -> None:
    def rows() -> dict[str, Any]:
        out = run_cli("frontends", "list", "--env-dir", "envs", "--json").out
        return {row["name"]: row for row in json.loads(out)}

    before = rows()["paddle"]
    if not before["installed"]:
        assert before["install"] == "onnxsmith env create paddle"
        run_cli("env", "create", "paddle", "--lock", "lock.txt", "--env-dir", "envs")
        after = rows()["paddle"]
        assert (after["installed"], after["environment"], after["install"]) == (True, "paddle", "")
        shown = run_cli("frontends", "list", "--env-dir", "envs").out
        assert "in environment" in shown
    assert rows()["onnx"]["installed"]


def test_converting_names_the_command_that_installs(folder: Path, run_cli: Any) -> None:
    (folder / "net.pdmodel").touch()
    (folder / "net.pdiparams").touch()
    done = run_cli("convert", "net.pdmodel", "-o", "out.onnx", "--env-dir", "envs")
    assert done.code == 1
    assert "needs paddle and paddle2onnx, which are not installed" in done.err
    assert "hint: onnxsmith env create paddle" in done.err
