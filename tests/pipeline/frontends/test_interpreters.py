"""A worker runs in our own Python where it can, else in its frontend's environment."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.environments.environment import MARKER, write_marker
from onnxsmith.pipeline.environments.places import lock_names
from onnxsmith.pipeline.frontends import table
from onnxsmith.pipeline.frontends.base import ConvertRequest
from onnxsmith.pipeline.frontends.interpreters import find_interpreter, served_by
from onnxsmith.pipeline.frontends.process import Limits, WorkerSource
from onnxsmith.pipeline.frontends.sklearn.frontend import SklearnFrontend
from onnxsmith.pipeline.frontends.table import FRONTENDS, find_frontend, install_command


class Distant(SklearnFrontend):
    """A frontend whose packages are not here."""

    name = "distant"
    extra = ""
    packages = ("no_such_package",)
    environment = "distant"


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """The folder of an environment without packages."""
    folder = tmp_path / "distant"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    facts = {"lock": "0" * 64, "python": "3", "created": "2026-01-01", "installer": "pip"}
    write_marker(folder, shipped=False, packages={}, **facts)
    return folder


def test_our_own_python_comes_first(tmp_path: Path) -> None:
    found = find_interpreter(SklearnFrontend(), tmp_path)
    assert (found.path, found.environment, found.warnings) == (sys.executable, None, ())


def test_an_environment_is_used_where_packages_are_missing(made: Path) -> None:
    found = find_interpreter(Distant(), made.parent)
    assert found.path == str(made / "bin" / "python")
    assert found.warnings == ()


def test_an_outdated_one_is_used_with_a_warning(made: Path) -> None:
    marker = json.loads((made / MARKER).read_text())
    (made / MARKER).write_text(json.dumps({**marker, "shipped": True}))
    (warning,) = find_interpreter(Distant(), made.parent).warnings
    assert "the environment 'distant' is outdated" in warning
    assert "onnxsmith env create distant" in warning


def test_a_broken_one_is_said(made: Path) -> None:
    (made / MARKER).unlink()
    with pytest.raises(SmithError, match="the environment 'distant' is broken") as caught:
        find_interpreter(Distant(), made.parent)
    assert "onnxsmith env create distant" in caught.value.hint


def test_a_missing_one_is_said_with_the_command_that_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SmithError, match="needs no_such_package, which is not installed"):
        find_interpreter(Distant(), tmp_path)
    monkeypatch.setattr(table, "lock_names", lambda: ("distant",))
    with pytest.raises(SmithError) as caught:
        find_interpreter(Distant(), tmp_path)
    assert caught.value.hint == "onnxsmith env create distant"


def test_each_frontend_can_be_installed() -> None:
    for name in FRONTENDS:
        frontend = find_frontend(name)
        if not frontend.packages:
            continue
        command = install_command(frontend)
        if frontend.extra:
            assert command == f"pip install 'onnxsmith[{frontend.extra}]'"
        else:
            assert command == f"onnxsmith env create {frontend.environment}"
            assert frontend.environment in lock_names()
    assert served_by("paddle") == ("paddle",)


def test_a_worker_in_another_python_sees_our_package_and_tells_its_warnings(
    project: Path, tmp_path: Path
) -> None:
    """The other one is our own Python by another path, so that scikit-learn is there."""
    python = f"{Path(sys.executable).parent}/./{Path(sys.executable).name}"
    folder = tmp_path / "exchange"
    folder.mkdir()
    with WorkerSource("sklearn", folder, Limits(), python, ("it is old",)) as worker:
        worker.open(ConvertRequest("models.tiny:build"))
        export = worker.export(folder / "model")
    assert export.path.is_file()
    assert export.warnings == ("it is old",)
