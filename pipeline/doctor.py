"""What is installed, which providers really load, and what to install for the missing."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import requires
from typing import Any, Literal

from onnxsmith.pipeline.frontends.table import (
    FRONTENDS,
    find_frontend,
    install_command,
    missing_packages,
)
from onnxsmith.runtime.environment import describe_environment, installed_version
from onnxsmith.runtime.providers import compiled_providers, missing_provider

Status = Literal["ok", "missing", "broken"]

_MIN_PYTHON = (3, 11)
_PROVIDER_TIMEOUT_S = 120
# Runs in a process of its own: a provider whose libraries are half there may take it down.
_TRY_PROVIDER = """
import sys
import onnx
import onnxruntime
model = onnx.parser.parse_model(
    '<ir_version: 8, opset_import: ["" : 17]> g (float[1] x) => (float[1] y) { y = Add(x, x) }'
)
options = onnxruntime.SessionOptions()
options.log_severity_level = 4
onnxruntime.set_default_logger_severity(4)
if hasattr(onnxruntime, "preload_dlls"):
    onnxruntime.preload_dlls()
session = onnxruntime.InferenceSession(
    model.SerializeToString(), options, providers=[sys.argv[1]]
)
print("loaded" if session.get_providers()[0] == sys.argv[1] else "fell back")
"""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        area: ``python``, ``base``, ``provider`` or ``frontend``.
        name: The package, provider or frontend.
        status: How it is.
        found: Version, or what was seen.
        mend: What to do where it is not ok.
        needed: Whether the tool cannot work without it.
    """

    area: str
    name: str
    status: Status
    found: str = ""
    mend: str = ""
    needed: bool = False


@dataclass(frozen=True)
class Diagnosis:
    """All findings, and the machine they were made on."""

    findings: tuple[Finding, ...]
    environment: dict[str, Any]

    @property
    def healthy(self) -> bool:
        """Whether everything that the tool needs is there."""
        return all(f.status == "ok" for f in self.findings if f.needed)

    def to_json(self) -> dict[str, Any]:
        """Return the diagnosis as JSON values."""
        return {
            "healthy": self.healthy,
            "findings": [asdict(finding) for finding in self.findings],
            "environment": self.environment,
        }


def examine() -> Diagnosis:
    """Look at Python, the base packages, the runtime's providers and the frontends."""
    findings = (
        _python(),
        *(_package(name) for name in base_packages()),
        _one_runtime(),
        *(_provider(name) for name in compiled_providers()),
        *(_frontend(name) for name in FRONTENDS),
    )
    return Diagnosis(findings, describe_environment().to_json())


def base_packages() -> tuple[str, ...]:
    """Return the distributions that the tool itself requires, the runtime left out."""
    names = [
        match.group()
        for text in requires("onnxsmith") or ()
        if "extra ==" not in text and (match := re.match(r"[A-Za-z0-9._-]+", text))
    ]
    return tuple(name for name in names if not name.startswith("onnxruntime"))


def _python() -> Finding:
    status: Status = "ok" if sys.version_info >= _MIN_PYTHON else "broken"
    return Finding(
        "python", "python", status, platform.python_version(), "use Python 3.11 or newer", True
    )


def _package(name: str) -> Finding:
    found = installed_version(name)
    status: Status = "ok" if found else "missing"
    return Finding("base", name, status, found, "" if found else f"pip install {name}", True)


def _one_runtime() -> Finding:
    """Both wheels hold the same files: whichever came last has overwritten half of the other."""
    names = ("onnxruntime-gpu", "onnxruntime")
    found = [f"{name} {version}" for name in names if (version := installed_version(name))]
    if len(found) == 1:
        return Finding("base", "onnxruntime", "ok", found[0], needed=True)
    if not found:
        return Finding(
            "base", "onnxruntime", "missing", mend="pip install onnxruntime-gpu", needed=True
        )
    mend = "pip uninstall onnxruntime onnxruntime-gpu, then install one of them"
    return Finding("base", "onnxruntime", "broken", " and ".join(found), mend, True)


def _provider(name: str) -> Finding:
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _TRY_PROVIDER, name],
            capture_output=True,
            text=True,
            timeout=_PROVIDER_TIMEOUT_S,
            check=False,
        )
        # Loading CUDA's libraries tells of those it lacks before our own last line.
        text = done.stdout.strip().rpartition("\n")[2]
        crashed = done.returncode < 0
    except subprocess.TimeoutExpired:
        text, crashed = "does not answer", True
    if text == "loaded":
        return Finding("provider", name, "ok", "loads", needed=name == "CPUExecutionProvider")
    status: Status = "broken" if crashed else "missing"
    found = "crashes" if crashed else "does not load"
    needed = name == "CPUExecutionProvider"
    return Finding("provider", name, status, found, missing_provider(name).hint, needed)


def _frontend(name: str) -> Finding:
    frontend = find_frontend(name)
    missing = missing_packages(frontend)
    if not missing:
        return Finding("frontend", name, "ok", "installed")
    return Finding(
        "frontend", name, "missing", f"lacks {', '.join(missing)}", install_command(frontend)
    )
