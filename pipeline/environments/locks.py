"""Lock files: the exact packages of each environment, shipped with onnxsmith.

A lock file is a pip requirements file with ``==`` on every line and everything that is needed
named, as it is installed with ``--no-deps``. Its head says what it is for::

    # PaddlePaddle and its ONNX exporter.
    # python: >=3.11,<3.14
    # imports: paddle, paddle2onnx
    # gigabytes: 0.9
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.environments.places import LOCKS, is_name, lock_names
from onnxsmith.plugins import suggestion

_FIELD = re.compile(r"^# (python|imports|gigabytes): *(.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Lock:
    """The packages of one environment.

    Attributes:
        name: The environment's name.
        purpose: One line: what it holds.
        path: The requirements file.
        digest: Of the file's content; tells an environment made from an older one.
        requirements: One for each line.
        python: The versions of Python that all its packages have builds for.
        imports: Modules that have to import once it is made.
        gigabytes: Disk space that it takes when installed, roughly.
    """

    name: str
    purpose: str
    path: Path
    digest: str
    requirements: tuple[Requirement, ...]
    python: SpecifierSet
    imports: tuple[str, ...]
    gigabytes: float

    def packages(self, markers: dict[str, str]) -> dict[str, str]:
        """Return the version of each package that a Python installs, by canonical name.

        Args:
            markers: The marker variables of that Python (PEP 508), or some of them; this
                interpreter's values stand in for the others.
        """
        wanted = (r for r in self.requirements if r.marker is None or r.marker.evaluate(markers))
        return {canonicalize_name(r.name): next(iter(r.specifier)).version for r in wanted}


def find_lock(name: str) -> Lock:
    """Return the lock of the environment called ``name``.

    Raises:
        UsageError: There is none.
    """
    if name not in lock_names():
        known = list(lock_names())
        hint = suggestion(name, known)
        if "known" not in hint:
            hint += f" (known: {', '.join(known)})"
        raise UsageError(f"there is no environment {name!r} to make", hint)
    return read_lock(LOCKS / f"{name}.txt", name)


def read_lock(path: Path, name: str) -> Lock:
    """Read a lock file.

    Args:
        path: The file.
        name: The name of the environment that is made from it.

    Raises:
        UsageError: The name cannot be that of a folder.
        SmithError: A field of its head is missing, or a line does not pin one exact version.
    """
    if not is_name(name):
        raise UsageError(
            f"{name!r} is no name for an environment", "use small letters, digits and dashes"
        )
    try:
        data = path.read_bytes()
        text = data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SmithError(f"cannot read the lock file {path}: {error}", "check the path") from error
    fields = dict(_FIELD.findall(text))
    missing = {"python", "imports", "gigabytes"} - set(fields)
    if missing:
        raise SmithError(
            f"the lock file {path.name} has no line '# {sorted(missing)[0]}: ...'",
            "add it to the file's head",
        )
    try:
        python, gigabytes = SpecifierSet(fields["python"]), float(fields["gigabytes"])
    except (InvalidSpecifier, ValueError) as error:
        raise SmithError(
            f"the head of the lock file {path.name} cannot be read: {error}",
            "write '# python: >=3.11,<3.14' and '# gigabytes: 0.9'",
        ) from error
    return Lock(
        name,
        text.partition("\n")[0].lstrip("# ").strip(),
        path,
        hashlib.sha256(data).hexdigest(),
        tuple(_requirements(path.name, text)),
        python,
        tuple(name.strip() for name in fields["imports"].split(",")),
        gigabytes,
    )


def _requirements(file: str, text: str) -> list[Requirement]:
    found: list[Requirement] = []
    for number, line in enumerate(text.splitlines(), 1):
        stated = re.split(r"(?:^|\s)#|\s--hash=|\s*\\$", line, maxsplit=1)[0].strip()
        if not stated or stated.startswith("--hash="):  # pip checks those
            continue
        try:
            requirement = Requirement(stated)
        except InvalidRequirement as error:
            raise SmithError(
                f"line {number} of the lock file {file} is no requirement: {stated!r}",
                "write NAME==VERSION",
            ) from error
        pins = list(requirement.specifier)
        if len(pins) != 1 or pins[0].operator != "==" or "*" in pins[0].version:
            raise SmithError(
                f"line {number} of the lock file {file} does not pin one version: {stated!r}",
                "write NAME==VERSION",
            )
        found.append(requirement)
    return found
