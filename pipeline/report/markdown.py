"""The report as Markdown (GitHub's dialect), for pull requests and terminals."""

from __future__ import annotations

import re

from onnxsmith.pipeline.report.blocks import (
    Beside,
    Block,
    Cell,
    Chips,
    Facts,
    Figure,
    Group,
    Note,
    Page,
    Section,
    Table,
    Tile,
)
from onnxsmith.pipeline.report.model import Report
from onnxsmith.pipeline.report.sections import build_page
from onnxsmith.pipeline.report.text import TEXT_LIMIT, one_line, shorten

_SPECIAL = re.compile(r"([\\`*_\[\]|~#@$!])")
_BLOCK_START = re.compile(r"^(?:[-+](?=[\s-]|$)|=|\d+[.)](?=\s|$))")


def to_markdown(report: Report) -> str:
    """Render a report; plots become the figures they show."""
    return "\n\n".join(_page(build_page(report))) + "\n"


def escape(text: str, limit: int = TEXT_LIMIT) -> str:
    """Make a string safe in a paragraph or a table cell: one line, nothing in it means anything."""
    text = one_line(shorten(text, limit))
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = _SPECIAL.sub(r"\\\1", text)
    # Bare addresses become links by themselves, so their colon is written as an entity.
    text = text.replace("://", "&#58;//").replace("www.", "www&#46;")
    return _BLOCK_START.sub(lambda match: _escape_start(match[0]), text)


def _escape_start(start: str) -> str:
    return f"{start[:-1]}\\{start[-1]}"


def _page(page: Page) -> list[str]:
    parts = [f"# {escape(page.title)}", f"**{escape(page.badge.text)}**"]
    if page.summary:
        parts.append(escape(page.summary))
    if page.tiles:
        parts.append("\n".join(_tile(tile) for tile in page.tiles))
    parts += [f"> **Note:** {escape(warning)}" for warning in page.warnings]
    for section in page.sections:
        parts += _section(section)
    return parts


def _tile(tile: Tile) -> str:
    note = f" ({escape(tile.note)})" if tile.note else ""
    return f"- {escape(tile.label)}: **{escape(tile.value)}**{note}"


def _section(section: Section) -> list[str]:
    parts = [f"## {escape(section.title)}"]
    if section.lead:
        parts.append(escape(section.lead))
    for block in section.blocks:
        parts += _block(block)
    return parts


def _block(block: Block) -> list[str]:
    if isinstance(block, Group):
        badge = f" ({escape(block.badge.text)})" if block.badge else ""
        inner = [part for item in block.blocks for part in _block(item)]
        return [f"### {escape(block.title)}{badge}", *inner]
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Figure):
        return [f"**{escape(block.caption)}.** {escape(block.words)}"]
    if isinstance(block, Beside):
        return [part for figure in block.figures for part in _block(figure)]
    if isinstance(block, Facts):
        title = [f"**{escape(block.title)}**"] if block.title else []
        rows = "\n".join(f"- {escape(f.label)}: {escape(f.value)}" for f in block.rows)
        return [*title, rows]
    if isinstance(block, Chips):
        return [f"{escape(block.title)}: {', '.join(_cell(item) for item in block.items)}"]
    return [_note(block)]


def _note(note: Note) -> str:
    return f"> {escape(note.text)}"


def _table(table: Table) -> list[str]:
    head = "| " + " | ".join(escape(column.label) for column in table.columns) + " |"
    rule = "|" + "|".join(" ---: " if c.numeric else " --- " for c in table.columns) + "|"
    rows = ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in table.rows]
    parts = [f"**{escape(table.caption)}**", "\n".join([head, rule, *rows])]
    return [*parts, escape(table.note)] if table.note else parts


def _cell(cell: Cell) -> str:
    note = f" ({escape(cell.note)})" if cell.note else ""
    return escape(cell.text) + note
