"""Lazy tables of named things: passes, frontends, operators, metrics.

A table is a mapping ``name -> "module:Class"``; nothing is imported until a name is asked for.
Installed packages add rows through entry points of the table's group
(``onnxsmith.passes``, ``.frontends``, ``.custom_ops``, ``.metrics``).
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from onnxsmith.errors import SmithError, UsageError


def suggestion(name: str, known: Mapping[str, Any] | list[str]) -> str:
    """Return a hint that names the closest of ``known``, or how to list them all."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(known))}"


class Table(Mapping[str, Any]):
    """Names to lazily imported objects, with plugin rows from entry points.

    Args:
        kind: What a row is, in the singular, for messages ("pass").
        group: Entry-point group that adds rows.
        rows: The built-in rows, ``name -> "module:attribute"``.

    Raises:
        SmithError: A plugin reuses a built-in name, or a row cannot be imported.
    """

    def __init__(self, kind: str, group: str, rows: Mapping[str, str]) -> None:
        self.kind = kind
        self.group = group
        self.rows = dict(rows)

    @cached_property
    def _plugins(self) -> dict[str, EntryPoint]:
        found: dict[str, EntryPoint] = {}
        for point in entry_points(group=self.group):
            if point.name in self.rows or point.name in found:
                raise SmithError(
                    f"plugin {point.value!r} reuses the {self.kind} name {point.name!r}",
                    "uninstall the plugin, or ask its author to rename it",
                )
            found[point.name] = point
        return found

    def __getitem__(self, name: str) -> Any:
        if name in self.rows:
            module, _, attribute = self.rows[name].partition(":")
            return getattr(importlib.import_module(module), attribute)
        if name in self._plugins:
            try:
                return self._plugins[name].load()
            except (ImportError, AttributeError) as error:
                raise SmithError(
                    f"the plugin {self.kind} {name!r} cannot be imported: {error}",
                    "reinstall or uninstall the package that provides it",
                ) from error
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self.rows, *self._plugins}))

    def __len__(self) -> int:
        return len(self.rows) + len(self._plugins)

    def __contains__(self, name: object) -> bool:
        return name in self.rows or name in self._plugins

    def find(self, name: str) -> Any:
        """Return the object called ``name``.

        Raises:
            UsageError: There is none; the hint names the closest.
        """
        if name not in self:
            raise UsageError(f"unknown {self.kind} {name!r}", suggestion(name, list(self)))
        return self[name]
