"""Run paddle2onnx, in a process of its own: what it cannot convert makes it abort."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from paddle2onnx import paddle2onnx_cpp2py_export as native

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.paddle.files import Program

# The newest that paddle2onnx 2.1 writes; it aborts at a newer one.
_NEWEST_OPSET = 21
_OLDEST_OPSET = 7

# optimize_tool=None: the default has polygraphy install packages while the model is exported.
# verbose=True: the program that it prints names the operators it could not convert.
_RUN = """
import sys
import paddle2onnx
graph, weights, out, opset = sys.argv[1:]
paddle2onnx.export(
    graph, weights, out, opset_version=int(opset), auto_upgrade_opset=True, verbose=True,
    enable_onnx_checker=True, optimize_tool=None,
)
"""


def export_program(program: Program, folder: Path, opset: int) -> Path:
    """Export a staged program and return the ONNX file.

    Args:
        program: The graph and, beside it under the same name, its weights.
        folder: Where the file goes.
        opset: The opset to aim at; the nearest one that paddle2onnx can write is taken.

    Raises:
        SmithError: paddle2onnx cannot convert an operator, or fails otherwise.
    """
    path = folder / "exported.onnx"
    # Never the place of a file: paddle2onnx looks for it and then goes on without weights.
    weights = program.weights or program.graph.with_suffix(".pdiparams")
    number = max(_OLDEST_OPSET, min(opset, _NEWEST_OPSET))
    arguments = (str(program.graph), str(weights), str(path), str(number))
    log = folder / "exporter.log"
    with log.open("wb") as out:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _RUN, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(folder)},  # it leaves files behind when it aborts
            check=False,
        )
    if done.returncode != 0 or not path.is_file():
        raise _failure(log.read_text("utf-8", "replace"), done.returncode)
    return path


def versions() -> dict[str, str]:
    """Return the versions that decide what an export looks like."""
    names = ("paddlepaddle", "paddle2onnx")
    return {name: version(name) for name in names}


def _failure(output: str, status: int) -> SmithError:
    if "unsupported operators" in output:
        unknown = ", ".join(unsupported_operators(output)) or "of the program"
        return SmithError(
            f"paddle2onnx cannot convert the operators {unknown}",
            "replace them in the model by others that compute the same",
        )
    # Its own lines first: after them come Paddle's traces of where it aborted.
    errors = [line for line in output.splitlines() if "ERROR" in line or "Error:" in line]
    plain = re.sub(r"\x1b\[[0-9;]*m|\[(ERROR|Paddle2ONNX)\]", "", errors[0]) if errors else ""
    ending = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    return SmithError(
        f"paddle2onnx cannot export the model: {' '.join(plain.split())[:300] or ending}",
        "try another --opset, or make the model simpler",
    )


def unsupported_operators(program: str) -> tuple[str, ...]:
    """Return the operators of a printed program that paddle2onnx has no counterpart for."""
    known = set(native.get_all_supported_operators_pir())
    used = dict.fromkeys(re.findall(r'"pd_op\.(\w+)"', program))
    silent = {"data", "feed", "fetch", "parameter"}  # they are not computed
    return tuple(
        name for name in used if not {name, name.rstrip("_")} & known and name not in silent
    )
