"""Defer the import of modules that most commands never use, until they are used."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterable, Sequence
from types import ModuleType

# onnx_ir imports sympy for arithmetic on symbolic dimensions, which most commands never do: it is
# a third of a second, the larger half of what a short command would wait for.
UNUSED = ("sympy", "onnx_ir._symbolic_shapes")


class DeferredFinder(importlib.abc.MetaPathFinder):
    """Finds modules as usual, but lets the named ones run when an attribute is first asked for.

    Args:
        names: Full names of the modules.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = frozenset(names)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return a named module's spec with a lazy loader; None for all others."""
        if fullname not in self.names:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = importlib.util.LazyLoader(spec.loader)
        return spec


def defer_imports(names: Iterable[str] = UNUSED) -> None:
    """Defer the import of the named modules in this process; for the program, not the library."""
    if not any(isinstance(finder, DeferredFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, DeferredFinder(names))
