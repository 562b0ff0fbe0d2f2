"""What a person sees on the terminal. Model strings never reach rich's markup."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


def print_json(value: Any) -> None:
    """Print ``value`` as strict JSON: NaN and infinity are errors."""
    sys.stdout.write(json.dumps(value, indent=2, allow_nan=False) + "\n")


def print_line(text: str, style: str = "") -> None:
    """Print one line of plain text."""
    console.print(Text(text, style=style), soft_wrap=True)


def print_warning(text: str) -> None:
    """Print one line of warning to stderr."""
    errors.print(Text(f"warning: {text}", style="yellow"), soft_wrap=True)


def print_error(message: str, hint: str) -> None:
    """Print what is wrong and how to mend it to stderr."""
    errors.print(Text(f"error: {_one_line(message)}", style="bold red"), soft_wrap=True)
    if hint:
        errors.print(Text(f"hint: {_one_line(hint)}"), soft_wrap=True)


def print_output(output: str) -> None:
    """Show what another program printed, without control characters, apart from our own words."""
    for line in output.splitlines():
        shown = "".join(c if c.isprintable() else " " for c in line)
        errors.print(Text(f"  | {shown}", style="dim"), soft_wrap=True)


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; columns whose cells are all numbers are aligned to the right."""
    body = [[str(cell) for cell in row] for row in rows]
    table = Table(title=Text(title) if title else None, title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        numeric = bool(body) and all(_is_number(row[index]) for row in body)
        table.add_column(Text(column), justify="right" if numeric else "left", overflow="fold")
    for row in body:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


def _is_number(cell: str) -> bool:
    head = cell.strip().partition(" ")[0].strip("%x+-±<>~").replace(",", "")
    return not head or head.replace(".", "", 1).replace("e", "", 1).replace("-", "").isdigit()


def _one_line(text: str) -> str:
    """Fold to one line and drop control characters, which a hostile file may bring."""
    return "".join(c if c.isprintable() else " " for c in " ".join(text.split()))
