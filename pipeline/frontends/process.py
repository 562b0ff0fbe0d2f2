"""Run a source in a worker process: limits, captured messages, crashes survived."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.frontends.arrays import load_arrays, save_arrays
from onnxsmith.pipeline.frontends.base import ConvertRequest, Export
from onnxsmith.pipeline.frontends.memory import available_memory, session_memory

_POLL_SECONDS = 0.02
_MEMORY_POLL_SECONDS = 0.2
_OUTPUT_LINES = 20
_MAX_LOG_BYTES = 1 << 30  # a loop that prints must not fill the disk


class WorkerError(SmithError):
    """A source failed in its worker; ``output`` is what the worker printed last."""


class WorkerLostError(WorkerError):
    """The worker is gone: it crashed, left Python or was stopped at a limit."""


@dataclass(frozen=True)
class Limits:
    """What a worker may use.

    Attributes:
        seconds: Wall time of one command (load, export, one reference run).
        memory: Bytes of memory of the worker and its children, files mapped not counted; None
            takes nine tenths of what is free at the start.
    """

    seconds: float = 3600.0
    memory: int | None = None


class WorkerSource:
    """A :class:`~onnxsmith.pipeline.frontends.base.Source` whose work happens in a worker.

    Args:
        frontend: The frontend's name.
        folder: A private, empty folder: the exchange of files, and where the export stays.
        limits: Time and memory.
        python: The interpreter; that of an environment where the frontend's packages are there.
        warnings: What the user should know of that interpreter; the export's warnings follow.
    """

    def __init__(
        self,
        frontend: str,
        folder: Path,
        limits: Limits,
        python: str = sys.executable,
        warnings: tuple[str, ...] = (),
    ) -> None:
        self._frontend = frontend
        self._warnings = warnings
        self._folder = folder
        self._limits = limits
        self._memory = limits.memory or int(available_memory() * 0.9)
        self._count = 0
        self._log = folder / "output.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [python, "-P", "-u", *_start(python), str(folder)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A session of its own: its children end with it, and Ctrl-C is ours to handle.
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def open(self, request: ConvertRequest) -> None:
        """Load the source; see ``Frontend.open``.

        Raises:
            WorkerError: Loading failed; the worker's own words.
            UsageError: The request does not fit the source.
        """
        self._call("open", {"frontend": self._frontend, "request": request.to_json()})

    def export(self, folder: Path) -> Export:
        """Export into the worker's own folder, whatever ``folder`` is; see ``Source.export``."""
        answer = self._call("export", {"arrays": "examples.npz"})
        return Export(
            self._folder / answer["path"],
            load_arrays(self._folder / "examples.npz"),
            answer["details"],
            (*self._warnings, *answer["warnings"]),
            answer["untouched"],
            answer["runnable"],
            answer["metadata"],
            answer["rows"],
            answer["steps"],
        )

    def reference(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the source; see ``Source.reference``."""
        inputs, outputs = "feeds.npz", "outputs.npz"
        save_arrays(self._folder / inputs, feeds)
        self._call("reference", {"feeds": inputs, "arrays": outputs})
        return load_arrays(self._folder / outputs)

    def _call(self, command: str, values: dict[str, Any]) -> dict[str, Any]:
        self._count += 1
        request = self._folder / f"request-{self._count}.json"
        request.write_text(json.dumps({"command": command, **values}), "utf-8")
        response = self._folder / f"response-{self._count}.json"
        with contextlib.suppress(BrokenPipeError):  # it died before: _wait says how
            assert self._process.stdin is not None
            self._process.stdin.write(f"{self._count}\n".encode())
            self._process.stdin.flush()
        self._wait(response, command)
        answer: dict[str, Any] = json.loads(response.read_text("utf-8"))
        if answer["ok"]:
            return answer
        if answer["usage"]:
            raise UsageError(answer["message"], answer["hint"])
        output = self._output() if answer["show_output"] else ""
        raise WorkerError(answer["message"], answer["hint"], output)

    def _wait(self, response: Path, command: str) -> None:
        start = memory_checked = time.monotonic()
        while not response.exists():
            status = self._process.poll()
            if status is not None:
                if response.exists():
                    return
                raise self._died(status, command)
            now = time.monotonic()
            if now - start > self._limits.seconds:
                raise self._stopped(
                    f"took longer than {self._limits.seconds:g} s to {_WHAT[command]}",
                    "allow more with --timeout, or look for an endless loop in the output above",
                )
            if now - memory_checked > _MEMORY_POLL_SECONDS:
                memory_checked = now
                self._check_use()
            time.sleep(_POLL_SECONDS)

    def _check_use(self) -> None:
        if session_memory(self._process.pid) > self._memory:
            raise self._stopped(
                f"used more than {self._memory / 2**30:.2g} GiB of memory",
                "allow more with --memory, or free some and try again",
            )
        if self._log.stat().st_size > _MAX_LOG_BYTES:
            raise self._stopped("printed more than 1 GiB", "silence the code's output")

    def _stopped(self, what: str, hint: str) -> WorkerLostError:
        self._end()
        return WorkerLostError(
            f"the frontend {self._frontend!r} {what} and was stopped", hint, self._output()
        )

    def _died(self, status: int, command: str) -> WorkerLostError:
        self._end()
        doing = f"the worker of the frontend {self._frontend!r}, asked to {_WHAT[command]},"
        if status >= 0:
            return WorkerLostError(
                f"{doing} ended by itself with exit status {status}",
                "the code, or a library it uses, leaves Python: see its output above",
                self._output(),
            )
        name = signal.Signals(-status).name
        hint = "the code, or a library it uses, crashed: see where in the output above"
        if -status == signal.SIGKILL:
            hint = "the system probably ran out of memory: free some, or take a smaller model"
        return WorkerLostError(f"{doing} was killed by {name}", hint, self._output())

    def _end(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        self._process.wait()

    def _output(self) -> str:
        """Return the last lines of what the worker printed; the rest of a huge log stays unread."""
        with self._log.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(0, size - 64 * 1024))
            text = log.read().decode("utf-8", "replace")
        lines = [line[:300] for line in text.splitlines() if line.strip()]
        return "\n".join(lines[-_OUTPUT_LINES:])


def _start(python: str) -> tuple[str, ...]:
    """Return the arguments that run the worker; other interpreters are shown only our package."""
    if python == sys.executable:
        return "-m", _MODULE
    package = Path(__file__).parents[2]
    return str(package / "pipeline" / "environments" / "bootstrap.py"), str(package), _MODULE


_MODULE = "onnxsmith.pipeline.frontends.worker"
_WHAT = {"open": "load the source", "export": "export the model", "reference": "run the model"}
