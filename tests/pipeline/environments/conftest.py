"""A small environment that is made without a network, and an installer that can be told to fail."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest

from onnxsmith.pipeline.environments import create
from onnxsmith.pipeline.environments.locks import Lock

LOCK = """# A package for tests.
# python: >=3.11
# imports: tiny
# gigabytes: 0.001

tiny==1.0  # the one
other-one==2.0; sys_platform == "never"
"""


@dataclass
class SmallInstaller:
    """Makes a bare environment and writes a module into it.

    Attributes:
        fault: Called while it installs.
        module: The module's text; empty for none.
    """

    name: ClassVar[str] = "pip"
    fault: Callable[[], None] = lambda: None
    module: str = "VALUE = 1"
    folders: list[Path] = field(default_factory=list)

    def make(self, folder: Path, python: str) -> None:
        self.folders.append(folder)
        subprocess.run([python, "-I", "-m", "venv", "--without-pip", str(folder)], check=True)

    def install(self, python: Path, lock: Lock, report: Callable[[str], None]) -> None:
        (site,) = python.parents[1].glob("lib/python*/site-packages")
        (python.parent / "tiny-script").write_text("#!/nowhere/python")
        (site / "tiny-1.0.dist-info").mkdir()
        report("  Installed tiny")
        self.fault()
        if self.module:
            (site / "tiny.py").write_text(self.module)


@pytest.fixture
def installer(monkeypatch: pytest.MonkeyPatch) -> SmallInstaller:
    small = SmallInstaller()
    monkeypatch.setattr(create, "find_installer", lambda name: small)
    return small


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.txt"
    path.write_text(LOCK)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "environments"
