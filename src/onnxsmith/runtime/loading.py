"""Which execution providers really load here.

A runtime that was built with a provider may still fail to load it: no device, no driver, a
library missing. It then says so in its log alone and runs on the CPU; a broken driver can also end
the whole process. Each provider is therefore asked for by a tiny session in a process of its own.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import onnx
import onnx.parser

from onnxsmith.runtime.providers import CPU, compiled_providers

_TIMEOUT_S = 120

_PROBE = """
import sys
import onnxruntime as ort
name = sys.argv[1]
if name != "CPUExecutionProvider" and hasattr(ort, "preload_dlls"):
    ort.preload_dlls(msvc=False)
session = ort.InferenceSession(sys.stdin.buffer.read(), providers=[name])
sys.exit(0 if name in session.get_providers() else 3)
"""

_MODEL = """
<ir_version: 8, opset_import: ["": 17]>
identity (float[1] x) => (float[1] y) { y = Relu(x) }
"""


@dataclass(frozen=True)
class ProviderStatus:
    """Whether an execution provider works.

    Attributes:
        name: The provider's full name.
        loads: Whether a session really uses it.
        reason: Why not, in one line.
    """

    name: str
    loads: bool
    reason: str = ""

    def to_json(self) -> dict[str, object]:
        """Return the status as JSON data."""
        return asdict(self)


def check_providers(names: Sequence[str] | None = None) -> tuple[ProviderStatus, ...]:
    """Ask for each provider in a process of its own.

    Args:
        names: Full names; None for all that the installed runtime was built with.
    """
    asked = compiled_providers() if names is None else tuple(names)
    model = onnx.parser.parse_model(_MODEL).SerializeToString()
    with ThreadPoolExecutor(max_workers=max(1, len(asked))) as pool:
        return tuple(pool.map(lambda name: _check(name, model), asked))


def loadable_providers() -> tuple[str, ...]:
    """Return the providers that really load; the CPU's is part of every runtime."""
    others = [name for name in compiled_providers() if name != CPU]
    found = [status.name for status in check_providers(others) if status.loads]
    return (*found, CPU)


def _check(name: str, model: bytes) -> ProviderStatus:
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _PROBE, name],
            input=model,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return ProviderStatus(name, False, f"it did not answer within {_TIMEOUT_S} seconds")
    if done.returncode == 0:
        return ProviderStatus(name, True)
    if done.returncode < 0:
        ended = signal.Signals(-done.returncode).name
        return ProviderStatus(name, False, f"loading it ends the process with {ended}")
    return ProviderStatus(name, False, _reason(done.stderr.decode(errors="replace")))


def _reason(log: str) -> str:
    """Return the most telling line of the runtime's log: a missing library, else the last error."""
    missing = re.search(r"(lib[\w.+-]+\.so[\w.]*): cannot open shared object file", log)
    if missing:
        return f"the library {missing[1]} is missing"
    plain = re.sub(r"\x1b\[[0-9;]*m", "", log)
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower() or "fail" in line.lower()]
    last = (errors or lines or ["the runtime left it out without a word"])[-1]
    return last.rpartition("] ")[2][:300]
