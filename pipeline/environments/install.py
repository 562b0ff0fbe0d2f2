"""The two programs that make virtual environments and fill them: uv, or Python's venv with pip."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Protocol

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.environments.locks import Lock

_OUTPUT_LINES = 15
# What would have an interpreter look for packages or itself elsewhere.
_DISTRACTING = ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "PIP_TARGET", "PIP_PREFIX", "PIP_USER")
_TOLD = ("Downloading ", "Using cached ", "Prepared ", "Installed ")


class InstallError(SmithError):
    """An environment could not be made; ``output`` is what the installer printed last."""


class Installer(Protocol):
    """Makes a virtual environment and installs into it."""

    name: ClassVar[str]

    def make(self, folder: Path, python: str) -> None:
        """Make an empty environment in ``folder`` with the interpreter ``python``.

        Raises:
            InstallError: It cannot.
        """

    def install(self, python: Path, lock: Lock, report: Callable[[str], None]) -> None:
        """Install exactly what ``lock`` lists into the environment of ``python``.

        Packages come as built wheels only, so that nothing of theirs runs while they are
        installed; pip itself does not stay, so that nothing can install more later.

        Raises:
            InstallError: A package cannot be had.
        """


@dataclass(frozen=True)
class Pip:
    """Python's own ``venv`` and pip."""

    name: ClassVar[str] = "pip"

    def make(self, folder: Path, python: str) -> None:
        """Run ``python -m venv``; see ``Installer.make``."""
        code, output = run([python, "-I", "-m", "venv", str(folder)], lambda line: None)
        if code != 0:
            raise InstallError(
                f"{python} cannot make a virtual environment",
                "install its venv module (on Debian and Ubuntu: apt-get install python3-venv), "
                "or install uv",
                output,
            )

    def install(self, python: Path, lock: Lock, report: Callable[[str], None]) -> None:
        """Run pip, then remove it; see ``Installer.install``."""
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input"]
        options = ["--no-deps", "--only-binary", ":all:", "--progress-bar", "off"]
        _install([*pip, "install", *options, "-r", str(lock.path)], lock, report)
        _install([*pip, "uninstall", "-y", "-q", "pip"], lock, report)


@dataclass(frozen=True)
class Uv:
    """The program ``uv``.

    Attributes:
        program: Its path.
    """

    name: ClassVar[str] = "uv"
    program: str

    def make(self, folder: Path, python: str) -> None:
        """Run ``uv venv``; see ``Installer.make``."""
        command = [self.program, "venv", "--no-project", "--python", python, str(folder)]
        code, output = run(command, lambda line: None)
        if code != 0:
            raise InstallError(
                "uv cannot make a virtual environment",
                "see its words above, or use --installer pip",
                output,
            )

    def install(self, python: Path, lock: Lock, report: Callable[[str], None]) -> None:
        """Run ``uv pip install``; see ``Installer.install``."""
        options = ["--no-deps", "--only-binary", ":all:", "--compile-bytecode", "--no-progress"]
        command = [self.program, "pip", "install", "--python", str(python), *options]
        _install([*command, "-r", str(lock.path)], lock, report)


def find_installer(name: Literal["uv", "pip"] | None = None) -> Installer:
    """Return the installer asked for; by default uv where it is on the path, else pip.

    Raises:
        UsageError: uv was asked for and is not there.
    """
    program = shutil.which("uv")
    if name == "uv" and program is None:
        raise UsageError("uv is not on the path", "install it, or leave --installer away")
    if name == "pip" or program is None:
        return Pip()
    return Uv(program)


def run(command: Sequence[str], report: Callable[[str], None]) -> tuple[int, str]:
    """Run a program to its end; return its exit status and the last lines that it printed.

    Args:
        command: The program and its arguments.
        report: Takes the lines that tell of progress, as they come.

    Raises:
        SmithError: The program does not start.
    """
    environment = {k: v for k, v in os.environ.items() if k not in _DISTRACTING}
    last: deque[str] = deque(maxlen=_OUTPUT_LINES)
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            close_fds=False,  # it keeps the environment claimed, see claim()
            start_new_session=True,  # Ctrl-C is ours: what it started ends with it, below
        )
    except OSError as error:
        raise SmithError(
            f"cannot start {command[0]}: {error.strerror}", "check that it is installed"
        ) from error
    assert process.stdout is not None  # it was asked for
    try:
        with process.stdout:
            for raw in process.stdout:
                line = raw.decode("utf-8", "replace").strip()[:300]
                if line:
                    last.append(line)
                if line.startswith(_TOLD):
                    report(f"  {line[:100]}")
        status = process.wait()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    return status, "\n".join(last)


def _install(command: Sequence[str], lock: Lock, report: Callable[[str], None]) -> None:
    status, output = run(command, report)
    if status == 0:
        return
    name = lock.name
    hint = f"mend what the output above says, then run 'onnxsmith env create {name}' again"
    lowered = output.lower()
    if "no space left" in lowered:
        hint = f"free some space on the disk, then run 'onnxsmith env create {name}' again"
    elif any(word in lowered for word in ("connection", "resolve", "timed out", "network")):
        hint = f"check the network, then run 'onnxsmith env create {name}' again"
    elif any(word in lowered for word in ("no matching distribution", "no solution found")):
        hint = (
            "the package index has no build for this Python and system: name another Python "
            f"with 'onnxsmith env create {name} --python python3.12', or another index"
        )
    raise InstallError(
        f"the packages of the environment {name!r} cannot be installed", hint, output
    )
