"""Load what ``torch.save(module)`` wrote: a pickle, which runs code."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.torch.files import check_archive
from onnxsmith.pipeline.frontends.torch.frontend import weights_only
from onnxsmith.pipeline.frontends.torch.weights import PickledError, read_pickle
from onnxsmith.pipeline.loading import describe

# Under which training code keeps a whole module in a checkpoint.
_NESTED = ("model", "ema", "module", "net", "network")


def load_pickled(path: Path, *, trust: bool) -> Any:
    """Return the module in a pickle.

    The code of its class has to be there: the current folder is searched for it.

    Raises:
        SmithError: It is not trusted, holds weights alone, or cannot be loaded.
    """
    if not trust:
        try:
            value = read_pickle(path)
        except PickledError as error:
            raise SmithError(
                f"{path} is a pickle of {error.found}, and reading it runs the code that it names",
                "pass --trust if you know who made the file; or save the module's state_dict() "
                "and give module:callable --weights FILE",
            ) from None
        raise weights_only(path) if isinstance(value, Mapping) else _no_module(path, value)
    value = _load(path)
    if isinstance(value, Mapping):
        for key in _NESTED:
            if isinstance(value.get(key), torch.nn.Module):
                return value[key]
        raise weights_only(path)
    if not isinstance(value, torch.nn.Module):
        raise _no_module(path, value)
    return value


def _load(path: Path) -> Any:
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    with path.open("rb") as file:
        is_archive = file.read(2) == b"PK"
    if is_archive:
        check_archive(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=False, mmap=is_archive)
    except (Exception, SystemExit) as error:  # the pickle runs any code
        hint = "run in the folder that holds the module's code"
        if not isinstance(error, (ImportError, AttributeError)):
            hint = "save it again with this version of torch"
        raise SmithError(f"cannot load the module of {path}: {describe(error)}", hint) from error


def _no_module(path: Path, value: object) -> SmithError:
    return SmithError(
        f"{path} holds a {type(value).__name__}, not an nn.Module",
        "give a file of torch.save(module), or module:callable",
    )
