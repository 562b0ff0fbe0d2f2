"""Execution providers: what was asked for is what runs, or an error."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence

import onnxruntime as ort

from onnxsmith.errors import SmithError
from onnxsmith.target import Target

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"

_HINTS = {
    CUDA: "needs an NVIDIA GPU, its driver and: pip install 'onnxruntime-gpu[cuda,cudnn]'",
    TENSORRT: "needs an NVIDIA GPU and TensorRT 10.13 or newer, below 11",
}


def provider_name(text: str) -> str:
    """Return the full name of a provider: ``cuda`` and ``CUDAExecutionProvider`` are the same.

    Raises:
        SmithError: The installed runtime knows no such provider.
    """
    known = ort.get_all_providers()
    for name in known:
        if text.lower() in (name.lower(), name.lower().removesuffix("executionprovider")):
            return str(name)
    short = ", ".join(sorted(n.removesuffix("ExecutionProvider").lower() for n in known))
    raise SmithError(f"unknown execution provider {text!r}", f"the runtime knows: {short}")


def compiled_providers() -> tuple[str, ...]:
    """Return the providers that the installed runtime was built with; they may fail to load."""
    return tuple(ort.get_available_providers())


def resolve_providers(target: Target, providers: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the providers to create a session with, in order of preference.

    Args:
        target: Supplies the order where ``providers`` is None.
        providers: What the user asked for, short or full names.

    Raises:
        SmithError: One of them is not part of the installed runtime.
    """
    names = [provider_name(p) for p in providers] if providers else list(target.providers)
    for name in names:
        if name not in compiled_providers():
            raise missing_provider(name)
    if not {CUDA, TENSORRT}.isdisjoint(names):
        _preload_cuda()
    return tuple(names)


def _preload_cuda() -> None:
    """Load CUDA's libraries from the NVIDIA wheels, where the system's loader does not look."""
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find
        ort.preload_dlls()


def missing_provider(name: str) -> SmithError:
    """Say that a provider that was asked for cannot run here, and what it needs."""
    hint = _HINTS.get(name, "install a runtime that has it")
    return SmithError(
        f"the provider {name} is not available on this machine",
        f"{hint}; or choose --target cpu",
    )
