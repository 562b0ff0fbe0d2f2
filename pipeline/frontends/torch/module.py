"""Export a live nn.Module."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.base import ConvertRequest, Export
from onnxsmith.pipeline.frontends.torch.frontend import versions
from onnxsmith.pipeline.frontends.torch.inputs import (
    from_examples,
    from_specs,
    name_outputs,
    tensor_leaves,
    to_numpy,
    to_torch,
)
from onnxsmith.pipeline.loading import describe, user_code

# Beyond this, weights go to a file of their own: embedding would hold them several times.
_EXTERNAL_BYTES = 512 * 1024**2


class ModuleSource:
    """An nn.Module in evaluation mode with its example inputs.

    Args:
        module: The module; it is put into evaluation mode.
        request: Names and shapes of the inputs.
        examples: Example inputs, used where the request names none.

    Raises:
        SmithError: There are no inputs to export with, or the module does not run on them.
    """

    def __init__(self, module: torch.nn.Module, request: ConvertRequest, examples: Any) -> None:
        if request.inputs:
            self.inputs = from_specs(module, request.inputs, request.dims, request.seed)
        elif examples is not None:
            self.inputs = from_examples(module, examples)
        else:
            raise SmithError(
                f"the inputs of {request.source!r} are not known",
                "give --input NAME:DTYPE[D,...], or define example_inputs in its module",
            )
        self.module = module.eval()
        self.opset = request.opset
        output = self._run(self.inputs.tensors)
        self.outputs = name_outputs(output, self.inputs.names)

    def export(self, folder: Path) -> Export:
        """Export with named dynamic dimensions; see ``Source.export``."""
        arguments, named = self.inputs.call(self.inputs.tensors)
        with quiet(), explained():
            program = torch.onnx.export(
                self.module,
                arguments,
                kwargs=named or None,
                input_names=list(self.inputs.names),
                output_names=list(self.outputs),
                dynamic_shapes=self.inputs.dynamic_shapes(),
                opset_version=self.opset,
                dynamo=True,
                verbose=False,
            )
        path = write_program(program, folder, self.module.state_dict())
        return Export(path, self._examples(), {"route": "dynamo", "versions": versions()})

    def reference(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the module itself; see ``Source.reference``."""
        tensors = tuple(to_torch(feeds[name]) for name in self.inputs.names)
        leaves = tensor_leaves(self._run(tensors))
        return {n: to_numpy(leaf) for n, leaf in zip(self.outputs, leaves, strict=True)}

    def _run(self, tensors: tuple[torch.Tensor, ...]) -> Any:
        arguments, named = self.inputs.call(tensors)
        shapes = ", ".join(str(list(tensor.shape)) for tensor in tensors)
        with user_code(f"running the module on inputs of shape {shapes}"), quiet():
            return self.module(*arguments, **named)

    def _examples(self) -> dict[str, np.ndarray]:
        pairs = zip(self.inputs.names, self.inputs.tensors, strict=True)
        return {name: to_numpy(tensor) for name, tensor in pairs}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Run torch without gradients and without the warnings that its own exporter raises."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turn what torch's exporter raises into one line of what and one of how to mend it."""
    try:
        yield
    except SmithError:
        raise
    except Exception as error:  # torch.export has no common base
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        text = str(cause)
        if "Constraints violated" in text or "ConstraintViolation" in type(cause).__name__:
            hint = "a dimension of --input is fixed or bound by the model: write its size instead"
        elif "data-dependent" in text or "GuardOnDataDependent" in type(cause).__name__:
            hint = "the model branches on values: use torch.cond or torch.where there"
        else:
            hint = "make the module exportable by torch.export; its messages are shown above"
        raise SmithError(f"torch cannot export the module: {describe(cause)}", hint) from error


def write_program(program: Any, folder: Path, state: Mapping[str, Any]) -> Path:
    """Write an ONNX program into ``folder`` and return the file."""
    total = sum(t.nbytes for t in state.values() if isinstance(t, torch.Tensor))
    path = folder / "model.onnx"
    program.save(path, external_data=total > _EXTERNAL_BYTES)
    return path
