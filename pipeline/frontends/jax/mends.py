"""Mend faults of jax2onnx 0.17 while it traces a function; nothing stays changed afterwards."""

from __future__ import annotations

import contextlib
import inspect
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

# (module, function): jax2onnx replaces them by ones that take keywords only, take the window as
# the stride where none is given (Flax takes 1), and read explicit paddings as a name.
_POOLS = tuple(
    (module, name)
    for module in ("flax.nnx", "flax.linen")
    for name in ("max_pool", "min_pool", "avg_pool")
)


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
        for (module, name), inner in replaced.items():
            original = self._originals[module, name]
            if inner is not original:
                setattr(sys.modules[module], name, _calling(inner, original))
        try:
            yield
        finally:
            for (module, name), inner in replaced.items():
                setattr(sys.modules[module], name, inner)


def _calling(inner: Callable[..., Any], original: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(original)
    first = next(iter(signature.parameters))

    def pool(*arguments: Any, **named: Any) -> Any:
        bound = signature.bind(*arguments, **named)
        bound.apply_defaults()
        values = dict(bound.arguments)
        if not isinstance(values["padding"], str):
            return original(*arguments, **named)
        if values["strides"] is None:
            values["strides"] = (1,) * len(values["window_shape"])
        return inner(values.pop(first), **values)

    return pool


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
