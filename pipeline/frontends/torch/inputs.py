"""Bind named inputs to a module's parameters."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

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
        specs: For each its signature; fixed at the example's shape where only that was given.
    """

    names: tuple[str, ...]
    tensors: tuple[torch.Tensor, ...]
    parameters: tuple[str | None, ...]
    specs: tuple[ValueSpec, ...]

    def call(self, tensors: tuple[torch.Tensor, ...]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return positional and named arguments for ``forward``."""
        pairs = list(zip(self.parameters, tensors, strict=True))
        return tuple(t for p, t in pairs if p is None), {p: t for p, t in pairs if p is not None}

    def clones(self) -> tuple[torch.Tensor, ...]:
        """Return copies of the examples: a module may change its inputs in place."""
        return tuple(tensor.clone() for tensor in self.tensors)

    def examples(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the examples as arrays, by name."""
        pairs = zip(self.names, self.tensors, strict=True)
        return {name: to_numpy(tensor) for name, tensor in pairs}

    @property
    def is_open(self) -> bool:
        """Whether any dimension is symbolic."""
        return any(self.dynamic_axes().values())

    def dynamic_axes(self) -> dict[str, dict[int, str]]:
        """Return the names of the open dimensions, by input and axis."""
        axes = {
            spec.name: {a: d for a, d in enumerate(spec.shape or ()) if isinstance(d, str)}
            for spec in self.specs
        }
        return {name: dims for name, dims in axes.items() if dims}

    def dynamic_shapes(self, *, automatic: bool = False) -> tuple[Any, ...] | dict[str, Any] | None:
        """Return torch.export's ``dynamic_shapes``.

        Args:
            automatic: Let torch find out how dimensions hang together, instead of one Dim for
                each name, shared by all inputs.
        """
        axes = self.dynamic_axes()
        if not axes:
            return None
        names = {dim for dims in axes.values() for dim in dims.values()}
        dims = {n: torch.export.Dim.AUTO if automatic else torch.export.Dim(n) for n in names}
        shapes = [
            {axis: dims[dim] for axis, dim in axes.get(name, {}).items()} or None
            for name in self.names
        ]
        if any(parameter is not None for parameter in self.parameters):
            return dict(zip(self._all_parameters(), shapes, strict=True))
        return tuple(shapes)

    def _all_parameters(self) -> list[str]:
        return [p if p is not None else n for p, n in zip(self.parameters, self.names, strict=True)]


def from_specs(
    parameters: Sequence[str],
    specs: tuple[ValueSpec, ...],
    dims: Mapping[str, int],
    seed: int,
    keyword_only: frozenset[str] = frozenset(),
) -> Inputs:
    """Make random example tensors for the inputs asked for.

    Names of ``forward``'s parameters bind by name; other names bind by position.

    Args:
        parameters: The names of ``forward``'s parameters.
        specs: The inputs.
        dims: Sizes of symbolic dimensions in the example.
        seed: Seed of the values.
        keyword_only: Those of the parameters that bind by name alone.

    Raises:
        UsageError: An element type is unknown to torch or complex, a dimension has no name and no
            size, or a name is no identifier.
    """
    generator = np.random.default_rng(seed)
    _check_names(specs)
    tensors = tuple(_random(spec, dims, specs, generator) for spec in specs)
    names = tuple(spec.name for spec in specs)
    by_name = all(name in parameters for name in names)
    in_order = names == tuple(parameters[: len(names)]) and keyword_only.isdisjoint(names)
    if not by_name or in_order:
        return Inputs(names, tensors, (None,) * len(names), specs)
    return Inputs(names, tensors, names, specs)


def from_examples(parameters: Sequence[str], examples: Any) -> Inputs:
    """Take example tensors: one, a tuple of them, or a dict by parameter name.

    Raises:
        SmithError: They are something else.
    """
    if isinstance(examples, torch.Tensor):
        examples = (examples,)
    if isinstance(examples, dict):
        names, tensors = tuple(examples), tuple(examples.values())
        bound: tuple[str | None, ...] = names
    else:
        tensors = tuple(examples) if isinstance(examples, (tuple, list)) else (examples,)
        names = tuple(
            parameters[i] if i < len(parameters) else f"input_{i}" for i in range(len(tensors))
        )
        bound = (None,) * len(tensors)
    if not tensors or not all(isinstance(tensor, torch.Tensor) for tensor in tensors):
        raise SmithError(
            "example_inputs are not tensors", "give a tensor, a tuple of tensors or a dict of them"
        )
    return Inputs(names, tensors, bound, fixed_specs(names, tensors))


def fixed_specs(names: tuple[str, ...], tensors: tuple[torch.Tensor, ...]) -> tuple[ValueSpec, ...]:
    """Return the signature of tensors of just these shapes.

    Raises:
        UsageError: One is complex.
    """
    for name, tensor in zip(names, tensors, strict=True):
        if tensor.is_complex():
            raise _complex(name)
    return tuple(
        ValueSpec(name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
        for name, tensor in zip(names, tensors, strict=True)
    )


def parameters_of(module: torch.nn.Module) -> list[str]:
    """Return the names of the parameters of ``forward``."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    signature = inspect.signature(module.forward)
    return [name for name, p in signature.parameters.items() if p.kind in kinds]


def keyword_only_of(module: torch.nn.Module) -> frozenset[str]:
    """Return the names of the parameters of ``forward`` that bind by name alone."""
    parameters = inspect.signature(module.forward).parameters.items()
    return frozenset(n for n, p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY)


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


def _check_names(specs: tuple[ValueSpec, ...]) -> None:
    for spec in specs:
        for dim in spec.shape or ():
            if isinstance(dim, str) and not dim.isidentifier():
                raise UsageError(
                    f"{dim!r} is no name for a dimension", "use letters, digits and underscores"
                )


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
    if dtype.is_complex:
        raise _complex(spec.name)
    shape = example_shape(spec, dims, specs)
    if dtype.is_floating_point:
        return torch.from_numpy(generator.standard_normal(shape, np.float32)).to(dtype)
    return torch.from_numpy(generator.integers(0, 2, shape)).to(dtype)


def _complex(name: str) -> UsageError:
    return UsageError(
        f"the input {name!r} is complex, and runtimes have no complex numbers",
        "take real and imaginary part as one more dimension, and use torch.view_as_complex",
    )
