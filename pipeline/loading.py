"""Import a user's own callable by name, and turn what goes wrong in it into one line.

``package.module:callable`` names a model or a data source. The current folder is searched first,
as ``python`` itself would, and stays on the import path: the callable may import its neighbours
later, and a checkpoint may name them.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from onnxsmith.errors import SmithError, UsageError

_NAME = re.compile(r"^[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*$")


def is_callable_name(text: str) -> bool:
    """Return whether the text has the form ``package.module:callable``."""
    return _NAME.match(text) is not None


def load_callable(text: str) -> Callable[..., Any]:
    """Import ``package.module:callable`` and return the callable.

    Raises:
        UsageError: The text has another form.
        SmithError: The module is missing or fails to import, or has no such callable.
    """
    if not is_callable_name(text):
        raise UsageError(
            f"cannot read the callable {text!r}", "write package.module:callable, e.g. net:build"
        )
    module_name, _, attribute = text.partition(":")
    found: Any = _import(module_name)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise SmithError(
                f"the module {module_name!r} has no {attribute!r}", _names_hint(found, part)
            )
        found = getattr(found, part)
    if not callable(found):
        raise SmithError(
            f"{text!r} is not callable: it is of type {type(found).__name__}",
            "name a function or a class that returns what is asked for",
        )
    return found  # type: ignore[no-any-return]  # callable() narrows Any to Any


@contextmanager
def user_code(what: str) -> Iterator[None]:
    """Report an exception of the user's own code as a SmithError of one line.

    Args:
        what: What was being done, as the start of a sentence: ``calling 'net:build'``.
    """
    try:
        yield
    except SmithError:
        raise
    except (Exception, SystemExit) as error:
        raise SmithError(
            f"{what} failed: {describe(error)}", "mend the code, or run it by itself to see where"
        ) from error


def describe(error: BaseException) -> str:
    """Return the exception's type and text in one line of bounded length."""
    text = " ".join(str(error).split())
    text = text if len(text) <= 300 else f"{text[:297]}..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _import(name: str) -> ModuleType:
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    importlib.invalidate_caches()
    _refuse_shadowed(name, folder)
    try:
        with user_code(f"importing {name!r}"):
            return importlib.import_module(name)
    except SmithError as error:
        cause = error.__cause__
        if isinstance(cause, ModuleNotFoundError) and _is_prefix(cause.name, name):
            raise SmithError(
                f"there is no module {name!r}",
                "run in the folder that holds it, or install the package that does",
            ) from cause
        raise


def _is_prefix(missing: str | None, name: str) -> bool:
    return missing is not None and (name == missing or name.startswith(f"{missing}."))


def _refuse_shadowed(name: str, folder: str) -> None:
    """Refuse a module of the current folder whose name another loaded module already has."""
    top = name.partition(".")[0]
    loaded = sys.modules.get(top)
    local = importlib.machinery.PathFinder.find_spec(top, [folder])
    if loaded is None or local is None or local.origin is None:
        return
    origin = getattr(loaded, "__file__", None)
    if origin is None or Path(origin).resolve() != Path(local.origin).resolve():
        raise SmithError(
            f"the module name {top!r} of the current folder is taken by another loaded module",
            "rename the file or the folder",
        )


def _names_hint(module: object, wanted: str) -> str:
    public = (
        [name for name in vars(module) if not name.startswith("_")] if _has_vars(module) else []
    )
    same = [name for name in public if name.lower() == wanted.lower()]
    known = same or [name for name in public if callable(getattr(module, name))]
    return f"it has: {', '.join(sorted(known)[:8])}" if known else "it defines nothing callable"


def _has_vars(found: object) -> bool:
    return hasattr(found, "__dict__")
