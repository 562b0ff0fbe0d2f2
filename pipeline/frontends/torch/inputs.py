"""Bind named inputs to a module's parameters, and name what comes out."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.frontends.sizes import example_shape
from onnxsmith.spec import ValueSpec


@dataclass(frozen=True)
class Inputs:
    """The inputs of a module, in the order of the ONNX model.

    Attributes:
        names: The ONNX names.
        tensors: The examples.
        parameters: For each, the parameter it is given to by name, or None by position; those
            by position come first.
        specs: For each, the signature asked for, or None where only an example was given.
    """

    names: tuple[str, ...]
    tensors: tuple[torch.Tensor, ...]
    parameters: tuple[str | None, ...]
    specs: tuple[ValueSpec | None, ...]

    def call(self, tensors: tuple[torch.Tensor, ...]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return positional and named arguments for ``forward``."""
        pairs = list(zip(self.parameters, tensors, strict=True))
        return tuple(t for p, t in pairs if p is None), {p: t for p, t in pairs if p is not None}

    def dynamic_shapes(self) -> tuple[Any, ...] | dict[str, Any] | None:
        """Return torch.export's ``dynamic_shapes``: one Dim for each name, shared by all inputs."""
        dims: dict[str, Any] = {}
        shapes = [_dynamic(spec, dims) for spec in self.specs]
        if not dims:
            return None
        if any(parameter is not None for parameter in self.parameters):
            return dict(zip(self._all_parameters(), shapes, strict=True))
        return tuple(shapes)

    def _all_parameters(self) -> list[str]:
        return [p if p is not None else n for p, n in zip(self.parameters, self.names, strict=True)]


def from_specs(
    module: torch.nn.Module, specs: tuple[ValueSpec, ...], dims: Mapping[str, int], seed: int
) -> Inputs:
    """Make random example tensors for the inputs asked for.

    Names of ``forward``'s parameters bind by name; other names bind by position.

    Raises:
        UsageError: An element type is unknown to torch, or a dimension has no name and no size.
    """
    generator = np.random.default_rng(seed)
    tensors = tuple(_random(spec, dims, specs, generator) for spec in specs)
    names = tuple(spec.name for spec in specs)
    known = _parameters(module)
    by_name = all(name in known for name in names)
    if not by_name or names == tuple(known[: len(names)]):
        return Inputs(names, tensors, (None,) * len(names), specs)
    return Inputs(names, tensors, names, specs)


def from_examples(module: torch.nn.Module, examples: Any) -> Inputs:
    """Take example tensors: one, a tuple of them, or a dict by parameter name.

    Raises:
        SmithError: They are something else.
    """
    if isinstance(examples, torch.Tensor):
        examples = (examples,)
    if isinstance(examples, dict):
        names, tensors = tuple(examples), tuple(examples.values())
        parameters: tuple[str | None, ...] = names
    else:
        tensors = tuple(examples) if isinstance(examples, (tuple, list)) else (examples,)
        known = _parameters(module)
        names = tuple(known[i] if i < len(known) else f"input_{i}" for i in range(len(tensors)))
        parameters = (None,) * len(tensors)
    if not tensors or not all(isinstance(tensor, torch.Tensor) for tensor in tensors):
        raise SmithError(
            "example_inputs are not tensors", "give a tensor, a tuple of tensors or a dict of them"
        )
    return Inputs(names, tensors, parameters, (None,) * len(tensors))


def name_outputs(value: Any, taken: tuple[str, ...]) -> tuple[str, ...]:
    """Return a name for each tensor of a module's output: its key, or ``output_0`` and so on.

    Raises:
        SmithError: The output holds something other than tensors.
    """
    names: list[str] = []
    leaves, _ = _pytree.tree_flatten_with_path(value)
    tensors = [(path, leaf) for path, leaf in leaves if leaf is not None]
    for index, (path, leaf) in enumerate(tensors):
        if not isinstance(leaf, torch.Tensor):
            raise SmithError(
                f"the module returns a {type(leaf).__name__}, not only tensors",
                "wrap it in a module that returns tensors",
            )
        keys = [str(entry.key) for entry in path if isinstance(entry, _pytree.MappingKey)]
        name = keys[-1] if keys else f"output_{index}" if len(tensors) > 1 else "output"
        while name in taken or name in names:
            name = f"{name}_out"
        names.append(name)
    if not names:
        raise SmithError("the module returns no tensor", "return the tensors that are wanted")
    return tuple(names)


def tensor_leaves(value: Any) -> list[torch.Tensor]:
    """Return the tensors of a module's output in order."""
    return [leaf for leaf in _pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def to_numpy(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """Return a tensor as an array, bfloat16 included."""
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.bfloat16:
        import ml_dtypes

        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return np.asarray(tensor.numpy())


def to_torch(array: np.ndarray[Any, Any]) -> torch.Tensor:
    """Return an array as a tensor of its own memory, bfloat16 included."""
    array = np.array(array, order="C", copy=True)
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _parameters(module: torch.nn.Module) -> list[str]:
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    signature = inspect.signature(module.forward)
    return [name for name, p in signature.parameters.items() if p.kind in kinds]


def _random(
    spec: ValueSpec,
    dims: Mapping[str, int],
    specs: tuple[ValueSpec, ...],
    generator: np.random.Generator,
) -> torch.Tensor:
    dtype = getattr(torch, spec.dtype, None)
    if not isinstance(dtype, torch.dtype):
        raise UsageError(
            f"torch has no element type {spec.dtype!r} (input {spec.name!r})",
            "write float32, int64, bool and so on",
        )
    shape = example_shape(spec, dims, specs)
    if dtype.is_floating_point or dtype.is_complex:
        return torch.from_numpy(generator.standard_normal(shape, np.float32)).to(dtype)
    return torch.from_numpy(generator.integers(0, 2, shape)).to(dtype)


def _dynamic(spec: ValueSpec | None, dims: dict[str, Any]) -> dict[int, Any] | None:
    if spec is None or spec.shape is None:
        return None
    found: dict[int, Any] = {}
    for axis, dim in enumerate(spec.shape):
        if isinstance(dim, str):
            if not dim.isidentifier():
                raise UsageError(
                    f"{dim!r} is no name for a dimension", "use letters, digits and underscores"
                )
            found[axis] = dims.setdefault(dim, torch.export.Dim(dim))
    return found or None
