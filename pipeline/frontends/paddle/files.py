"""Find the files of a saved program: the graph and its weights. Reads only their first bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from onnxsmith.errors import SmithError

# Many tools write .json files. Paddle's begin with the name of its intermediate representation.
_PIR = re.compile(rb'^\s*\{\s*"base_code"\s*:\s*\{[^}]{0,200}"magic"\s*:\s*"pir"')
_PARAMETER = re.compile(rb'"#"\s*:\s*"p"')
_HEAD_BYTES = 4096
_GRAPHS = (".json", ".pdmodel")


@dataclass(frozen=True)
class Program:
    """The files of one saved program.

    Attributes:
        graph: The ``.json`` or ``.pdmodel`` file.
        weights: The ``.pdiparams`` file; None where the program has no weights.
    """

    graph: Path
    weights: Path | None


def is_program(source: str) -> bool:
    """Return whether a file, folder or prefix is a saved program."""
    path = Path(source)
    if path.is_dir():
        return bool(_graphs_in(path))
    if path.suffix.lower() in (".pdmodel", ".pdiparams"):
        return True
    return _is_graph(path) if path.is_file() else bool(_graphs_of(path))


def find_program(source: str, weights: str | None) -> Program:
    """Return the files that a source names.

    Args:
        source: The graph's file, its weights' file, the prefix of both, or a folder with one.
        weights: The weights' file, where it does not lie beside the graph under its name.

    Raises:
        SmithError: There is no program, or there are several, or its weights are missing.
    """
    path = Path(source)
    if path.is_dir():
        found = _graphs_in(path)
        if len(found) > 1:
            names = ", ".join(p.name for p in found[:8])
            raise SmithError(f"the folder {path} holds several programs: {names}", "name one")
    elif path.suffix.lower() == ".pdiparams":
        found = _graphs_of(path.with_suffix(""))
    elif path.suffix.lower() in _GRAPHS:
        found = [path] if _is_graph(path) else []
    else:
        found = _graphs_of(path)
    if not found:
        raise SmithError(
            f"{path} is no program of PaddlePaddle, or its .json or .pdmodel file is missing",
            "give what paddle.jit.save wrote: NAME.json (or NAME.pdmodel) and NAME.pdiparams",
        )
    return Program(found[0], _weights(found[0], weights))


def _weights(graph: Path, weights: str | None) -> Path | None:
    if weights is not None:
        return Path(weights)
    beside = graph.with_suffix(".pdiparams")
    if beside.is_file():
        return beside
    # Paddle writes no file of weights for a program without any. In its JSON a parameter is an
    # operator called "p".
    if graph.suffix.lower() == ".json" and not _PARAMETER.search(graph.read_bytes()):
        return None
    raise SmithError(
        f"the weights of {graph} are missing: there is no {beside.name} beside it",
        "put it there, or name it with --weights",
    )


def _graphs_in(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in _GRAPHS and _is_graph(p))


def _graphs_of(prefix: Path) -> list[Path]:
    """Return the graph that a prefix names; Paddle itself prefers the newer form."""
    paths = [prefix.with_name(prefix.name + suffix) for suffix in _GRAPHS]
    return [path for path in paths if _is_graph(path)][:1]


def _is_graph(path: Path) -> bool:
    if not path.is_file():
        return False
    if path.suffix.lower() == ".pdmodel":
        return True
    if path.suffix.lower() != ".json":
        return False
    with path.open("rb") as file:
        return _PIR.match(file.read(_HEAD_BYTES)) is not None
