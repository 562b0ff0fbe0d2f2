"""Take a module's output apart into tensors with names."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from onnxsmith.errors import SmithError

Keys = tuple[str | int, ...]


def leaves(value: Any) -> list[tuple[Keys, torch.Tensor]]:
    """Return the tensors of an output in order, each with the keys that lead to it.

    Takes tensors, tuples, lists, named tuples, mappings and dataclasses, nested; parts that are
    None are left out.

    Raises:
        SmithError: The output holds something else, or complex numbers.
    """
    return list(_leaves(value, ()))


def _leaves(value: Any, path: Keys) -> Iterator[tuple[Keys, torch.Tensor]]:
    if value is None:
        return
    if isinstance(value, torch.Tensor):
        if value.is_complex():
            raise SmithError(
                f"the module returns {value.dtype}, and runtimes have no complex numbers",
                "return torch.view_as_real of it",
            )
        yield path, value
        return
    for key, part in _parts(value):
        yield from _leaves(part, (*path, key))


def _parts(value: Any) -> list[tuple[str | int, Any]]:
    if isinstance(value, Mapping):
        return [(str(key), part) for key, part in value.items()]
    if hasattr(value, "_fields"):
        return list(zip(value._fields, value, strict=True))
    if isinstance(value, (tuple, list)):
        return list(enumerate(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    raise SmithError(
        f"the module returns a {type(value).__name__}, not only tensors",
        "wrap it in a module that returns tensors",
    )


def name_outputs(value: Any, taken: tuple[str, ...]) -> tuple[str, ...]:
    """Return a name for each tensor of a module's output.

    That is its key, or its field in a named tuple or dataclass, with its number where the key
    holds several (``hidden_0``); ``output_0`` and so on where there is no key, ``output`` where
    there is but one tensor.

    Args:
        value: The output.
        taken: Names of the inputs, which no output may have.

    Raises:
        SmithError: The output holds something other than tensors, or none.
    """
    found = leaves(value)
    names: list[str] = []
    for index, (path, _) in enumerate(found):
        name = _name(path) or (f"output_{index}" if len(found) > 1 else "output")
        while name in taken or name in names:
            name = f"{name}_out"
        names.append(name)
    if not names:
        raise SmithError("the module returns no tensor", "return the tensors that are wanted")
    return tuple(names)


def _name(path: Keys) -> str:
    keys = [index for index, part in enumerate(path) if isinstance(part, str)]
    return "_".join(str(part) for part in path[keys[-1] :]) if keys else ""


def tensor_leaves(value: Any) -> list[torch.Tensor]:
    """Return the tensors of a module's output in order; see :func:`leaves`."""
    return [tensor for _, tensor in leaves(value)]


@contextlib.contextmanager
def flat_outputs(module: torch.nn.Module) -> Iterator[None]:
    """Let the module return a plain tuple of tensors for the moment.

    The exporters know no dataclasses and no classes of a library's own, and None confuses them.
    """
    forward = module.forward

    @functools.wraps(forward)
    def flat(*arguments: Any, **named: Any) -> tuple[torch.Tensor, ...]:
        return tuple(tensor_leaves(forward(*arguments, **named)))

    had = "forward" in vars(module)
    module.forward = flat
    try:
        yield
    finally:
        if had:
            module.forward = forward
        else:
            del module.forward
