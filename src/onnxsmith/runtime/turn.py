"""Run one turn of one model in a fresh process, and hand its inputs over."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onnxsmith.errors import SmithError
from onnxsmith.runtime.bench_worker import Job, RoundResult


def measure_in_process(job: Job, folder: Path, timeout_s: float) -> RoundResult:
    """Do one turn in a fresh process.

    Args:
        job: What to do.
        folder: Where the process may leave its answer.
        timeout_s: Seconds after which it is killed.

    Raises:
        SmithError: The model fails, or the process crashes or takes too long.
    """
    answer = folder / "result.json"
    answer.unlink(missing_ok=True)
    # -P: the current folder's files must not shadow our modules or their dependencies.
    command = [sys.executable, "-P", "-m", "onnxsmith.runtime.bench_worker", str(answer)]
    try:
        done = subprocess.run(
            command,
            input=json.dumps(job.to_json()).encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise SmithError(
            f"one round took more than {timeout_s:g} seconds",
            "ask for fewer runs with --runs, or smaller inputs with --dim or --batch",
        ) from error
    if done.returncode != 0 or not answer.exists():
        raise SmithError(
            f"the measuring process {_ending(done.returncode, done.stderr)}",
            "try --in-process, another provider, or 'onnxsmith doctor'",
        )
    report = json.loads(answer.read_text())
    if "error" in report:
        raise SmithError(*report["error"])
    found = report["result"]
    return RoundResult(
        tuple(found["samples_ms"]),
        found["load_ms"],
        found["peak_memory_bytes"],
        tuple(found["providers"]),
    )


def _ending(code: int, stderr: bytes) -> str:
    """Say how a process ended: by which signal, or with which last words."""
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    lines = stderr.decode(errors="replace").strip().splitlines()
    return f"failed with exit code {code}: {lines[-1][:300] if lines else 'it said nothing'}"


def write_feeds(feeds: Mapping[str, np.ndarray[Any, Any]], folder: Path) -> str:
    """Write the inputs as npz without pickles: object arrays are texts here."""
    path = folder / "feeds.npz"
    plain = {
        name: array.astype(np.str_) if array.dtype.kind == "O" else array
        for name, array in feeds.items()
    }
    # As a dictionary through the stream form: a tensor may be called "file" like a parameter.
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in plain.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return str(path)
