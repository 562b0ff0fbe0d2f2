"""Run a module of onnxsmith in an interpreter that does not have onnxsmith installed.

Started by its path, ``ENV/bin/python -P bootstrap.py PACKAGE MODULE ARGUMENT...``. It makes the
package in the folder PACKAGE importable, and nothing that lies beside it: the packages of the
environment that PACKAGE comes from would collide with those of this one. Imports nothing but the
standard library.
"""

from __future__ import annotations

import importlib.util
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

_NAME = "onnxsmith"


def show_package(folder: Path) -> None:
    """Make the package in ``folder`` importable as ``onnxsmith``, with all it contains.

    Raises:
        ImportError: There is no package in the folder.
    """
    spec = importlib.util.spec_from_file_location(
        _NAME, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"there is no package in {folder}")
    package = importlib.util.module_from_spec(spec)
    sys.modules[_NAME] = package
    spec.loader.exec_module(package)


def main(arguments: Sequence[str]) -> None:
    """Run ``PACKAGE MODULE ARGUMENT...``."""
    folder, module, *rest = arguments
    show_package(Path(folder))
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
