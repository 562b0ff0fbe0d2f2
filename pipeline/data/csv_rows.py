"""Read the rows of a CSV file one by one, with their line numbers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.data.files import open_stream, reading
from onnxsmith.pipeline.data.query import Options

MISSING = frozenset({"", "?", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"})
"""What stands for a missing value."""

_LONGEST_LINE = 1 << 24
_DELIMITERS = (",", ";", "\t")


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        line: The line in the file on which it ends, counted from 1.
        cells: The texts, without blanks around them.
    """

    line: int
    cells: list[str]


@dataclass(frozen=True)
class Table:
    """How a file is written.

    Attributes:
        names: The columns: from the header, else ``0``, ``1``, ...
        header: Whether the first row holds the names.
        delimiter: What separates the cells.
    """

    names: tuple[str, ...]
    header: bool
    delimiter: str


def read_table(path: Path, options: Options) -> Table:
    """Read the first line: separator, header and columns.

    Raises:
        SmithError: The file is empty, or no text in UTF-8.
        UsageError: The delimiter is not one character.
    """
    delimiter = _delimiter(path, options.own.get("delimiter"))
    first = next(_rows(path, delimiter), None)
    if first is None:
        raise SmithError(f"{path.name!r} is empty", "give data with samples")
    header = options.flag("header")
    if header is None:
        header = not any(_looks_numeric(cell) for cell in first.cells)
    names = tuple(first.cells) if header else tuple(map(str, range(len(first.cells))))
    if len(set(names)) < len(names):
        raise SmithError(
            f"{path.name!r} names a column twice in its first line",
            "rename it, or give header=0 if the line is data",
        )
    return Table(names, header, delimiter)


def read_rows(path: Path, table: Table) -> Iterator[Row]:
    """Yield the rows below the header; empty lines are passed over.

    Raises:
        SmithError: A row has more or fewer cells than the first, or is no text.
    """
    rows = _rows(path, table.delimiter)
    if table.header:
        next(rows, None)
    for row in rows:
        if len(row.cells) != len(table.names):
            raise SmithError(
                f"{path.name!r}, line {row.line}: {len(row.cells)} cells instead of "
                f"{len(table.names)}",
                "mend the line, or give delimiter=;",
            )
        yield row


def _rows(path: Path, delimiter: str) -> Iterator[Row]:
    with _text(path) as text:
        reader = csv.reader(_lines(text, path.name), delimiter=delimiter, strict=True)
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise SmithError(
                    f"{path.name!r}, line {reader.line_num}: {error}", "mend the line"
                ) from error
            except UnicodeDecodeError as error:
                raise SmithError(
                    f"{path.name!r} is no text in UTF-8 near line {reader.line_num + 1}",
                    "save it as UTF-8",
                ) from error
            if cells:
                yield Row(reader.line_num, [cell.strip() for cell in cells])


@contextmanager
def _text(path: Path) -> Iterator[io.TextIOWrapper]:
    with (
        reading(path.name),
        open_stream(path) as raw,
        io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as text,
    ):
        yield text


def _lines(text: io.TextIOWrapper, name: str) -> Iterator[str]:
    """Yield lines; one that never ends would be held in memory as a whole."""
    while line := text.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE:
            raise SmithError(
                f"{name!r} has a line of more than {_LONGEST_LINE} characters", "is it a CSV file?"
            )
        yield line


def _delimiter(path: Path, asked: str | None) -> str:
    if asked is not None:
        found = "\t" if asked in {"tab", "\\t"} else asked
        if len(found) != 1 or found in '"\r\n':
            raise UsageError(f"cannot read delimiter={asked!r} of the data", "write delimiter=tab")
        return found
    with _text(path) as text:
        try:
            line = text.readline(_LONGEST_LINE)
        except UnicodeDecodeError as error:
            raise SmithError(f"{path.name!r} is no text in UTF-8", "save it as UTF-8") from error
    return max(_DELIMITERS, key=line.count)


def _looks_numeric(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
