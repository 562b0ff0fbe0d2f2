"""The frontend ``torch``: PyTorch modules, exported programs and TorchScript.

Exports with ``torch.onnx.export(dynamo=True)``, which rests on ``torch.export``: a Python branch
on data or on a size is refused or guarded there, not silently frozen as tracing does it. Where it
fails there are other routes; none is trusted that the module itself contradicts (``ladder.py``).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, ClassVar

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.base import ConvertRequest, Match, Source
from onnxsmith.pipeline.frontends.sources import imported_packages, top_classes
from onnxsmith.pipeline.frontends.table import require_installed
from onnxsmith.pipeline.frontends.torch.files import SUFFIXES, kind_of
from onnxsmith.pipeline.loading import is_callable_name, load_callable, user_code

_REASONS = {
    "program": "it is a program of torch.export",
    "script": "it is TorchScript",
    "pickle": "torch.save wrote it",
    "safetensors": "it holds weights as safetensors",
}


class TorchFrontend:
    """PyTorch: ``module:callable`` that returns an nn.Module, and the files that torch writes."""

    name: ClassVar[str] = "torch"
    extra: ClassVar[str] = "torch"
    packages: ClassVar[tuple[str, ...]] = ("torch", "onnxscript")
    accepts: ClassVar[str] = (
        "module:callable that returns an nn.Module (--weights: its state dict or safetensors); "
        ".pt2; TorchScript .pt; pickled modules with --trust"
    )
    isolated: ClassVar[bool] = True
    environment: ClassVar[str] = "torch"

    def match(self, source: str) -> Match | None:
        """Take files that hold something of PyTorch, and callables of modules that import it."""
        if is_callable_name(source):
            if "torch" in imported_packages(source):
                return Match(0.8, "its module imports torch")
            return Match(0.3, "a callable may return an nn.Module")
        suffix = Path(source).suffix.lower()
        if suffix == ".pt2":
            return Match(1.0, "the suffix is .pt2")
        path = Path(source)
        kind = kind_of(path) if path.is_file() else None
        if kind is not None:
            return Match(1.0 if suffix in SUFFIXES else 0.9, _REASONS[kind])
        if suffix in (".pt", ".pth", ".jit", ".torchscript", ".safetensors"):
            return Match(0.5, f"the suffix is {suffix}")
        return None

    def match_object(self, value: object) -> Match | None:
        """Take live modules and exported programs."""
        classes = top_classes(value)
        if classes & {"torch.Module", "torch.ExportedProgram"}:
            # A library's own frontend is surer of its modules.
            return Match(0.9, "it is an nn.Module or an ExportedProgram")
        return None

    def open(self, request: ConvertRequest) -> Source:
        """Build the module, or load the program.

        Raises:
            SmithError: The callable fails or returns something else; the file is damaged, holds
                weights alone, or would run code and is not trusted.
            UsageError: The inputs or the part do not fit.
        """
        require_installed(self)
        if not is_callable_name(request.source):
            return _open_file(request)
        import torch

        from onnxsmith.pipeline.frontends.torch.vision import with_torchvision

        torch.manual_seed(request.seed)

        def build() -> tuple[Any, Any]:
            function = load_callable(request.source)
            with user_code(f"calling {request.source!r}"):
                value = function()
            return value, _example_inputs(function)

        value, examples = with_torchvision(build)
        return module_source(value, request, examples)

    def adopt(self, value: object, request: ConvertRequest) -> Source:
        """Take a live module or program.

        Raises:
            SmithError: It is neither.
        """
        require_installed(self)
        return module_source(value, request, None)


def module_source(value: object, request: ConvertRequest, examples: Any) -> Source:
    """Return the source of a module, a script or a program, with the weights asked for.

    Raises:
        SmithError: It is none of them.
    """
    import torch

    from onnxsmith.pipeline.frontends.torch.module import ModuleSource
    from onnxsmith.pipeline.frontends.torch.program import ProgramSource
    from onnxsmith.pipeline.frontends.torch.script import ScriptSource, choose_part
    from onnxsmith.pipeline.frontends.torch.weights import load_weights

    if isinstance(value, torch.export.ExportedProgram):
        _refuse_weights(request, "an exported program")
        return ProgramSource(value, request)
    if not isinstance(value, torch.nn.Module):
        raise SmithError(
            f"{request.source!r} is a {type(value).__name__}, not an nn.Module",
            "return the nn.Module that is to be exported",
        )
    if isinstance(value, torch.jit.ScriptModule):
        _refuse_weights(request, "a script")
        return ScriptSource(choose_part(value, request.part), request)
    notes = () if request.weights is None else load_weights(value, Path(request.weights))
    return ModuleSource(choose_part(value, request.part), request, examples, notes)


def _open_file(request: ConvertRequest) -> Source:
    from onnxsmith.pipeline.frontends.torch.pickled import load_pickled
    from onnxsmith.pipeline.frontends.torch.program import load_program
    from onnxsmith.pipeline.frontends.torch.script import load_script

    path = Path(request.source)
    _refuse_weights(request, "a file")
    kind = kind_of(path)
    if kind == "program" or path.suffix.lower() == ".pt2":
        return load_program(request)
    if kind == "script":
        return load_script(request)
    if kind == "safetensors":
        raise weights_only(path)
    if kind == "pickle":
        return module_source(load_pickled(path, trust=request.trust), request, None)
    raise SmithError(
        f"{path} is nothing that PyTorch wrote, or damaged",
        "give a .pt2 or TorchScript file, or module:callable with --weights FILE",
    )


def weights_only(path: Path) -> SmithError:
    """Return the error for a source that holds weights and no network."""
    return SmithError(
        f"{path} holds weights alone, not the network that they belong to",
        f"name the code that builds it: package.module:callable --weights {path}",
    )


def _refuse_weights(request: ConvertRequest, what: str) -> None:
    if request.weights is not None:
        raise SmithError(
            f"{what} has its own weights: {request.source}",
            "leave --weights away, or give module:callable as the source",
        )


def _example_inputs(build: Any) -> Any:
    """Return ``example_inputs`` of the callable's module: tensors, or what a function makes."""
    module = sys.modules.get(getattr(build, "__module__", ""))
    examples = getattr(module, "example_inputs", None)
    if not callable(examples):
        return examples
    with user_code("calling 'example_inputs'"):
        return examples()
