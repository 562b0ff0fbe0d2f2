"""Look at a source without running it: which packages does a callable's module import?

Frontends tell ``module:callable`` sources apart by this. The file is found by path, because
``importlib.util.find_spec`` of a dotted name imports the parent package, which runs its code.
"""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
import sys
from pathlib import Path

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.loading import is_callable_name

# A module with more text than this is generated code; reading it would cost more than it tells.
_MAX_BYTES = 4_000_000


def imported_packages(source: str) -> frozenset[str]:
    """Return the top-level names that the module of ``module:callable`` imports anywhere.

    Empty where the module is not found, or is no Python text: it is only a hint.
    """
    if not is_callable_name(source):
        return frozenset()
    path = _module_file(source.partition(":")[0])
    if path is None or path.stat().st_size > _MAX_BYTES:
        return frozenset()
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, OSError):
        return frozenset()
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return frozenset(found)


def check_module(source: str) -> None:
    """Check that there is the module, or its package, of ``module:callable``; runs no code of it.

    Raises:
        SmithError: There is none.
    """
    if not is_callable_name(source):
        return
    name = source.partition(":")[0]
    top = name.partition(".")[0]  # what lies within it is found only by importing it
    if top in sys.modules or importlib.machinery.PathFinder.find_spec(top, [str(Path.cwd())]):
        return
    if importlib.util.find_spec(top) is None:
        raise SmithError(
            f"there is no module {name!r}",
            "run in the folder that holds it, or install the package that does",
        )


def top_classes(value: object) -> frozenset[str]:
    """Return ``package.Class`` of each class that a live object's type derives from."""
    return frozenset(
        f"{cls.__module__.partition('.')[0]}.{cls.__qualname__}" for cls in type(value).__mro__
    )


def _module_file(name: str) -> Path | None:
    parts = name.split(".")
    for folder in (str(Path.cwd()), *sys.path):
        base = Path(folder or ".").joinpath(*parts)
        for path in (base.with_name(f"{parts[-1]}.py"), base / "__init__.py"):
            if path.is_file():
                return path
    return None
