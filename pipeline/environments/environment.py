"""The environments that are there, and whether they can be used."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from packaging.utils import canonicalize_name

from onnxsmith.pipeline.environments.locks import find_lock
from onnxsmith.pipeline.environments.places import (
    default_folder,
    interpreter,
    is_name,
    lock_names,
)

State = Literal["ready", "outdated", "making", "broken", "missing"]

MARKER = "onnxsmith.json"


@dataclass(frozen=True)
class Environment:
    """One environment, whatever its state.

    Attributes:
        name: Its name.
        folder: Where it lies, or would lie.
        state: ``ready``; ``outdated`` where it was made from another list of packages than this
            version's, though it runs; ``making`` while another process makes it for the first
            time; ``broken`` or ``missing``.
        reason: Why it is not ready, as a clause; else empty.
        python: Version of its Python; empty where unknown.
        created: The day it was made, ``2026-05-01``; empty where unknown.
    """

    name: str
    folder: Path
    state: State
    reason: str = ""
    python: str = ""
    created: str = ""

    @property
    def usable(self) -> bool:
        """Whether a worker can run in it."""
        return self.state in ("ready", "outdated")

    @property
    def interpreter(self) -> Path:
        """Its Python."""
        return interpreter(self.folder)

    def size(self) -> int:
        """Return the bytes of its files; a file that is linked twice counts once."""
        seen: dict[tuple[int, int], int] = {}
        for folder, _, files in os.walk(self.folder):
            for name in files:
                status = os.lstat(os.path.join(folder, name))
                seen[status.st_dev, status.st_ino] = status.st_size
        return sum(seen.values())


def look(name: str, root: Path | None = None) -> Environment:
    """Return the environment called ``name``; nothing is run.

    Args:
        name: Its name.
        root: The folder of all environments; this user's where omitted.
    """
    folder = (root or default_folder()).absolute() / name
    if not folder.is_dir():
        return Environment(name, folder, *_absence(folder))
    try:
        marker: dict[str, Any] = json.loads((folder / MARKER).read_text("utf-8"))
        lock = str(marker["lock"]) if marker["shipped"] else None
        packages = {str(k): str(v) for k, v in marker["packages"].items()}
        python, created = str(marker["python"]), str(marker["created"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Environment(name, folder, "broken", "its file of facts is missing or damaged")
    problem = _problem(folder, packages)
    if problem:
        return Environment(name, folder, "broken", problem, python, created)
    if lock is not None and (name not in lock_names() or find_lock(name).digest != lock):
        reason = "this version of onnxsmith lists other packages"
        return Environment(name, folder, "outdated", reason, python, created)
    return Environment(name, folder, "ready", "", python, created)


def look_at_all(root: Path | None = None) -> tuple[Environment, ...]:
    """Return every environment that can be made, and any other that lies in the folder."""
    place = (root or default_folder()).absolute()
    there = [p.name for p in place.iterdir() if is_environment(p)] if place.is_dir() else []
    return tuple(look(name, place) for name in sorted({*lock_names(), *there}))


def write_marker(
    folder: Path,
    *,
    lock: str,
    shipped: bool,
    python: str,
    created: str,
    installer: str,
    packages: Mapping[str, str],
) -> None:
    """Write the file whose presence says that an environment is complete.

    Args:
        folder: The environment.
        lock: The digest of its lock file.
        shipped: Whether that file came with onnxsmith, whose next version may bring another.
        python: Version of its Python.
        created: The day.
        installer: What installed its packages.
        packages: Their versions, by canonical name.
    """
    facts = {
        "lock": lock,
        "shipped": shipped,
        "python": python,
        "created": created,
        "installer": installer,
        "packages": dict(sorted(packages.items())),
    }
    (folder / MARKER).write_text(json.dumps(facts, indent=2) + "\n", "utf-8")


def installed_packages(folder: Path) -> dict[str, str]:
    """Return the version of each package in an environment, by canonical name."""
    found: dict[str, str] = {}
    for site in (*folder.glob("lib/python*/site-packages"), *folder.glob("Lib/site-packages")):
        for path in site.glob("*.dist-info"):
            name, _, version = path.name.removesuffix(".dist-info").partition("-")
            found[canonicalize_name(name)] = version
    return found


def claim(place: Path, name: str) -> IO[str]:
    """Return a file that keeps other processes off an environment while it is open.

    It stays open in the installers that are started meanwhile: one that outlives a killed parent
    still writes, and the next run has to wait for it.

    Args:
        place: The folder of all environments; it exists.
        name: The environment's name.

    Raises:
        BlockingIOError: Another process has it.
        OSError: The folder cannot be written to.
    """
    file = (place / f".{name}.lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise
    os.set_inheritable(file.fileno(), True)
    return file


def _absence(folder: Path) -> tuple[State, str]:
    """Say why there is no environment: it is not made yet, being made, or was left half made."""
    if not (folder.parent / f".{folder.name}.new").is_dir():
        return "missing", "it was not made yet"
    try:
        claim(folder.parent, folder.name).close()
    except BlockingIOError:
        return "making", "another process makes it"
    except OSError:  # a folder that we may only read
        return "broken", "it was not made to the end"
    return "broken", "it was not made to the end"


def _problem(folder: Path, packages: Mapping[str, str]) -> str:
    """Return what keeps an environment from running, or an empty text."""
    if not interpreter(folder).exists():  # a link whose Python was uninstalled does not either
        return "the Python that it was made with is gone"
    there = installed_packages(folder)
    changed = sorted(name for name, version in packages.items() if there.get(name) != version)
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        return f"its package {changed[0]}{more} is gone or another version"
    return ""


def is_environment(folder: Path) -> bool:
    """Return whether a folder is an environment, and not something else that lies there."""
    return is_name(folder.name) and any(
        (folder / name).is_file() for name in ("pyvenv.cfg", MARKER)
    )
