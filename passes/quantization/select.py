"""Which nodes are quantized, and why the others are not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import onnx_ir as ir

from onnxsmith.errors import SmithError
from onnxsmith.passes.match import all_nodes
from onnxsmith.plugins import suggestion


def label(node: ir.Node) -> str:
    """Return what to call a node: its name, or that of its first output."""
    return node.name or next((v.name for v in node.outputs if v.name), "") or node.op_type


@dataclass(frozen=True)
class Selection:
    """What the user wants quantized.

    Attributes:
        exclude: Patterns of nodes that stay in float.
        only: Patterns of the only nodes that are quantized; empty for all.

    A pattern is compared with a node's name and with its operator; ``*``, ``?`` and ``[...]``
    have their meaning in file names.
    """

    exclude: tuple[str, ...] = ()
    only: tuple[str, ...] = ()

    def refusal(self, node: ir.Node) -> str:
        """Say why the user wants a node in float, or return an empty text."""
        for pattern in self.exclude:
            if _matches(node, pattern):
                return f"excluded by {pattern!r}"
        if self.only and not any(_matches(node, pattern) for pattern in self.only):
            return "not among the only ones to quantize"
        return ""

    def check(self, model: ir.Model) -> None:
        """Refuse patterns that no node matches.

        Raises:
            SmithError: Naming the pattern; the hint names what comes close.
        """
        patterns = (*self.exclude, *self.only)
        nodes = list(all_nodes(model, functions=True)) if patterns else []
        for pattern in patterns:
            if not any(_matches(node, pattern) for node in nodes):
                known = sorted({label(n) for n in nodes} | {n.op_type for n in nodes})
                close = suggestion(pattern, known)
                hint = close if len(close) < 200 else "see 'onnxsmith inspect' for the names"
                raise SmithError(f"no node is called like {pattern!r}", hint)


def _matches(node: ir.Node, pattern: str) -> bool:
    return fnmatchcase(label(node), pattern) or fnmatchcase(node.op_type, pattern)


@dataclass
class LeftFloat:
    """Collects the nodes that a quantizing pass leaves in float, with the reason of each.

    Attributes:
        reasons: Node to reason, in the order of the graph; the first reason stands.
    """

    reasons: dict[ir.Node, str] = field(default_factory=dict)

    def add(self, node: ir.Node, reason: str) -> None:
        """Note why a node stays in float."""
        self.reasons.setdefault(node, reason)

    def to_json(self) -> list[dict[str, str]]:
        """Return the entries of ``PassResult.details["left_float"]``."""
        return [
            {"node": label(node), "op": node.op_type, "reason": reason}
            for node, reason in self.reasons.items()
        ]


def grouped(entries: Iterable[dict[str, str]]) -> dict[tuple[str, str], list[str]]:
    """Return the names of nodes by operator and reason, from entries of ``left_float``."""
    groups: dict[tuple[str, str], list[str]] = {}
    for entry in entries:
        groups.setdefault((entry["op"], entry["reason"]), []).append(entry["node"])
    return groups
