"""Which two files make a model: the graph beside its weights.

MXNet writes ``NAME-symbol.json`` and ``NAME-EPOCH.params`` (four digits).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.base import Match

_EPOCH = re.compile(r"^(?P<name>.+)-(?P<epoch>\d{4,9})\.params$", re.DOTALL)
_GRAPH = re.compile(rb'^\s*\{\s*"nodes"\s*:\s*\[\s*\{[^{}]*"op"\s*:')
_SYMBOL, _JSON, _PARAMS = "-symbol.json", ".json", ".params"
_HEAD = 4096
_PARAMS_MAGIC = (0x112).to_bytes(8, "little")


@dataclass(frozen=True)
class Files:
    """The files of a model.

    Attributes:
        symbol: The graph.
        params: The weights; None where no such file was found.
        warnings: What the user should know, one line each.
    """

    symbol: Path
    params: Path | None
    warnings: tuple[str, ...] = ()


def match_file(source: str) -> Match | None:
    """Return how sure it is that a path is a graph or a file of weights of MXNet."""
    lower = source.lower()
    if lower.endswith(_SYMBOL):
        return Match(1.0, "the name ends in -symbol.json")
    if not lower.endswith((_JSON, _PARAMS)):
        return None
    head = _head(Path(source))
    if lower.endswith(_JSON):
        return Match(0.9, "it is a graph of MXNet") if _GRAPH.match(head) else None
    if is_params(head):
        return Match(1.0, "it is a .params file of MXNet")
    return Match(0.5, "the suffix is .params")


def find_files(source: str, weights: str | None) -> Files:
    """Find the file that belongs to ``source``.

    Raises:
        SmithError: There is none, or both are files of weights.
    """
    path = Path(source)
    if path.is_dir():
        raise SmithError(f"{path} is a folder", "give its -symbol.json file")
    if path.name.lower().endswith(_PARAMS) or is_params(_head(path)):
        if weights is not None:
            raise SmithError(
                f"{path} holds weights, as --weights does", "give the -symbol.json file as SOURCE"
            )
        return Files(_symbol_of(path), path)
    if weights is not None:
        return Files(path, Path(weights))
    return _with_params(path)


def _symbol_of(params: Path) -> Path:
    found = _EPOCH.match(params.name)
    name = found["name"] if found else params.name[: -len(_PARAMS)]
    for suffix in (_SYMBOL, _JSON):
        path = params.with_name(name + suffix)
        if path.is_file():
            return path
    raise SmithError(
        f"there is no graph {name + _SYMBOL} beside {params}",
        f"name it as SOURCE, and these weights with --weights {params.name}",
    )


def _with_params(symbol: Path) -> Files:
    name = symbol.name[: -len(_SYMBOL)]
    if not symbol.name.lower().endswith(_SYMBOL):
        name = symbol.stem
    epochs: dict[int, Path] = {}
    folder = symbol.parent
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        found = _EPOCH.match(path.name)
        if found and found["name"] == name and path.is_file():
            epochs[int(found["epoch"])] = path
    if epochs:
        best = max(epochs)
        chosen = epochs[best]
        if len(epochs) == 1:
            return Files(symbol, chosen)
        return Files(
            symbol,
            chosen,
            (f"of {len(epochs)} epochs of weights the last was taken: {chosen.name}",),
        )
    plain = symbol.with_name(name + _PARAMS)
    return Files(symbol, plain if plain.is_file() else None)


def is_params(head: bytes) -> bool:
    """Return whether a file that starts with ``head`` is a ``.params`` file."""
    return head[:8] == _PARAMS_MAGIC


def _head(path: Path) -> bytes:
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(_HEAD)
    except (OSError, ValueError):  # no permission, or no path at all: opening it will say so
        return b""
