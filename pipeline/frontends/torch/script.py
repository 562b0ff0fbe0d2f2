"""Load and export TorchScript: traced and scripted modules."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.frontends.base import ConvertRequest, Export
from onnxsmith.pipeline.frontends.torch.files import check_archive, check_code
from onnxsmith.pipeline.frontends.torch.inputs import Inputs, from_specs, to_numpy, to_torch
from onnxsmith.pipeline.frontends.torch.ladder import Rung, Written, climb
from onnxsmith.pipeline.frontends.torch.outputs import name_outputs, tensor_leaves
from onnxsmith.pipeline.frontends.torch.probes import Probes
from onnxsmith.pipeline.frontends.torch.routes import (
    explained,
    export_dynamo,
    export_legacy,
    quiet,
)
from onnxsmith.pipeline.loading import describe, user_code
from onnxsmith.spec import ValueSpec

_MAX_PARTS = 8


class ScriptSource:
    """A TorchScript module with example inputs.

    Raises:
        UsageError: Its inputs are not given, or do not fit its forward.
        SmithError: It keeps state between calls, or does not run.
    """

    def __init__(self, module: Any, request: ConvertRequest) -> None:
        if not hasattr(module, "forward"):
            raise SmithError(f"{request.source} has no forward", _parts_hint(module))
        self.module = module.eval()
        if _keeps_state(self.module):
            raise SmithError(
                f"the forward of {request.source} keeps state between its calls, which a graph "
                "cannot",
                _parts_hint(module),
            )
        self.inputs = _inputs(self.module, request)
        self.opset = request.opset
        self.seed = request.seed
        self.outputs = name_outputs(self._run(self.inputs.clones()), self.inputs.names)

    def export(self, folder: Path) -> Export:
        """Export by the older exporter, or by way of torch.export; see ``Source.export``."""
        examples = self.inputs.examples()
        probes = Probes(self.inputs.specs, examples, self.reference, self.seed)
        rungs = [
            Rung("legacy", self._legacy),
            Rung("script-to-program", self._by_program),
        ]
        return climb(rungs, folder, probes, examples)

    def reference(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the script itself; see ``Source.reference``."""
        leaves = tensor_leaves(self._run(tuple(to_torch(feeds[n]) for n in self.inputs.names)))
        return {n: to_numpy(leaf) for n, leaf in zip(self.outputs, leaves, strict=True)}

    def _legacy(self, folder: Path) -> Written:
        try:
            return export_legacy(self.module, self.inputs, self.outputs, self.opset, folder)
        except SmithError as error:
            if len(self.inputs.names) == len(self.module.forward.schema.arguments) - 1:
                raise
            hint = f"give the optional inputs too: it is {signature(self.module)}"
            raise SmithError(error.message, hint) from error

    def _by_program(self, folder: Path) -> Written:
        from torch._export.converter import TS2EPConverter

        arguments, named = self.inputs.call(self.inputs.clones())
        with quiet(), explained():
            program = TS2EPConverter(self.module, arguments, named or None).convert()
        written = export_dynamo(program, self.inputs, self.outputs, self.opset, folder)
        _pin_sizes(written.path, self.inputs.specs)
        return written

    def _run(self, tensors: tuple[torch.Tensor, ...]) -> Any:
        arguments, named = self.inputs.call(tensors)
        shapes = ", ".join(str(list(tensor.shape)) for tensor in tensors)
        with user_code(f"running the script on inputs of shape {shapes}"), quiet():
            return self.module(*arguments, **named)


def load_script(request: ConvertRequest) -> ScriptSource:
    """Load a TorchScript file, or the part of it that is asked for.

    Raises:
        UsageError: There is no such part.
        SmithError: The file is damaged or hostile, or its module cannot be exported.
    """
    path = Path(request.source)
    check_archive(path)
    if not request.trust:
        check_code(path)
    try:
        with quiet():
            module = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]  # torch's own
    except Exception as error:  # the loader fails with RuntimeError, and others on damage
        raise SmithError(
            f"{path} is not TorchScript, or damaged: {describe(error)}",
            "write it again with torch.jit.save",
        ) from error
    return ScriptSource(choose_part(module, request.part), request)


def choose_part(module: Any, part: str | None) -> Any:
    """Return the submodule called ``part``, or the module itself.

    Raises:
        UsageError: There is none.
    """
    if part is None:
        return module
    parts = {name: child for name, child in module.named_modules() if name}
    if part not in parts:
        known = ", ".join(list(parts)[:_MAX_PARTS]) or "none"
        raise UsageError(f"the module has no part {part!r}", f"its parts: {known}")
    return parts[part]


def signature(module: Any) -> str:
    """Return the forward of a script as a user would write it: ``forward(Tensor x, int n)``."""
    arguments = [
        f"{a.type} {a.name}{' (optional)' if a.has_default_value() else ''}"
        for a in module.forward.schema.arguments[1:]
    ]
    return f"forward({', '.join(arguments)})"


def _inputs(module: Any, request: ConvertRequest) -> Inputs:
    arguments = module.forward.schema.arguments[1:]
    shown = signature(module)
    if not request.inputs:
        name = arguments[0].name if arguments else "x"
        raise UsageError(
            f"the inputs of {request.source} are not known: it is {shown}",
            f"give --input for each, e.g. --input '{name}:float32[batch,3,224,224]'",
        )
    needed = [a for a in arguments if not a.has_default_value()]
    if not len(needed) <= len(request.inputs) <= len(arguments):
        raise UsageError(
            f"{len(request.inputs)} inputs are given, and the script is {shown}",
            "give --input for each that is not optional",
        )
    inputs = from_specs([a.name for a in arguments], request.inputs, request.dims, request.seed)
    bound = [p if p is not None else a.name for p, a in zip(inputs.parameters, arguments)]  # noqa: B905 - the optional ones may be left out
    kinds = {a.name: str(a.type) for a in arguments}
    for name in bound:
        if kinds[name] not in ("Tensor", "Optional[Tensor]"):
            raise SmithError(
                f"{name!r} of the script is no tensor but of type {kinds[name]}: it is {shown}",
                f"export a script that fixes it; {_parts_hint(module)}",
            )
    return inputs


def _keeps_state(module: Any) -> bool:
    """Return whether a call changes the module's attributes."""
    return "prim::SetAttr" in str(module.inlined_graph)


def _parts_hint(module: Any) -> str:
    names = [name for name, part in module.named_children() if _is_part(part)]
    if not names:
        return "script a module that takes and returns its state"
    return f"take a part of it with --part: {', '.join(names[:_MAX_PARTS])}"


def _is_part(module: Any) -> bool:
    return hasattr(module, "forward") and not _keeps_state(module)


def _pin_sizes(path: Path, specs: tuple[ValueSpec, ...]) -> None:
    """Fix the sizes that were asked for: by this way torch leaves every dimension open."""
    model = ir.load(path)
    asked = {spec.name: spec.shape for spec in specs}
    for value in model.graph.inputs:
        shape = asked.get(value.name or "")
        if shape is not None and value.shape is not None:
            dims = [s if isinstance(s, int) else d for s, d in zip(shape, value.shape, strict=True)]
            value.shape = ir.Shape(dims)
    ir.save(model, path)
