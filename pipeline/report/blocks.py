"""The few shapes a report is made of, so that HTML and Markdown are rendered from the same pages.

A section is a title and blocks; a block says what it is by ``kind``, which the template looks at.
All strings are plain: renderers escape them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from markupsafe import Markup

from onnxsmith.pipeline.report.model import Fact

Tone = Literal["", "good", "bad", "warn", "muted"]


@dataclass(frozen=True)
class Cell:
    """One value of a table, chip or tile; ``note`` stands under it in small print."""

    text: str
    tone: Tone = ""
    note: str = ""


@dataclass(frozen=True)
class Column:
    """Head of a column; numbers are set flush right."""

    label: str
    numeric: bool = False


@dataclass(frozen=True)
class Table:
    """Rows under heads; the first cell of a row is its head.

    A phone shows tables of five columns and more as a list, unless they are compact: short names
    and short numbers only.
    """

    kind: ClassVar[str] = "table"
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    compact: bool = False


@dataclass(frozen=True)
class Figure:
    """A plot in two widths (a phone's and a page's), and in words for those who cannot see it."""

    kind: ClassVar[str] = "figure"
    caption: str
    wide: Markup
    narrow: Markup
    words: str


@dataclass(frozen=True)
class Beside:
    """Small figures next to each other where there is room."""

    kind: ClassVar[str] = "beside"
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Facts:
    """Labelled values."""

    kind: ClassVar[str] = "facts"
    title: str
    rows: tuple[Fact, ...]


@dataclass(frozen=True)
class Chips:
    """Short values in a row."""

    kind: ClassVar[str] = "chips"
    title: str
    items: tuple[Cell, ...]


@dataclass(frozen=True)
class Note:
    """A sentence of its own."""

    kind: ClassVar[str] = "note"
    text: str
    tone: Tone = ""


@dataclass(frozen=True)
class Group:
    """A titled card of blocks, with a word on how it ended."""

    kind: ClassVar[str] = "group"
    title: str
    badge: Cell | None
    blocks: tuple[Table | Figure | Facts | Chips | Note, ...]


Block = Table | Figure | Beside | Facts | Chips | Note | Group


@dataclass(frozen=True)
class Section:
    """A chapter of the report."""

    anchor: str
    title: str
    lead: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Tile:
    """A headline figure."""

    label: str
    value: str
    note: str = ""
    tone: Tone = ""


@dataclass(frozen=True)
class Page:
    """The whole report, ready to be rendered."""

    title: str
    summary: str
    badge: Cell
    tiles: tuple[Tile, ...]
    warnings: tuple[str, ...]
    sections: tuple[Section, ...]
