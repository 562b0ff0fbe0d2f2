"""What figures were measured on. No host names, users or paths: reports are passed around."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from onnxsmith.runtime.loading import loadable_providers

_PACKAGES = ("onnxruntime", "onnxruntime-gpu", "onnx", "onnx-ir", "onnxscript", "numpy")


@dataclass(frozen=True)
class Environment:
    """The machine and the software that figures depend on.

    Attributes:
        cpu: The processor's model name.
        cores: Processors that this process may use.
        memory_bytes: Main memory of the machine, or the container's limit where that is lower.
        system: Operating system and processor architecture.
        python: Version of Python.
        packages: Installed versions by package name.
        providers: Execution providers that really load, each tried in a process of its own.
    """

    cpu: str
    cores: int
    memory_bytes: int
    system: str
    python: str
    packages: dict[str, str]
    providers: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """Return the environment as JSON data."""
        return {**asdict(self), "providers": list(self.providers)}


def describe_environment() -> Environment:
    """Return the environment of this process."""
    return Environment(
        cpu=_cpu_model(),
        cores=usable_cores(),
        memory_bytes=_memory_bytes(),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        packages={name: found for name in _PACKAGES if (found := installed_version(name))},
        providers=loadable_providers(),
    )


def installed_version(package: str) -> str:
    """Return the version of an installed package, or an empty text."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def usable_cores() -> int:
    """Return the processors that this process may use; a container often has fewer than exist."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def peak_memory_bytes() -> int | None:
    """Return the highest resident memory of this process so far, where the system tells."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_bytes() -> int:
    if not hasattr(os, "sysconf"):  # Windows
        return 0
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.exists() else ""
    return min(total, int(text)) if text.isdigit() else total
