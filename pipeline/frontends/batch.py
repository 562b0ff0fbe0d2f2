"""Convert a list of models, some at a time, each in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pydantic

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.frontends.batch_file import BatchEntry, check_entries, load_batch
from onnxsmith.pipeline.frontends.memory import available_memory

Status = Literal["written", "refused", "failed"]

_MODULE = "onnxsmith.pipeline.frontends.batch_worker"
_POLL_SECONDS = 0.02
# An interrupted conversion removes what it began; after this it is killed.
_GRACE_SECONDS = 5.0
_OUTPUT_LINES = 20


@dataclass(frozen=True)
class BatchOutcome:
    """What came of one entry.

    Attributes:
        source: The entry's source.
        output: The file that was to be written.
        status: ``written``; ``refused`` where it departs from its source; ``failed`` otherwise.
        seconds: Wall time.
        frontend: The frontend's name; empty where it was not written.
        nodes: Nodes of the model, those of subgraphs included; None where it was not written.
        parity: The largest relative difference from the source; None where nothing was compared.
        reason: One line: why it was not written.
        hint: One line: how to mend it.
        log: What its framework printed last before it failed.
        warnings: What the user should know, one line each.
    """

    source: str
    output: str
    status: Status
    seconds: float
    frontend: str = ""
    nodes: int | None = None
    parity: float | None = None
    reason: str = ""
    hint: str = ""
    log: str = ""
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as JSON values."""
        return {**vars(self), "seconds": round(self.seconds, 2), "warnings": list(self.warnings)}


Report = Callable[[BatchOutcome], None]


def convert_batch(
    entries: Sequence[BatchEntry | Mapping[str, Any]] | str | os.PathLike[str],
    *,
    folder: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    jobs: int = 1,
    environments: str | os.PathLike[str] | None = None,
    report: Report = lambda outcome: None,
) -> tuple[BatchOutcome, ...]:
    """Convert each entry; one that fails does not stop the others.

    Args:
        entries: What to convert, or a YAML file that lists it.
        folder: Sources and data are relative to it, and so are outputs; a file's own folder, or
            the current one, where omitted.
        out: The folder that outputs are relative to instead; it is made.
        jobs: How many are converted at a time. They share the free memory.
        environments: The folder of environments; this user's where omitted.
        report: Takes each outcome as it comes.

    Returns:
        One outcome for each entry, in order.

    Raises:
        UsageError: An entry is wrong, or two of them get in each other's way; nothing was run.
        SmithError: The file cannot be read.
    """
    if jobs < 1:
        raise UsageError(f"cannot run {jobs} conversions at a time", "give 1 or more")
    if isinstance(entries, (str, os.PathLike)):
        folder = Path(entries).parent if folder is None else folder
        listed = load_batch(Path(entries))
    else:
        listed = tuple(_checked(entry) for entry in entries)
    base = Path(folder or ".").resolve()
    # Absolute outputs stay where they are: joining two absolute paths gives the second.
    place = base if out is None else Path(out).resolve()
    outputs = [place / entry.output for entry in listed]
    check_entries(listed, outputs, base)
    if out is not None:
        _make(place)
    memory = int(available_memory() * 0.9 / jobs) if jobs > 1 else None
    shared = {"environments": _absolute(environments), "memory": memory}
    with tempfile.TemporaryDirectory(prefix="onnxsmith-") as scratch:
        orders = [
            _Order(entry, output, base, Path(scratch) / str(number), shared)
            for number, (entry, output) in enumerate(zip(listed, outputs, strict=True))
        ]
        return _run(orders, jobs, report)


@dataclass(frozen=True)
class _Order:
    """One entry with what its process needs to know."""

    entry: BatchEntry
    output: Path
    base: Path
    folder: Path
    shared: Mapping[str, Any]


class _Job:
    """A conversion that runs."""

    def __init__(self, order: _Order) -> None:
        self.order = order
        self._start = time.monotonic()
        folder = order.folder
        (folder / "tmp").mkdir(parents=True)
        request = {
            "entry": order.entry.model_dump(mode="json", by_alias=True),
            "output": str(order.output),
            **order.shared,
        }
        (folder / "request.json").write_text(json.dumps(request), "utf-8")
        with (folder / "output.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", _MODULE, str(folder)],
                cwd=order.base,
                # What a killed one leaves goes with the batch's own folder.
                env={**os.environ, "TMPDIR": str(folder / "tmp")},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is ours to hand on
            )

    def ended(self) -> bool:
        """Return whether it is done, one way or another."""
        return self._process.poll() is not None

    def interrupt(self) -> None:
        """Ask it to end: the end of its input does."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def end(self, deadline: float) -> None:
        """Wait until it has ended, and kill it at the deadline."""
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def outcome(self) -> BatchOutcome:
        """Return what came of it."""
        self.interrupt()  # closes the pipe to a process that is gone
        seconds = time.monotonic() - self._start
        entry, path = self.order.entry, self.order.folder / "result.json"
        if path.is_file():
            result = json.loads(path.read_text("utf-8"))
            result["warnings"] = tuple(result.get("warnings", ()))
            return BatchOutcome(entry.source, entry.output, seconds=seconds, **result)
        status = self._process.returncode
        ending = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        text = (self.order.folder / "output.log").read_text("utf-8", "replace")
        lines = [line[:300] for line in text.splitlines() if line.strip()]
        return BatchOutcome(
            entry.source,
            entry.output,
            "failed",
            seconds,
            reason=f"its process ended with {ending}",
            hint="convert it by itself to see more; it may need more memory than there is",
            log="\n".join(lines[-_OUTPUT_LINES:]),
        )


def _run(orders: Sequence[_Order], jobs: int, report: Report) -> tuple[BatchOutcome, ...]:
    waiting = deque(enumerate(orders))
    running: dict[int, _Job] = {}
    outcomes: dict[int, BatchOutcome] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                number, order = waiting.popleft()
                running[number] = _Job(order)
            for number in [n for n, job in running.items() if job.ended()]:
                outcomes[number] = running.pop(number).outcome()
                report(outcomes[number])
            time.sleep(_POLL_SECONDS)
    finally:
        for job in running.values():
            job.interrupt()
        deadline = time.monotonic() + _GRACE_SECONDS
        for job in running.values():
            job.end(deadline)
    return tuple(outcomes[number] for number in range(len(orders)))


def _checked(entry: BatchEntry | Mapping[str, Any]) -> BatchEntry:
    if isinstance(entry, BatchEntry):
        return entry
    try:
        return BatchEntry.model_validate(dict(entry))
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            f"a conversion is wrong: {where}: {first['msg'].lower()}",
            "its keys are the options of 'onnxsmith convert'",
        ) from error


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SmithError(
            f"cannot make the folder {folder}: {error.strerror}", "choose another one with --out"
        ) from error


def _absolute(path: str | os.PathLike[str] | None) -> str | None:
    return None if path is None else str(Path(path).resolve())
