"""Try several ways to export, the best first, and trust none that the source contradicts."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.base import Export
from onnxsmith.pipeline.frontends.names import check_signature
from onnxsmith.pipeline.frontends.torch.probes import Probes
from onnxsmith.pipeline.frontends.torch.trim import trim_memory
from onnxsmith.pipeline.frontends.torch.versions import versions

# The history holds no paths; messages of torch name files.
_PATH = re.compile(r"(?:/[\w.+-]+)+/")


@dataclass(frozen=True)
class Written:
    """What one way of exporting wrote.

    Attributes:
        path: The model file.
        warnings: What the user should know, one line each.
    """

    path: Path
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rung:
    """One way to export.

    Attributes:
        name: As it stands in the history.
        export: Writes the model into an empty folder; raises a SmithError where it cannot.
        needs_proof: Whether it is trusted only where the source ran at other sizes or values too:
            a trace freezes branches, and automatic dimensions may hold at one size alone.
    """

    name: str
    export: Callable[[Path], Written]
    needs_proof: bool = False


@dataclass
class _Climb:
    failures: dict[str, SmithError] = field(default_factory=dict)
    fallback: tuple[Rung, Written] | None = None


def climb(
    rungs: Iterable[Rung],
    folder: Path,
    probes: Probes,
    examples: Mapping[str, np.ndarray],
    warnings: Iterable[str] = (),
) -> Export:
    """Return the export of the first rung that agrees with the source.

    Where all that export disagree, the first that needs no proof is handed over, with a warning
    for each: the check of parity after it judges by the user's own tolerance and data.

    Raises:
        SmithError: No rung exports; each one's reason is a line of the error's output.
    """
    state = _Climb()
    for number, rung in enumerate(rungs):
        place = folder / f"route-{number}"
        place.mkdir()
        try:
            written = rung.export(place)
            trim_memory()
            _check(rung, written, probes, state)
        except SmithError as error:
            state.failures[rung.name] = error
            if state.fallback is None or state.fallback[0] is not rung:
                shutil.rmtree(place)  # weights may be large
            continue
        return _export(rung, written, examples, state, warnings)
    if state.fallback is None:
        raise _all_failed(state)
    rung, written = state.fallback
    told = [f"the route {name!r} is not right: {e.message}" for name, e in state.failures.items()]
    return _export(rung, written, examples, state, (*warnings, *told))


def _check(rung: Rung, written: Written, probes: Probes, state: _Climb) -> None:
    if rung.needs_proof and not probes.enough:
        why = f" ({probes.refusal})" if probes.refusal else ""
        raise SmithError(f"it cannot be trusted where the source runs at no other size{why}")
    artifact = Artifact.load(written.path)
    check_signature(artifact.model, probes.specs)
    try:
        probes.judge(artifact)
    except SmithError:
        if not rung.needs_proof:
            state.fallback = state.fallback or (rung, written)
        raise


def _export(
    rung: Rung,
    written: Written,
    examples: Mapping[str, np.ndarray],
    state: _Climb,
    warnings: Iterable[str],
) -> Export:
    details = {"route": rung.name, "versions": versions()}
    failed = {
        name: _PATH.sub("", e.message) for name, e in state.failures.items() if name != rung.name
    }
    if failed:
        details["failed"] = failed
    return Export(written.path, examples, details, (*warnings, *written.warnings))


def _all_failed(state: _Climb) -> SmithError:
    first = next(iter(state.failures.values()))
    told = [f"{name}: {failure.message}" for name, failure in state.failures.items()]
    error = SmithError(first.message, first.hint, "\n".join(told) if len(told) > 1 else "")
    error.__cause__ = first.__cause__
    return error
