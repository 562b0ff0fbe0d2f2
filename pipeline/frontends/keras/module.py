"""A Keras model of the backend torch as an nn.Module with one parameter an input."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from onnxsmith.pipeline.frontends.base import ConvertRequest, Source
from onnxsmith.pipeline.frontends.keras.signature import Described, leaves
from onnxsmith.pipeline.frontends.torch.module import ModuleSource


def module_source(
    described: Described, outputs: tuple[str, ...], request: ConvertRequest
) -> Source:
    """Return the model as a source of the frontend torch.

    Args:
        described: The model.
        outputs: The outputs' names.
        request: The inputs with their shapes.

    Raises:
        SmithError: The model does not run.
    """
    return ModuleSource(_Wrapper(described, outputs), request, None)


class _Wrapper(torch.nn.Module):
    def __init__(self, described: Described, outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.model = described.model
        self._described = described
        self._outputs = outputs
        count = len(described.inputs)
        # torch.export reads names from the signature; the calls stay positional.
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters = [inspect.Parameter(f"input_{i}", kind) for i in range(count)]

        def forward(*tensors: Any) -> dict[str, Any]:
            found = leaves(self._described.call(tensors))
            return dict(zip(self._outputs, found, strict=True))

        forward.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        self.forward = forward
