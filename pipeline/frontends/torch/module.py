"""Export a live nn.Module."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.base import ConvertRequest, Export
from onnxsmith.pipeline.frontends.torch.inputs import (
    from_examples,
    from_specs,
    keyword_only_of,
    parameters_of,
    to_numpy,
    to_torch,
)
from onnxsmith.pipeline.frontends.torch.ladder import Rung, Written, climb
from onnxsmith.pipeline.frontends.torch.outputs import flat_outputs, name_outputs, tensor_leaves
from onnxsmith.pipeline.frontends.torch.probes import Probes
from onnxsmith.pipeline.frontends.torch.routes import export_dynamo, export_legacy, quiet
from onnxsmith.pipeline.loading import user_code


class ModuleSource:
    """An nn.Module in evaluation mode with its example inputs.

    Args:
        module: The module; it is put into evaluation mode.
        request: Names and shapes of the inputs.
        examples: Example inputs, used where the request names none.
        warnings: What the user should know of how it was loaded.

    Raises:
        SmithError: There are no inputs to export with, the module does not run on them, or its
            weights have no values or lie on another device.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        request: ConvertRequest,
        examples: Any,
        warnings: tuple[str, ...] = (),
    ) -> None:
        _check_place(module)
        parameters = parameters_of(module)
        if request.inputs:
            self.inputs = from_specs(
                parameters, request.inputs, request.dims, request.seed, keyword_only_of(module)
            )
        elif examples is not None:
            self.inputs = from_examples(parameters, examples)
        else:
            raise SmithError(
                f"the inputs of {request.source!r} are not known",
                "give --input NAME:DTYPE[D,...], or define example_inputs in its module",
            )
        self.warnings = (*warnings, *_training_warnings(module))
        self.module = module.eval()
        self.opset = request.opset
        self.seed = request.seed
        self.outputs = name_outputs(self._run(self.inputs.clones()), self.inputs.names)

    def export(self, folder: Path) -> Export:
        """Export by the first route that the module itself confirms; see ``Source.export``."""
        examples = self.inputs.examples()
        probes = Probes(self.inputs.specs, examples, self.reference, self.seed)
        warnings = self.warnings
        if probes.random:
            warnings += (
                "the module gives other outputs for the same inputs: it draws random numbers or "
                "changes its own state",
            )
        with flat_outputs(self.module):
            return climb(self._rungs(), folder, probes, examples, warnings)

    def reference(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the module itself; see ``Source.reference``."""
        tensors = tuple(to_torch(feeds[name]) for name in self.inputs.names)
        leaves = tensor_leaves(self._run(tensors))
        if len(leaves) != len(self.outputs):
            raise SmithError(
                f"the module returns {len(leaves)} tensors here and {len(self.outputs)} on the "
                "example",
                "return the same tensors for all inputs",
            )
        return {n: to_numpy(leaf) for n, leaf in zip(self.outputs, leaves, strict=True)}

    def _rungs(self) -> Iterator[Rung]:
        yield Rung("dynamo", self._dynamo)
        if self.inputs.is_open:
            automatic = functools.partial(self._dynamo, automatic=True)
            yield Rung("dynamo-auto", automatic, needs_proof=True)
        attentive = [m for m in self.module.modules() if hasattr(m, "set_attn_implementation")]
        if attentive:
            yield Rung("dynamo-eager", functools.partial(self._eager, attentive[0]))
        yield Rung("legacy", self._legacy, needs_proof=True)

    def _dynamo(self, folder: Path, *, automatic: bool = False) -> Written:
        shapes = self.inputs.dynamic_shapes(automatic=automatic)
        return export_dynamo(
            self.module, self.inputs, self.outputs, self.opset, folder, shapes=shapes
        )

    def _eager(self, attentive: Any, folder: Path) -> Written:
        with eager_attention(attentive):
            return self._dynamo(folder)

    def _legacy(self, folder: Path) -> Written:
        return export_legacy(self.module, self.inputs, self.outputs, self.opset, folder)

    def _run(self, tensors: tuple[torch.Tensor, ...]) -> Any:
        arguments, named = self.inputs.call(tensors)
        shapes = ", ".join(str(list(tensor.shape)) for tensor in tensors)
        with user_code(f"running the module on inputs of shape {shapes}"), quiet():
            return self.module(*arguments, **named)


@contextlib.contextmanager
def eager_attention(module: Any) -> Iterator[None]:
    """Let a Hugging Face model spell its attention out, for the moment."""
    before = getattr(module.config, "_attn_implementation", None)
    module.set_attn_implementation("eager")
    try:
        yield
    finally:
        if before is not None:
            module.set_attn_implementation(before)


def _check_place(module: torch.nn.Module) -> None:
    for kind, tensors in (
        ("weight", module.named_parameters()),
        ("buffer", module.named_buffers()),
    ):
        for name, tensor in tensors:
            if tensor.is_meta:
                raise SmithError(
                    f"the {kind} {name!r} has no values: it lies on the meta device",
                    "load the weights first, with --weights or in the callable",
                )
            if tensor.device.type != "cpu":
                raise SmithError(
                    f"the {kind} {name!r} lies on {tensor.device}", "return module.cpu()"
                )


def _training_warnings(module: torch.nn.Module) -> tuple[str, ...]:
    """Tell which layers do something else in training, where the module was left in that mode."""
    kinds = (
        torch.nn.modules.dropout._DropoutNd,
        torch.nn.modules.batchnorm._NormBase,
        torch.nn.RReLU,
    )
    names = sorted(
        {type(m).__name__ for m in module.modules() if m.training and isinstance(m, kinds)}
    )
    if not names:
        return ()
    return (f"the module was in training mode: {' and '.join(names)} are exported for inference",)
