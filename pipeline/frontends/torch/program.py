"""Load and export ``.pt2`` files: programs that torch.export wrote."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.base import ConvertRequest, Export
from onnxsmith.pipeline.frontends.torch.files import check_archive
from onnxsmith.pipeline.frontends.torch.inputs import Inputs, to_numpy, to_torch
from onnxsmith.pipeline.frontends.torch.ladder import Rung, climb
from onnxsmith.pipeline.frontends.torch.outputs import name_outputs, tensor_leaves
from onnxsmith.pipeline.frontends.torch.probes import Probes
from onnxsmith.pipeline.frontends.torch.routes import export_dynamo, quiet
from onnxsmith.pipeline.frontends.torch.safe import RunsCodeError, without_code
from onnxsmith.pipeline.loading import user_code
from onnxsmith.spec import ValueSpec


class ProgramSource:
    """An exported program with example inputs.

    Raises:
        SmithError: The program takes something other than tensors.
    """

    def __init__(self, program: Any, request: ConvertRequest) -> None:
        self.program = program
        self.opset = request.opset
        self.seed = request.seed
        names = tuple(program.graph_signature.user_inputs)
        tensors = _examples(program, names)
        specs = _specs(program, names, tensors)
        self.inputs = Inputs(names, tensors, (None,) * len(names), specs)
        with user_code("running the program on its example inputs"), quiet():
            self._module = program.module()
            arguments, named = self._arguments(self.inputs.clones())
            output = self._module(*arguments, **named)
        self.outputs = name_outputs(output, names)

    def export(self, folder: Path) -> Export:
        """Translate the program to ONNX; see ``Source.export``."""
        examples = self.inputs.examples()
        probes = Probes(self.inputs.specs, examples, self.reference, self.seed)
        export = functools.partial(
            export_dynamo, self.program, self.inputs, self.outputs, self.opset
        )
        return climb([Rung("program", export)], folder, probes, examples)

    def reference(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the program itself; see ``Source.reference``."""
        tensors = tuple(to_torch(feeds[name]) for name in self.inputs.names)
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
        check_archive(path)
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


def _values(program: Any) -> dict[str, Any]:
    return {node.name: node.meta.get("val") for node in program.graph.nodes}


def _specs(
    program: Any, names: tuple[str, ...], tensors: tuple[torch.Tensor, ...]
) -> tuple[ValueSpec, ...]:
    """Return the recorded signature, with torch's own names of sizes (``s77``)."""
    values = _values(program)
    specs = []
    for name, tensor in zip(names, tensors, strict=True):
        recorded = values.get(name)
        shape = tensor.shape if recorded is None else recorded.shape
        # An expression of sizes (s77 + 1) is no size that can be chosen: the example's stands.
        dims = [
            d if isinstance(d, int) else str(d) if str(d).isidentifier() else size
            for d, size in zip(shape, tensor.shape, strict=True)
        ]
        dtype = str(tensor.dtype).removeprefix("torch.")
        specs.append(ValueSpec(name, dtype, tuple(dims)))
    return tuple(specs)


def _examples(program: Any, names: tuple[str, ...]) -> tuple[torch.Tensor, ...]:
    """Return the stored example inputs, or random ones of the recorded shapes."""
    stored = program.example_inputs
    if stored is not None:
        leaves = torch.utils._pytree.tree_leaves(stored)
        if len(leaves) == len(names) and all(isinstance(t, torch.Tensor) for t in leaves):
            return tuple(leaves)
    values = _values(program)
    tensors = []
    for name in names:
        value = values.get(name)
        if not isinstance(value, torch.Tensor):
            raise SmithError(
                f"the program's input {name!r} is not a tensor",
                "export a module whose inputs are tensors",
            )
        shape = [d if isinstance(d, int) else 2 for d in value.shape]
        random = torch.randn(shape) if value.dtype.is_floating_point else torch.zeros(shape)
        tensors.append(random.to(value.dtype))
    return tuple(tensors)
