"""The versions that decide what an export looks like."""

from __future__ import annotations

from importlib.metadata import version


def versions() -> dict[str, str]:
    """Return the versions of the packages that export."""
    return {name: version(name) for name in ("torch", "onnxscript")}
