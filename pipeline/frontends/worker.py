"""The worker process: loads a source, exports it and runs it, apart from the process that asked.

Importing a framework takes seconds and gigabytes, exporters call ``sys.exit`` or crash, and user
code may do anything: none of it happens in the process that writes the result. The worker keeps
the loaded source between commands, so that the export and the reference outputs come from the
same weights even where a callable draws them at random.

Started by ``process.py`` as ``python -P -m onnxsmith.pipeline.frontends.worker FOLDER``. A line
``N`` on the standard input runs ``FOLDER/request-N.json``; the answer is ``response-N.json``.
The end of the input ends the worker, so it never outlives its parent.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import queue
import random
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.frontends.arrays import load_arrays, save_arrays
from onnxsmith.pipeline.frontends.base import ConvertRequest, Source
from onnxsmith.pipeline.frontends.table import find_frontend
from onnxsmith.pipeline.loading import describe


@dataclass
class _Worker:
    """The commands; each takes the request's values and returns the response's."""

    folder: Path
    frontend: str = ""
    source: Source | None = None
    commands: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = field(init=False)

    def __post_init__(self) -> None:
        self.commands = {"open": self._open, "export": self._export, "reference": self._reference}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run one command; whatever goes wrong in it becomes an answer too."""
        command = request["command"]
        try:
            return {"ok": True, **self.commands[command](request)}
        except SmithError as error:
            show = _is_telling(error.__cause__)
            if show:
                traceback.print_exception(error.__cause__)
            if error.output:  # the parent shows what was printed last
                sys.stderr.write(f"{error.output}\n")
            return {
                "ok": False,
                "usage": isinstance(error, UsageError),
                "message": error.message,
                "hint": error.hint,
                "show_output": show or bool(error.output),
            }
        except (Exception, SystemExit) as error:  # noqa: BLE001 - reported to the parent
            traceback.print_exc()
            return {
                "ok": False,
                "usage": False,
                "message": f"the frontend {self.frontend!r} failed to {_VERBS[command]}: "
                f"{describe(error)}",
                "hint": "its last messages are shown above",
                "show_output": True,
            }

    def _open(self, request: dict[str, Any]) -> dict[str, Any]:
        self.frontend = request["frontend"]
        wanted = ConvertRequest.from_json(request["request"])
        random.seed(wanted.seed)
        # The legacy generator is the one that user code and scikit-learn draw from by default.
        np.random.seed(wanted.seed)
        self.source = find_frontend(self.frontend).open(wanted)
        return {}

    def _export(self, request: dict[str, Any]) -> dict[str, Any]:
        export = self._opened().export(self.folder / "model")
        save_arrays(self.folder / request["arrays"], export.examples)
        return {
            "path": export.path.relative_to(self.folder).as_posix(),
            "details": dict(export.details),
            "warnings": list(export.warnings),
            "untouched": export.untouched,
            "runnable": export.runnable,
            "metadata": dict(export.metadata),
            "rows": export.rows,
            "steps": dict(export.steps),
        }

    def _reference(self, request: dict[str, Any]) -> dict[str, Any]:
        feeds = load_arrays(self.folder / request["feeds"])
        save_arrays(self.folder / request["arrays"], self._opened().reference(feeds))
        return {}

    def _opened(self) -> Source:
        if self.source is None:
            raise SmithError("the worker has no source open", "report this as a fault of onnxsmith")
        return self.source


def _is_telling(cause: BaseException | None) -> bool:
    """Return whether a trace leads anywhere but through our own code and Python's importer."""
    frames = traceback.extract_tb(None if cause is None else cause.__traceback__)
    ours = str(Path(__file__).parents[1])
    return any(
        not frame.filename.startswith(("<frozen", ours, os.path.dirname(importlib.__file__)))
        for frame in frames
    )


_VERBS = {"open": "load the source", "export": "export the model", "reference": "run the model"}


def main(folder: Path) -> None:
    """Serve commands until the standard input ends."""
    control = _take_standard_input()
    faulthandler.enable(all_threads=False)  # a crash shows where the source was
    orders: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(control, orders), daemon=True).start()
    (folder / "model").mkdir(exist_ok=True)
    worker = _Worker(folder)
    while True:
        number = orders.get()
        request = json.loads((folder / f"request-{number}.json").read_text("utf-8"))
        answer = json.dumps(worker.answer(request))
        sys.stdout.flush()
        sys.stderr.flush()
        unfinished = folder / "response.part"
        unfinished.write_text(answer, "utf-8")
        unfinished.replace(folder / f"response-{number}.json")


def _take_standard_input() -> TextIO:
    """Keep the control pipe for ourselves: user code that reads its input finds it empty."""
    control = os.fdopen(os.dup(0), encoding="utf-8")
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    return control


def _listen(control: TextIO, orders: queue.SimpleQueue[str]) -> None:
    for line in control:
        orders.put(line.strip())
    os._exit(0)  # the parent is gone; whatever the main thread does is no longer wanted


if __name__ == "__main__":
    main(Path(sys.argv[1]))
