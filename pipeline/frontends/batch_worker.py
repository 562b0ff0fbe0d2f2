"""Convert one entry of a batch, in a process of its own.

Started by ``batch.py`` as ``python -P -m onnxsmith.pipeline.frontends.batch_worker FOLDER`` in the
batch's folder. ``FOLDER/request.json`` says what to do, ``FOLDER/result.json`` what came of it. The
end of the standard input interrupts it, as Ctrl-C would: it never outlives its parent, and leaves
no unfinished file.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

from onnxsmith.errors import RefusedError, SmithError
from onnxsmith.numerics import Tolerance, tolerance_for
from onnxsmith.pipeline.frontends.batch_file import BatchEntry
from onnxsmith.pipeline.frontends.convert import ConvertResult, convert
from onnxsmith.pipeline.frontends.names import parse_renames
from onnxsmith.pipeline.frontends.process import Limits
from onnxsmith.spec import parse_dims
from onnxsmith.target import find_target


def convert_entry(
    entry: BatchEntry, *, environments: str | None = None, memory: int | None = None
) -> ConvertResult:
    """Convert what an entry names.

    Args:
        entry: The conversion.
        environments: The folder of environments; this user's where omitted.
        memory: Bytes that its worker may use where the entry says nothing.

    Raises:
        SmithError: As ``convert``.
    """
    own = None if entry.memory is None else int(entry.memory * 2**30)
    return convert(
        entry.source,
        framework=entry.framework,
        weights=entry.weights,
        part=entry.part,
        inputs=entry.inputs,
        dims=parse_dims(entry.dims),
        opset=entry.opset,
        target=find_target(entry.target),
        data=entry.data,
        rename=parse_renames(entry.rename),
        preprocess=entry.preprocess,
        reference=entry.reference,
        repair=entry.repair,
        domains=entry.domains,
        verify=not entry.no_verify,
        tolerance=_tolerance(entry),
        trust=entry.trust,
        seed=entry.seed,
        limits=Limits(entry.timeout, own or memory),
        environments=environments,
    )


def main(folder: Path) -> None:
    """Run ``FOLDER/request.json``."""
    threading.Thread(target=_listen, daemon=True).start()
    request: dict[str, Any] = json.loads((folder / "request.json").read_text("utf-8"))
    result = _answer(request)
    unfinished = folder / "result.part"
    unfinished.write_text(json.dumps(result), "utf-8")
    unfinished.replace(folder / "result.json")


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    entry = BatchEntry.model_validate(request["entry"])
    try:
        result = convert_entry(
            entry, environments=request["environments"], memory=request["memory"]
        )
        result.artifact.save(request["output"])
    except SmithError as error:
        return {
            "status": "refused" if isinstance(error, RefusedError) else "failed",
            "reason": error.message,
            "hint": error.hint,
            "log": error.output,
        }
    return {
        "status": "written",
        "frontend": result.frontend,
        "nodes": sum(1 for graph in result.artifact.model.graphs() for _ in graph),
        "parity": max((d.max_rel for d in result.parity), default=None),
        "warnings": list(result.warnings),
    }


def _tolerance(entry: BatchEntry) -> Tolerance | None:
    """Return the tolerance asked for; what was left out is that of float32."""
    if entry.rtol is None and entry.atol is None:
        return None
    usual = tolerance_for(np.dtype(np.float32))
    return Tolerance(
        usual.rtol if entry.rtol is None else entry.rtol,
        usual.atol if entry.atol is None else entry.atol,
    )


def _listen() -> None:
    # Not through sys.stdin: Python aborts where it ends while another thread holds its lock.
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except KeyboardInterrupt:
        sys.exit(130)
