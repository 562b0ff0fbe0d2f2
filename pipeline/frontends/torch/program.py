"""Load and export ``.pt2`` files: programs that torch.export wrote."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.base import ConvertRequest, Export
from onnxsmith.pipeline.frontends.torch.frontend import versions
from onnxsmith.pipeline.frontends.torch.inputs import (
    name_outputs,
    tensor_leaves,
    to_numpy,
    to_torch,
)
from onnxsmith.pipeline.frontends.torch.module import explained, quiet, write_program
from onnxsmith.pipeline.frontends.torch.safe import RunsCodeError, without_code
from onnxsmith.pipeline.loading import user_code


class ProgramSource:
    """An exported program with example inputs.

    Raises:
        SmithError: The program takes something other than tensors.
    """

    def __init__(self, program: Any, request: ConvertRequest) -> None:
        self.program = program
        self.opset = request.opset
        self.names = tuple(program.graph_signature.user_inputs)
        self.tensors = _examples(program, self.names)
        with user_code("running the program on its example inputs"), quiet():
            self._module = program.module()
            output = self._module(
                *self._arguments(self.tensors)[0], **self._arguments(self.tensors)[1]
            )
        self.outputs = name_outputs(output, self.names)

    def export(self, folder: Path) -> Export:
        """Translate the program to ONNX; see ``Source.export``."""
        with quiet(), explained():
            program = torch.onnx.export(
                self.program,
                input_names=list(self.names),
                output_names=list(self.outputs),
                opset_version=self.opset,
                dynamo=True,
                verbose=False,
            )
        path = write_program(program, folder, self.program.state_dict)
        pairs = zip(self.names, self.tensors, strict=True)
        examples = {name: to_numpy(tensor) for name, tensor in pairs}
        return Export(path, examples, {"route": "dynamo", "versions": versions()})

    def reference(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the program itself; see ``Source.reference``."""
        tensors = tuple(to_torch(feeds[name]) for name in self.names)
        shapes = ", ".join(str(list(tensor.shape)) for tensor in tensors)
        arguments, named = self._arguments(tensors)
        with user_code(f"running the program on inputs of shape {shapes}"), quiet():
            leaves = tensor_leaves(self._module(*arguments, **named))
        return {n: to_numpy(leaf) for n, leaf in zip(self.outputs, leaves, strict=True)}

    def _arguments(self, tensors: tuple[torch.Tensor, ...]) -> tuple[Any, Any]:
        arguments, named = torch.utils._pytree.tree_unflatten(
            list(tensors), self.program.call_spec.in_spec
        )
        return arguments, named


def load_program(request: ConvertRequest) -> ProgramSource:
    """Load a ``.pt2`` file.

    Raises:
        SmithError: It is missing or damaged, or it would run code and is not trusted.
    """
    path = Path(request.source)
    if not path.is_file():
        raise SmithError(f"there is no file {path}", "check the path")
    try:
        with quiet(), contextlib.nullcontext() if request.trust else without_code():
            program = torch.export.load(path)
    except RunsCodeError as error:
        raise SmithError(
            f"{path} holds {error}, which runs code when it is loaded",
            "pass --trust if you know who made the file",
        ) from None
    except Exception as error:  # the loader fails with any type on a damaged file
        raise SmithError(
            f"{path} is not a program of torch.export, or of another version: "
            f"{' '.join(str(error).split())[:200]}",
            "write it again with torch.export.save",
        ) from error
    return ProgramSource(program, request)


def _examples(program: Any, names: tuple[str, ...]) -> tuple[torch.Tensor, ...]:
    """Return the stored example inputs, or random ones of the recorded shapes."""
    stored = program.example_inputs
    if stored is not None:
        leaves = torch.utils._pytree.tree_leaves(stored)
        if len(leaves) == len(names) and all(isinstance(t, torch.Tensor) for t in leaves):
            return tuple(leaves)
    nodes = {node.name: node.meta.get("val") for node in program.graph.nodes}
    tensors = []
    for name in names:
        value = nodes.get(name)
        if not isinstance(value, torch.Tensor):
            raise SmithError(
                f"the program's input {name!r} is not a tensor",
                "export a module whose inputs are tensors",
            )
        shape = [d if isinstance(d, int) else 2 for d in value.shape]
        random = torch.randn(shape) if value.dtype.is_floating_point else torch.zeros(shape)
        tensors.append(random.to(value.dtype))
    return tuple(tensors)
