"""The frontend ``torch``: PyTorch modules and exported programs.

Exports with ``torch.onnx.export(dynamo=True)``, which rests on ``torch.export``: a Python branch
on data or on a size is refused or guarded there, not silently frozen as tracing does it.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Any, ClassVar

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.base import ConvertRequest, Match, Source
from onnxsmith.pipeline.frontends.sources import imported_packages, top_classes
from onnxsmith.pipeline.frontends.table import require_installed
from onnxsmith.pipeline.loading import is_callable_name, load_callable, user_code


class TorchFrontend:
    """PyTorch: ``module:callable`` that returns an nn.Module, or a .pt2 file of torch.export."""

    name: ClassVar[str] = "torch"
    extra: ClassVar[str] = "torch"
    packages: ClassVar[tuple[str, ...]] = ("torch", "onnxscript")
    accepts: ClassVar[str] = (
        "module:callable that returns an nn.Module (--weights: its state dict); .pt2 files"
    )
    isolated: ClassVar[bool] = True
    environment: ClassVar[str] = "torch"

    def match(self, source: str) -> Match | None:
        """Take ``.pt2`` files, and callables of modules that import torch."""
        if source.lower().endswith(".pt2"):
            return Match(1.0, "the suffix is .pt2")
        if not is_callable_name(source):
            return None
        if "torch" in imported_packages(source):
            return Match(0.8, "its module imports torch")
        return Match(0.3, "a callable may return an nn.Module")

    def match_object(self, value: object) -> Match | None:
        """Take live modules and exported programs."""
        classes = top_classes(value)
        if classes & {"torch.Module", "torch.ExportedProgram"}:
            return Match(1.0, "it is an nn.Module or an ExportedProgram")
        return None

    def open(self, request: ConvertRequest) -> Source:
        """Build the module, or load the program.

        Raises:
            SmithError: The callable fails or returns something else; the file is damaged or
                would run code and is not trusted.
        """
        require_installed(self)
        if not is_callable_name(request.source):
            from onnxsmith.pipeline.frontends.torch.program import load_program

            return load_program(request)
        import torch

        torch.manual_seed(request.seed)
        build = load_callable(request.source)
        with user_code(f"calling {request.source!r}"):
            value = build()
        return self._module_source(value, request, _example_inputs(build))

    def adopt(self, value: object, request: ConvertRequest) -> Source:
        """Take a live module or program.

        Raises:
            SmithError: It is neither.
        """
        require_installed(self)
        return self._module_source(value, request, None)

    def _module_source(self, value: object, request: ConvertRequest, examples: Any) -> Source:
        import torch

        from onnxsmith.pipeline.frontends.torch.module import ModuleSource
        from onnxsmith.pipeline.frontends.torch.program import ProgramSource

        if isinstance(value, torch.export.ExportedProgram):
            return ProgramSource(value, request)
        if isinstance(value, torch.jit.ScriptModule) or not isinstance(value, torch.nn.Module):
            raise SmithError(
                f"{request.source!r} is a {type(value).__name__}, not an nn.Module",
                "return the nn.Module that is to be exported",
            )
        if request.weights is not None:
            _load_weights(value, request.weights)
        return ModuleSource(value, request, examples)


def versions() -> dict[str, str]:
    """Return the versions that decide what an export looks like."""
    return {name: version(name) for name in ("torch", "onnxscript")}


def _example_inputs(build: Any) -> Any:
    """Return ``example_inputs`` of the callable's module: tensors, or what a function makes."""
    module = sys.modules.get(getattr(build, "__module__", ""))
    examples = getattr(module, "example_inputs", None)
    if not callable(examples):
        return examples
    with user_code("calling 'example_inputs'"):
        return examples()


def _load_weights(module: Any, path: str) -> None:
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch.load fails with a dozen types
        raise SmithError(
            f"cannot read the weights {path}: {str(error).splitlines()[0][:200]}",
            "give a state dict that torch.save wrote",
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    try:
        module.load_state_dict(state)
    except Exception as error:  # RuntimeError, TypeError, AttributeError by what the file holds
        raise SmithError(
            f"the weights {path} do not fit the module: {' '.join(str(error).split())[:300]}",
            "give the state dict of this very module",
        ) from error
