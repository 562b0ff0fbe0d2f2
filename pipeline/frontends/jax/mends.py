"""Mend faults of jax2onnx 0.17 while it traces a function; nothing stays changed afterwards."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

# (module, function): jax2onnx replaces them by ones that take keywords only, take the window as
# the stride where none is given (Flax takes 1), and read explicit paddings as a name.
_POOLS = tuple(
    (module, name)
    for module in ("flax.nnx", "flax.linen")
    for name in ("max_pool", "min_pool", "avg_pool")
)
_FILL = {"max_pool": -np.inf, "min_pool": np.inf, "avg_pool": 0.0}


class Mends:
    """Flax's own pooling functions, taken before jax2onnx replaces them."""

    def __init__(self) -> None:
        self._originals = {
            (module, name): getattr(sys.modules[module], name)
            for module, name in _POOLS
            if module in sys.modules and hasattr(sys.modules[module], name)
        }

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Put a function before each replaced one that calls it as it wants to be called.

        To be entered inside the traced function, where jax2onnx's own are in place.
        """
        replaced = {key: getattr(sys.modules[key[0]], key[1]) for key in self._originals}
        plugins = [_plugin(module) for module in {module for module, _ in self._originals}]
        sizes = [plugin._compute_output_dim for plugin in plugins]
        for plugin in plugins:
            plugin._compute_output_dim = staticmethod(_pooled_size)
        for (module, name), inner in replaced.items():
            original = self._originals[module, name]
            if inner is not original:
                setattr(sys.modules[module], name, _calling(inner, original))
        try:
            yield
        finally:
            for plugin, size in zip(plugins, sizes, strict=True):
                plugin._compute_output_dim = staticmethod(size)
            for (module, name), inner in replaced.items():
                setattr(sys.modules[module], name, inner)


def _plugin(module: str) -> Any:
    """Return jax2onnx's class for the max_pool of ``flax.nnx`` or ``flax.linen``."""
    name = f"jax2onnx.plugins.{module}.max_pool"
    return importlib.import_module(name).MaxPoolPlugin


def _pooled_size(length: Any, window: int, stride: int, padding: str) -> Any:
    """Return a pooled dimension; jax2onnx leaves an open one as it was before the pooling."""
    if padding.upper() == "SAME":
        return (length + stride - 1) // stride
    return (length - window) // stride + 1


def _calling(inner: Callable[..., Any], original: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(original)
    first = next(iter(signature.parameters))

    def pool(*arguments: Any, **named: Any) -> Any:
        bound = signature.bind(*arguments, **named)
        bound.apply_defaults()
        values = dict(bound.arguments)
        window, padding = values["window_shape"], values["padding"]
        if values["strides"] is None:
            values["strides"] = (1,) * len(window)
        array = values.pop(first)
        if not isinstance(padding, str) and values.get("count_include_pad", True):
            array = _padded(array, len(window), padding, _FILL[original.__name__])
            values["padding"] = "VALID"
        return inner(array, **values)

    return pool


def _padded(array: Any, axes: int, padding: Any, fill: float) -> Any:
    pairs = [(padding, padding)] * axes if isinstance(padding, int) else list(padding)
    pairs = [(p, p) if isinstance(p, int) else tuple(p) for p in pairs]
    leading = [(0, 0)] * (array.ndim - axes - 1)
    return jnp.pad(array, [*leading, *pairs, (0, 0)], constant_values=fill)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence what jax2onnx logs: packages of its examples that are missing, with their traces."""
    logger = logging.getLogger("jax2onnx")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
