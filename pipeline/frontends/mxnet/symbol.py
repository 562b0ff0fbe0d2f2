"""``-symbol.json`` files of all MXNet versions.

Source: nnvm ``saveload_json.cc`` and MXNet ``legacy_json_util.cc``.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onnxsmith.errors import SmithError

# A parsed file takes up to twenty times its size in memory. The largest real ones (unrolled
# recurrent networks) have some thousand nodes of 300 bytes.
_MAX_BYTES = 8 * 1024**2
_MAX_OUTPUT = 2**20
_MAX_EDGES = 250_000
_OLDEST = 800

# Attributes that steer training, and others of a user's; before 0.9 without underscores.
_HIDDEN = ("ctx_group", "lr_mult", "wd_mult", "force_mirroring", "mirror_stage")

Entry = tuple[int, int]
"""One output of a node: the node's position and the output's number."""


@dataclass(frozen=True)
class Node:
    """One node.

    Attributes:
        op: The operator; ``null`` is a variable.
        name: Its name.
        attrs: The operator's attributes, as text.
        hints: What ``__shape__`` and its like say beside them.
        inputs: Where its inputs come from.
    """

    op: str
    name: str
    attrs: Mapping[str, str]
    hints: Mapping[str, str]
    inputs: tuple[Entry, ...]

    @property
    def is_variable(self) -> bool:
        """Whether it is an input or a weight."""
        return self.op == "null"

    def __str__(self) -> str:
        return f"the node {self.name[:80]!r} ({self.op[:80]})"


@dataclass(frozen=True)
class Symbol:
    """A graph.

    Attributes:
        nodes: In the file's order.
        heads: The outputs.
        version: MXNet's version as one number: 10901 is 1.9.1. Files before 0.9 do not tell.
    """

    nodes: tuple[Node, ...]
    heads: tuple[Entry, ...]
    version: int

    def order(self, needed: Mapping[int, tuple[int, ...]]) -> list[int]:
        """Return the positions of the nodes that the outputs need, inputs first.

        Args:
            needed: Which inputs (by their number) a node at a position needs, where not all.

        Raises:
            SmithError: The graph has a cycle.
        """
        done: set[int] = set()
        open_: set[int] = set()
        order: list[int] = []
        for head, _ in self.heads:
            stack = [(head, False)]
            while stack:
                at, finished = stack.pop()
                if finished:
                    open_.discard(at)
                    done.add(at)
                    order.append(at)
                    continue
                if at in done:
                    continue
                open_.add(at)
                stack.append((at, True))
                inputs = self.nodes[at].inputs
                chosen = needed.get(at, tuple(range(len(inputs))))
                for number in reversed(chosen):
                    source = inputs[number][0]
                    if source in open_:
                        raise SmithError(
                            f"{self.nodes[at]} takes part in a cycle", "the file is damaged"
                        )
                    if source not in done:
                        stack.append((source, False))
        return order


def read_symbol(path: Path) -> Symbol:
    """Read a ``-symbol.json`` file.

    Raises:
        SmithError: The file is missing, of another kind, or damaged.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise SmithError(f"{path} is not a regular file", "give a -symbol.json file")
        if status.st_size > _MAX_BYTES:
            raise SmithError(
                f"{path} has {status.st_size} bytes, more than a graph of MXNet takes",
                "give the -symbol.json file",
            )
        raw = path.read_bytes()
    except OSError as error:
        raise SmithError(
            f"cannot read {path}: {error.strerror}", "check the path and its permissions"
        ) from error
    try:
        return parse_symbol(raw)
    except SmithError as error:
        raise SmithError(f"{path}: {error.message}", error.hint) from error


def parse_symbol(raw: bytes) -> Symbol:
    """Read the text of a ``-symbol.json`` file.

    Raises:
        SmithError: It is no graph of MXNet, or damaged.
    """
    try:
        values = json.loads(raw)
    except (ValueError, RecursionError) as error:  # also wrong UTF-8 and endless numbers
        raise SmithError("it is not JSON", "give a -symbol.json file of MXNet") from error
    if not isinstance(values, dict) or "nodes" not in values or "heads" not in values:
        raise SmithError(
            "it is JSON, but no graph of MXNet: it has no nodes and heads",
            "give a -symbol.json file of MXNet",
        )
    version = _version(values.get("attrs"))
    listed = _list(values["nodes"], "nodes")
    edges = sum(len(_inputs(value)) for value in listed)
    if edges > _MAX_EDGES:
        raise _damaged(f"its nodes have {edges} inputs")
    nodes = [_node(value, at, len(listed)) for at, value in enumerate(listed)]
    heads = tuple(_entry(v, len(nodes), "the outputs") for v in _list(values["heads"], "heads"))
    if not heads:
        raise _damaged("it has no outputs")
    return upgrade(Symbol(tuple(nodes), heads, version))


def upgrade(symbol: Symbol) -> Symbol:
    """Bring the graph of an old version to today's meaning.

    Source: ``UpgradeJSON_FixParsing`` and ``UpgradeJSON_000904_000905``. What 0.8 left out, the
    inputs of auxiliary states, is added where the operators are known.
    """
    nodes = []
    for node in symbol.nodes:
        attrs = {k: v for k, v in node.attrs.items() if not _is_hidden(k)}
        reduces = node.op in ("argmax", "argmin")
        if reduces and symbol.version < 905 and attrs.get("axis") == "-1":
            del attrs["axis"]  # it meant all axes
        nodes.append(replace(node, attrs=attrs))
    return replace(symbol, nodes=tuple(nodes))


def _is_hidden(key: str) -> bool:
    return any(key == hidden or key.endswith(f"_{hidden}") for hidden in _HIDDEN)


def _node(value: Any, at: int, count: int) -> Node:
    if not isinstance(value, dict):
        raise _damaged(f"node {at} is a {type(value).__name__}")
    op, name = value.get("op"), value.get("name", "")
    if not isinstance(op, str) or not isinstance(name, str) or not op:
        raise _damaged(f"node {at} has no operator or no name")
    attrs: dict[str, str] = {}
    for key in ("param", "attr", "attrs"):
        attrs.update(_texts(value.get(key, {}), at))
    if value.get("subgraphs"):
        raise SmithError(
            f"the node {name[:80]!r} ({op[:80]}) holds a graph of its own, which cannot be "
            "imported",
            "unroll the loop or the condition, and export the model again",
        )
    where = f"node {at}"
    inputs = tuple(_entry(v, count, where) for v in _list(value.get("inputs", []), where))
    hints = {k: v for k, v in attrs.items() if k.startswith("__") and k.endswith("__")}
    own = {k: v for k, v in attrs.items() if k not in hints}
    # A node without a name cannot be spoken of; MXNet itself names all.
    return Node(op, name or f"{op}_{at}", own, hints, inputs)


def _inputs(node: Any) -> Sequence[Any]:
    found = node.get("inputs") if isinstance(node, dict) else None
    return found if isinstance(found, list) else ()


def _texts(value: Any, at: int) -> dict[str, str]:
    if not isinstance(value, dict):
        raise _damaged(f"the attributes of node {at} are a {type(value).__name__}")
    texts = {}
    for key, item in value.items():
        if not isinstance(item, (str, int, float)):
            raise _damaged(f"the attribute {key[:40]!r} of node {at} is no text")
        texts[key] = item if isinstance(item, str) else _short(item)
    return texts


def _short(number: float) -> str:
    """Return a number's text; Python refuses that of an int with thousands of digits."""
    return str(number) if not isinstance(number, int) or abs(number) < 2**63 else "too large"


def _entry(value: Any, count: int, where: str) -> Entry:
    """Read ``[node, output]`` or ``[node, output, version]``."""
    items = _list(value, where)
    if len(items) not in (2, 3) or not all(type(item) is int for item in items):
        raise _damaged(f"an input of {where} is not a node and a number")
    node, output = items[:2]
    if not 0 <= node < count:
        raise _damaged(f"{where} names node {_short(node)}, but there are {count}")
    if not 0 <= output < _MAX_OUTPUT:
        raise _damaged(f"{where} names output {_short(output)} of node {node}")
    return node, output


def _list(value: Any, where: str) -> Sequence[Any]:
    if not isinstance(value, list):
        raise _damaged(f"{where}: a list is missing")
    return value


def _version(attrs: Any) -> int:
    value = attrs.get("mxnet_version") if isinstance(attrs, dict) else None
    if isinstance(value, list) and len(value) == 2 and type(value[1]) is int:
        return int(value[1])
    return _OLDEST


def _damaged(what: str) -> SmithError:
    return SmithError(f"the graph is damaged: {what}", "export the model from MXNet again")
