"""Make an environment, completely or not at all.

It is made under another name in the same folder and renamed when it is complete and has been
tried; what a killed run left is removed by the next one. A virtual environment's interpreter
finds its packages from where it lies, so it survives the renaming. The scripts beside it do not,
and are removed: workers are started as ``ENV/bin/python -P ...`` only.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.environments.environment import (
    Environment,
    claim,
    installed_packages,
    is_environment,
    look,
    write_marker,
)
from onnxsmith.pipeline.environments.install import InstallError, find_installer, run
from onnxsmith.pipeline.environments.locks import Lock, find_lock, read_lock
from onnxsmith.pipeline.environments.places import default_folder, interpreter, is_name

_MARKERS = """
import json, os, platform, sys
print(json.dumps({
    "implementation_name": sys.implementation.name,
    "os_name": os.name,
    "platform_machine": platform.machine(),
    "platform_python_implementation": platform.python_implementation(),
    "platform_system": platform.system(),
    "python_full_version": platform.python_version(),
    "python_version": ".".join(platform.python_version_tuple()[:2]),
    "sys_platform": sys.platform,
}))
"""

Report = Callable[[str], None]


def create_environment(
    name: str,
    *,
    root: Path | None = None,
    lock: Path | None = None,
    python: str = sys.executable,
    installer: Literal["uv", "pip"] | None = None,
    report: Report = lambda line: None,
) -> Environment:
    """Make the environment called ``name``, or make it anew where it is there.

    Args:
        name: One of ``lock_names()``, or any name where ``lock`` is given.
        root: The folder of all environments; this user's where omitted.
        lock: A lock file of the user's own, in place of the one that onnxsmith ships.
        python: The interpreter that it is made with.
        installer: ``uv`` or ``pip``; uv where it is on the path, else pip.
        report: Takes one line at each step.

    Raises:
        UsageError: There is no environment of that name, or uv was asked for and is not there.
        SmithError: The interpreter does not suit, the disk is full, or another process makes it.
        InstallError: A package could not be installed, or does not import; nothing is left.
    """
    wanted = find_lock(name) if lock is None else read_lock(lock, name)
    chosen = find_installer(installer)
    place = (root or default_folder()).absolute()
    markers = _markers(python)
    _check_python(wanted, markers["python_full_version"])
    with _claimed(place, name):
        _check_space(wanted, place)
        partial = place / f".{name}.new"
        old = place / f".{name}.old"
        _remove(partial, old)
        try:
            report(f"making {place / name} with Python {markers['python_full_version']}")
            chosen.make(partial, python)
            count = len(wanted.packages(markers))
            report(f"installing {count} packages with {chosen.name}: {wanted.gigabytes:g} GB or so")
            chosen.install(interpreter(partial), wanted, report)
            _remove_scripts(partial)
            report(f"trying {', '.join(wanted.imports)}")
            _try(wanted, partial)
            write_marker(
                partial,
                lock=wanted.digest,
                shipped=lock is None,
                python=markers["python_full_version"],
                created=datetime.now(UTC).date().isoformat(),
                installer=chosen.name,
                packages=_installed(wanted, partial, markers),
            )
            if (place / name).exists():
                (place / name).rename(old)
            partial.rename(place / name)
        except OSError as error:
            raise SmithError(
                f"cannot make the environment {name!r}: {error.strerror or error}",
                "check the disk, or choose another one with --env-dir",
            ) from error
        finally:
            _remove(partial, old)
    return look(name, place)


def remove_environment(name: str, *, root: Path | None = None) -> None:
    """Remove an environment, or what is left of one.

    Raises:
        UsageError: There is none of that name.
        SmithError: Another process makes it, or a file cannot be removed.
    """
    place = (root or default_folder()).absolute()
    left = place / f".{name}.new"
    if not is_name(name) or not (is_environment(place / name) or left.is_dir()):
        raise UsageError(
            f"there is no environment {name!r} in {place}", "'onnxsmith env list' shows them"
        )
    with _claimed(place, name):
        # Renamed first, so that a removal that is interrupted leaves no half of it in use.
        old = place / f".{name}.old"
        _remove(left, old)
        if is_environment(place / name):
            (place / name).rename(old)
        _remove(old)


@contextmanager
def _claimed(place: Path, name: str) -> Iterator[None]:
    """Keep other processes off the environment; the system lets go when this one ends."""
    try:
        place.mkdir(parents=True, exist_ok=True)
        file = claim(place, name)
    except BlockingIOError:
        raise SmithError(
            f"another process is making or removing the environment {name!r}",
            "wait until it is done",
        ) from None
    except OSError as error:
        raise SmithError(
            f"cannot write to the folder of environments {place}: {error.strerror}",
            "choose another one with --env-dir",
        ) from error
    with file:
        yield


def _markers(python: str) -> dict[str, str]:
    """Return what lock files can ask of an interpreter.

    Raises:
        SmithError: It does not run.
    """
    command = [python, "-I", "-c", _MARKERS]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        found: dict[str, str] = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise SmithError(
            f"{python} does not run as a Python interpreter", "give --python another one"
        ) from error
    return found


def _check_python(lock: Lock, version: str) -> None:
    if not lock.python.contains(version, prereleases=True):
        raise SmithError(
            f"the environment {lock.name!r} needs Python {lock.python}, and this is {version}",
            f"name another: onnxsmith env create {lock.name} --python python3.12",
        )


def _check_space(lock: Lock, place: Path) -> None:
    free = shutil.disk_usage(place).free / 1e9
    # Downloads take some more while they are unpacked.
    if free < lock.gigabytes * 1.5:
        raise SmithError(
            f"{place} has {free:.1f} GB free, and the environment {lock.name!r} needs "
            f"{lock.gigabytes * 1.5:.1f} GB to be made",
            "free some space, or choose another disk with --env-dir",
        )


def _try(lock: Lock, folder: Path) -> None:
    statements = "; ".join(f"import {module}" for module in lock.imports)
    code, output = run([str(interpreter(folder)), "-P", "-c", statements], lambda line: None)
    if code != 0:
        last = output.splitlines()[-1] if output else f"exit status {code}"
        raise InstallError(
            f"the packages of the environment {lock.name!r} were installed and do not import: "
            f"{last[:200]}",
            "a library of the system may be missing: its name is in the output above",
            output,
        )


def _installed(lock: Lock, folder: Path, markers: dict[str, str]) -> dict[str, str]:
    """Return what the lock asks for, in the spelling of versions that was installed."""
    there = installed_packages(folder)
    missing = [name for name in lock.packages(markers) if name not in there]
    if missing:
        raise InstallError(
            f"the package {missing[0]} is not in the environment {lock.name!r} after its "
            "installation",
            "make it with the other installer: --installer pip",
        )
    return {name: there[name] for name in lock.packages(markers)}


def _remove_scripts(folder: Path) -> None:
    """Remove all programs but Python: their first line names the folder before it is renamed."""
    for path in interpreter(folder).parent.iterdir():
        if not path.name.lower().startswith("python") and path.suffix != ".dll":
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def _remove(*folders: Path) -> None:
    for folder in folders:
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise SmithError(
                f"cannot remove {folder}: {error.strerror or error}", "remove it by hand"
            ) from error
