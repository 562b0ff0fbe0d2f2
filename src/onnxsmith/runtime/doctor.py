"""Find out whether this installation works, and what to install for what is missing.

Everything is tried in processes of its own: a broken package may end the process that imports it.
Nothing heavy is imported here, since this is what runs when the rest does not.
"""

from __future__ import annotations

import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from onnxsmith.runtime.loading import ProviderStatus

_DISTRIBUTION = "onnxsmith"

# All of these install the module "onnxruntime" and overwrite each other's files.
RUNTIMES = (
    "onnxruntime",
    "onnxruntime-cann",
    "onnxruntime-directml",
    "onnxruntime-gpu",
    "onnxruntime-migraphx",
    "onnxruntime-openvino",
    "onnxruntime-rocm",
    "onnxruntime-training",
    "onnxruntime-training-cpu",
)

# Modules whose name is not that of their distribution.
_MODULES = {
    "onnx-ir": "onnx_ir",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
    **dict.fromkeys(RUNTIMES, "onnxruntime"),
}

_IMPORT = """
import importlib, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
        reason = ""
    except BaseException as error:
        reason = f"{type(error).__name__}: {error}"
    print(name, " ".join(reason.split())[:300], sep="\\t", flush=True)
"""


@dataclass(frozen=True)
class PackageStatus:
    """One package that the base or an extra asks for.

    Attributes:
        name: The distribution's name.
        required: The versions asked for, as a specifier; may be empty.
        installed: The installed version, or an empty text.
        extra: The extra that asks for it; empty for the base.
        problem: What is wrong, or an empty text. An extra that is not installed is no problem.
    """

    name: str
    required: str
    installed: str
    extra: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Finding:
    """Something to know.

    Attributes:
        what: One line: what is the case.
        fix: The command that mends it, or an empty text.
        serious: Whether the base does not work because of it.
    """

    what: str
    fix: str = ""
    serious: bool = False


@dataclass(frozen=True)
class Diagnosis:
    """The state of an installation.

    Attributes:
        version: Version of onnxsmith.
        python: Version of Python.
        system: Operating system and processor architecture.
        packages: The base's packages and those of all extras.
        providers: Which execution providers load; empty where the runtime itself does not.
        findings: What to know, the serious things first.
    """

    version: str
    python: str
    system: str
    packages: tuple[PackageStatus, ...]
    providers: tuple[ProviderStatus, ...]
    findings: tuple[Finding, ...] = field(default=())

    @property
    def healthy(self) -> bool:
        """Whether the base works."""
        return not any(finding.serious for finding in self.findings)

    def to_json(self) -> dict[str, object]:
        """Return the diagnosis as JSON data."""
        return {"healthy": self.healthy, **asdict(self)}


def diagnose() -> Diagnosis:
    """Look at what is installed and try it."""
    wanted = [Requirement(text) for text in requires(_DISTRIBUTION) or ()]
    packages = tuple(_statuses(wanted))
    runtimes = [name for name in RUNTIMES if installed(name)]
    providers = _providers(packages)
    findings = [
        *_runtime_conflicts(runtimes),
        *_package_findings(packages),
        *_provider_findings(providers),
    ]
    findings.sort(key=lambda finding: not finding.serious)
    return Diagnosis(
        version=version(_DISTRIBUTION),
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        packages=packages,
        providers=providers,
        findings=tuple(findings),
    )


def installed(name: str) -> str:
    """Return the version of an installed distribution, or an empty text."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def import_failures(modules: Sequence[str]) -> dict[str, str]:
    """Import modules one after the other in another process; return the reasons of failures."""
    failures: dict[str, str] = {}
    left = list(modules)
    while left:
        command = [sys.executable, "-P", "-c", _IMPORT, *left]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        for line in done.stdout.splitlines():
            name, tab, reason = line.partition("\t")
            if tab and left and name == left[0]:  # modules may print lines of their own
                left.pop(0)
                failures[name] = reason
        if left:
            ending = done.returncode
            words = signal.Signals(-ending).name if ending < 0 else f"exit code {ending}"
            failures[left.pop(0)] = f"importing it ends the process with {words}"
    return {name: reason for name, reason in failures.items() if reason}


def _statuses(wanted: Iterable[Requirement]) -> Iterable[PackageStatus]:
    """Yield the base's packages, then those of the extras but for the developers' ones."""
    base = [r for r in wanted if r.marker is None or r.marker.evaluate({"extra": ""})]
    found = {r.name: _installed_for(r) for r in base}
    modules = {r.name: _module(r.name) for r in base if found[r.name]}
    failures = import_failures(list(dict.fromkeys(modules.values())))
    for requirement in base:
        name = requirement.name
        problem = _problem(requirement, found[name]) or failures.get(modules.get(name, ""), "")
        yield PackageStatus(name, str(requirement.specifier), found[name], "", problem)
    for extra, requirement in _extras(wanted):
        have = installed(requirement.name)
        problem = _problem(requirement, have) if have else ""
        yield PackageStatus(requirement.name, str(requirement.specifier), have, extra, problem)


def _extras(wanted: Iterable[Requirement]) -> Iterable[tuple[str, Requirement]]:
    names = metadata(_DISTRIBUTION).get_all("Provides-Extra") or []
    for extra in sorted(set(names) - {"dev"}):
        for requirement in wanted:
            marker = requirement.marker
            if marker and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""}):
                yield extra, requirement


def _installed_for(requirement: Requirement) -> str:
    """Return the installed version; one build of the runtime stands for another."""
    if canonicalize_name(requirement.name) in RUNTIMES:
        return next((have for name in RUNTIMES if (have := installed(name))), "")
    return installed(requirement.name)


def _module(distribution: str) -> str:
    name = canonicalize_name(distribution)
    return _MODULES.get(name, name.replace("-", "_"))


def _problem(requirement: Requirement, have: str) -> str:
    if not have:
        return "not installed"
    if not requirement.specifier.contains(have, prereleases=True):
        return f"version {have} does not fit {requirement.specifier}"
    return ""


def _runtime_conflicts(runtimes: Sequence[str]) -> Iterable[Finding]:
    if len(runtimes) > 1:
        names = " ".join(runtimes)
        keep = "onnxruntime-gpu" if "onnxruntime-gpu" in runtimes else runtimes[0]
        yield Finding(
            f"{' and '.join(runtimes)} are both installed and overwrite each other's files",
            f"pip uninstall -y {names} && pip install {keep}",
            serious=True,
        )


def _package_findings(packages: Iterable[PackageStatus]) -> Iterable[Finding]:
    extras: dict[str, list[str]] = {}
    for package in packages:
        wish = f"'{package.name}{package.required}'"
        if package.problem and not package.extra:
            force = "--force-reinstall " if package.installed else ""
            yield Finding(f"{package.name}: {package.problem}", f"pip install {force}{wish}", True)
        elif package.problem:
            yield Finding(f"{package.name}: {package.problem}", f"pip install {wish}")
        elif not package.installed:
            extras.setdefault(package.extra, []).append(package.name)
    for extra, names in extras.items():
        yield Finding(
            f"the extra {extra!r} is not installed (it needs {', '.join(names)})",
            f"pip install '{_DISTRIBUTION}[{extra}]'",
        )


def _providers(packages: Iterable[PackageStatus]) -> tuple[ProviderStatus, ...]:
    """Try the providers, if what trying needs works itself."""
    needed = {"onnx", *RUNTIMES}
    if any(p.problem for p in packages if not p.extra and canonicalize_name(p.name) in needed):
        return ()
    # Imported only now: it imports the runtime, which has just been seen to load.
    from onnxsmith.runtime.loading import check_providers

    return check_providers()


def _provider_findings(providers: Sequence[ProviderStatus]) -> Iterable[Finding]:
    gpu = has_nvidia_gpu()
    fixes: Mapping[str, str] = {
        "CUDAExecutionProvider": "pip install 'onnxruntime-gpu[cuda,cudnn]'",
        "TensorrtExecutionProvider": "pip install 'tensorrt-cu13>=10.13,<11'",
    }
    for status in providers:
        if status.loads:
            continue
        if status.name == "CPUExecutionProvider":
            fix = "pip install --force-reinstall onnxruntime-gpu"
            yield Finding(f"{status.name} does not load: {status.reason}", fix, serious=True)
        elif status.name in fixes and not gpu:
            yield Finding(f"{status.name} cannot be used: no NVIDIA GPU was found")
        else:
            yield Finding(
                f"{status.name} does not load: {status.reason}", fixes.get(status.name, "")
            )


def has_nvidia_gpu() -> bool:
    """Return whether the machine shows an NVIDIA GPU with a driver."""
    return Path("/dev/nvidiactl").exists() or shutil.which("nvidia-smi") is not None
