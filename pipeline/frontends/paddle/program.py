"""Export a saved program, and run it with Paddle's own inference engine."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import paddle.inference

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.base import ConvertRequest, Export
from onnxsmith.pipeline.frontends.paddle.clean import (
    clean,
    input_specs,
    make_examples,
    name_outputs,
)
from onnxsmith.pipeline.frontends.paddle.exporter import export_program, versions
from onnxsmith.pipeline.frontends.paddle.files import Program
from onnxsmith.pipeline.frontends.paddle.params import check_weights
from onnxsmith.pipeline.loading import user_code


class FileSource:
    """A saved program.

    Args:
        program: Its files.
        request: Names and sizes of open dimensions; the rest the program knows.

    Raises:
        SmithError: The files are damaged.
    """

    def __init__(self, program: Program, request: ConvertRequest) -> None:
        self.request = request
        self.program = program
        if program.weights is not None:
            check_weights(program.weights)
        self.predictor = _predictor(program)
        self.inputs = tuple(self.predictor.get_input_names())
        self.outputs = tuple(self.predictor.get_output_names())

    def export(self, folder: Path) -> Export:
        """Export with paddle2onnx; see ``Source.export``."""
        staged = stage(self.program, folder)
        model = onnx.load(export_program(staged, folder, self.request.opset))
        self.names = name_outputs(self.outputs, self.inputs)
        model = clean(model, self.names, self.request.inputs)
        examples = make_examples(input_specs(model), self.request)
        path = folder / "model.onnx"
        onnx.save(model, path)
        route = self.program.graph.suffix.lstrip(".")
        details = {"route": route, "versions": versions(), **_digests(self.program)}
        return Export(path, examples, details)

    def reference(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the program as it was saved; see ``Source.reference``."""
        shapes = ", ".join(str(list(array.shape)) for array in feeds.values())
        with user_code(f"running the program on inputs of shape {shapes}"):
            for name in self.inputs:
                array = np.ascontiguousarray(feeds[name])
                self.predictor.get_input_handle(name).copy_from_cpu(array)
            self.predictor.run()
            arrays = [self.predictor.get_output_handle(name).copy_to_cpu() for name in self.outputs]
        return dict(zip(self.names, arrays, strict=True))


def stage(program: Program, folder: Path) -> Program:
    """Put a program's files side by side under one name, as paddle2onnx looks for them."""
    graph = _link(program.graph, folder / f"source{program.graph.suffix.lower()}")
    if program.weights is None:
        return Program(graph, None)
    return Program(graph, _link(program.weights, folder / "source.pdiparams"))


def _digests(program: Program) -> dict[str, str]:
    """Return the digests of the files: one name stands for both, or for a folder."""
    files = {"graph_digest": program.graph, "weights_digest": program.weights}
    digests: dict[str, str] = {}
    for key, path in files.items():
        if path is not None:
            with path.open("rb") as file:
                digests[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def _link(path: Path, place: Path) -> Path:
    try:
        place.symlink_to(path.resolve())
    except OSError:  # file systems and systems without links
        shutil.copyfile(path, place)
    return place


def _predictor(program: Program) -> Any:
    weights = "" if program.weights is None else str(program.weights)
    config = paddle.inference.Config(str(program.graph), weights)
    config.disable_glog_info()
    config.disable_gpu()
    # As it was saved: the engine's own fusions are not what the export is compared with.
    config.switch_ir_optim(False)
    try:
        return paddle.inference.create_predictor(config)
    except Exception as error:  # paddle raises RuntimeError, ValueError, SystemError and more
        raise SmithError(
            f"Paddle cannot load {program.graph.name}: {_reason(error)}",
            "the program or its weights are damaged, or a newer Paddle wrote them",
        ) from error


def _reason(error: Exception) -> str:
    """Return the line of Paddle's long reports that says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "Error" in line or line.startswith("(")]
    return (telling or lines or [type(error).__name__])[-1][:300]
