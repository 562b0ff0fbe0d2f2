"""``csv:FILE?label=COL``: rows of numbers (or text, for models that take it), plain or gzip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.data.base import Array, Batch
from onnxsmith.pipeline.data.csv_rows import MISSING, Row, Table, read_rows, read_table
from onnxsmith.pipeline.data.files import find_file
from onnxsmith.pipeline.data.query import COMMON, Options
from onnxsmith.plugins import suggestion
from onnxsmith.spec import ModelSpec

_MOST_CLASSES = 100_000


@dataclass(frozen=True)
class Labels:
    """How the label column is read.

    Attributes:
        column: Its position.
        kind: ``int`` and ``float`` are read as numbers, ``text`` as the index of the class.
        classes: The sorted classes, for ``text``.
    """

    column: int
    kind: str
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class CsvReader:
    """One input float32 ``[N, columns]``, or one ``[N, 1]`` a column where the model names them.

    Labels are int64 where all are whole numbers, float32 where all are numbers; else, and with
    ``categorical=1``, the index among the sorted classes. A file is read twice: once to check it
    and to find the classes, then for the batches.

    Attributes:
        path: The file.
        table: Its columns and how it is written.
        labels: The label column, if one was named.
        columns: The positions of the inputs.
        named: Whether each column is an input of its own.
        text: The positions of the inputs that are text.
        size: The number of rows.
    """

    keys: ClassVar[frozenset[str]] = COMMON - {"layout"} | {"header", "delimiter", "categorical"}

    path: Path
    table: Table
    labels: Labels | None
    columns: tuple[int, ...]
    named: bool
    text: frozenset[int]
    size: int

    @classmethod
    def open(cls, location: str, options: Options, spec: ModelSpec | None) -> CsvReader:
        """Read the file once, checking every row.

        Raises:
            SmithError: The file cannot be read, a value is missing, or a row is too short.
            UsageError: An option does not fit.
        """
        path = find_file(location, "csv")
        table = read_table(path, options)
        label = None if options.label is None else _find_column(table, options.label)
        columns = tuple(at for at in range(len(table.names)) if at != label)
        wanted = [value.name for value in spec.inputs] if spec is not None else []
        named = bool(wanted) and all(name in table.names for name in wanted)
        text: frozenset[int] = frozenset()
        if named and spec is not None:
            columns = tuple(table.names.index(name) for name in wanted)
            text = frozenset(at for at in columns if spec.input(table.names[at]).dtype == "string")
        if not columns:
            raise SmithError(f"{path.name!r} has no column beside the label", "add inputs")
        size, labels = _scan(path, table, columns, label, text, options)
        return cls(path, table, labels, columns, named, text, size)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The classes of text labels, in the order of their index."""
        return self.labels.classes or None if self.labels is not None else None

    @property
    def split(self) -> None:
        """A table has no split of its own."""

    @property
    def channel_axis(self) -> None:
        """A table has no channels."""

    def read(self, batch_size: int) -> Iterator[Batch]:
        """Yield the rows in order.

        Raises:
            SmithError: The file cannot be read, or a value is no number.
        """
        held: list[Row] = []
        for row in read_rows(self.path, self.table):
            held.append(row)
            if len(held) == batch_size:
                yield self._batch(held)
                held = []
        if held:
            yield self._batch(held)

    def _batch(self, rows: Sequence[Row]) -> Batch:
        arrays = [self._column(rows, at) for at in self.columns]
        if self.named:
            names = [self.table.names[at] for at in self.columns]
            inputs = {name: array[:, None] for name, array in zip(names, arrays, strict=True)}
        else:
            inputs = {"x": np.stack(arrays, axis=1)}
        return Batch(inputs, None if self.labels is None else self._label_values(rows, self.labels))

    def _column(self, rows: Sequence[Row], at: int) -> Array:
        if at in self.text:
            return np.asarray([row.cells[at] for row in rows], object)
        return np.asarray([_value(self.path, self.table, row, at) for row in rows], np.float32)

    def _label_values(self, rows: Sequence[Row], labels: Labels) -> Array:
        cells = [row.cells[labels.column] for row in rows]
        if labels.kind == "text":
            index = {name: at for at, name in enumerate(labels.classes)}
            return np.asarray([index[cell] for cell in cells], np.int64)
        numbers = np.asarray([float(cell) for cell in cells])
        return numbers.astype(np.int64 if labels.kind == "int" else np.float32)


def _find_column(table: Table, label: str) -> int:
    """Return the position of the column with this name or, counted from 0 or -1, this number."""
    if label in table.names:
        return table.names.index(label)
    digits = label.removeprefix("-")
    if digits.isascii() and digits.isdigit() and len(digits) < 9:
        at = int(label)
        if -len(table.names) <= at < len(table.names):
            return at % len(table.names)
    raise UsageError(
        f"the file has no column {label!r}",
        suggestion(label, list(table.names)) if table.header else "the columns are 0, 1, ...",
    )


def _scan(
    path: Path,
    table: Table,
    columns: tuple[int, ...],
    label: int | None,
    text: frozenset[int],
    options: Options,
) -> tuple[int, Labels | None]:
    """Check every cell; return the number of rows and the kind of the labels."""
    size, whole, numeric = 0, True, True
    for row in read_rows(path, table):
        size += 1
        for at in columns:
            if at not in text:
                _value(path, table, row, at)
        if label is not None:
            cell = row.cells[label]
            if cell in MISSING:
                _refuse_missing(path, table, row, label)
            numeric = numeric and _is_number(cell)
            whole = whole and _is_whole(cell)
    if label is None:
        return size, None
    if options.flag("categorical") or not numeric:
        return size, Labels(label, "text", _classes(path, table, label, numeric))
    return size, Labels(label, "int" if whole else "float")


def _classes(path: Path, table: Table, label: int, numeric: bool) -> tuple[str, ...]:
    """Return the distinct labels, sorted: as numbers where all are numbers."""
    classes: set[str] = set()
    for row in read_rows(path, table):
        classes.add(row.cells[label])
        if len(classes) > _MOST_CLASSES:
            raise SmithError(
                f"the label column of {path.name!r} has more than {_MOST_CLASSES} classes",
                "name another column with label=COL",
            )
    return tuple(sorted(classes, key=float) if numeric else sorted(classes))


def _value(path: Path, table: Table, row: Row, at: int) -> float:
    cell = row.cells[at]
    if cell in MISSING:
        _refuse_missing(path, table, row, at)
    if not _is_number(cell):
        raise SmithError(
            f"{path.name!r}, line {row.line}: {cell[:40]!r} in column {table.names[at]!r} "
            "is no number",
            "encode text as numbers, name the label column with label=COL, or give header=1",
        )
    return float(cell)


def _refuse_missing(path: Path, table: Table, row: Row, at: int) -> None:
    raise SmithError(
        f"{path.name!r}, line {row.line}: the value in column {table.names[at]!r} is missing",
        "fill it in, or remove the line",
    )


def _is_number(cell: str) -> bool:
    try:
        return bool(np.isfinite(float(cell))) and "_" not in cell
    except ValueError:
        return False


def _is_whole(cell: str) -> bool:
    return cell.lstrip("+-").isdigit()
