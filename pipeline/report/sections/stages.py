"""Each step of the run: its passes, the graph before and after, what was dropped and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnxsmith.pipeline.report import units
from onnxsmith.pipeline.report.blocks import (
    Cell,
    Chips,
    Column,
    Facts,
    Group,
    Note,
    Section,
    Table,
    Tone,
)
from onnxsmith.pipeline.report.model import Fact, PassRow, Stage
from onnxsmith.pipeline.report.sections.view import View

_TONES: dict[str, Tone] = {
    "done": "good",
    "applied": "good",
    "failed": "bad",
    "dropped": "warn",
    "cached": "muted",
    "skipped": "muted",
    "unchanged": "muted",
}
_MOST_CHIPS = 40


def stages(view: View) -> Section | None:
    """Describe every stage."""
    found = view.report.stages
    if not found:
        return None
    total = sum(stage.seconds or 0.0 for stage in found)
    lead = f"{len(found)} steps in {units.seconds(total)}." if len(found) > 1 and total else ""
    return Section("steps", "Step by step", lead, tuple(_stage(s) for s in found))


def _stage(stage: Stage) -> Group:
    rows = [Fact("Time", units.seconds(stage.seconds))] if stage.seconds is not None else []
    if stage.nodes_before is not None or stage.nodes_after is not None:
        rows.append(Fact("Nodes", units.change(stage.nodes_before, stage.nodes_after)))
    rows += [*stage.options, *stage.facts]
    blocks: list[Table | Facts | Chips | Note] = [Facts("", tuple(rows))] if rows else []
    if stage.passes:
        shown = [row for row in stage.passes if row.status != "unchanged" or row.reason]
        idle = len(stage.passes) - len(shown)
        many = "pass" if idle == 1 else "passes"
        words = f"{units.count(idle)} {many} left the graph as it was." if idle else ""
        blocks.append(_passes(shown, words) if shown else Note(words))
    blocks += [_dropped(row) for row in stage.passes if row.status == "dropped"]
    chips = _census(stage.census_before, stage.census_after)
    if chips:
        blocks.append(Chips("Operators", chips))
    blocks += [Note(text, "warn") for text in stage.warnings]
    badge = Cell(stage.status, _TONES[stage.status])
    return Group(stage.name, badge, tuple(blocks))


def _passes(passes: Sequence[PassRow], note: str) -> Table:
    columns = (
        Column("Pass"),
        Column("Effect"),
        Column("Nodes", numeric=True),
        Column("Time", numeric=True),
        Column("Result"),
    )
    rows = tuple(
        (
            Cell(row.name, note=row.options),
            Cell(row.effect),
            Cell(_nodes(row)),
            Cell(units.seconds(row.seconds)),
            Cell(row.status, _TONES[row.status]),
        )
        for row in passes
    )
    return Table("Passes", columns, rows, note)


def _nodes(row: PassRow) -> str:
    if row.nodes_before is None or row.nodes_before == row.nodes_after:
        return units.count(row.nodes_after)
    return f"{units.count(row.nodes_before)} → {units.count(row.nodes_after)}"


def _dropped(row: PassRow) -> Note:
    return Note(f"{row.name} was dropped: {row.reason or 'no reason recorded'}", "warn")


def _census(before: Mapping[str, int], after: Mapping[str, int]) -> tuple[Cell, ...]:
    """Return operator counts, the ones that changed first; ``before`` alone is no change."""
    if not after:
        before, after = {}, before
    known = bool(before)
    changed, same = [], []
    for name in sorted(
        {*before, *after}, key=lambda n: (-max(before.get(n, 0), after.get(n, 0)), n)
    ):
        was, now = before.get(name, 0), after.get(name, 0)
        if was == now == 0:
            continue
        if known and was != now:
            changed.append(Cell(f"{name} {units.count(was)} → {units.count(now)}"))
        else:
            same.append(Cell(f"{name} {units.count(now)}", "muted"))
    chips = [*changed, *same]
    rest = len(chips) - _MOST_CHIPS
    more = [Cell(f"and {rest} more", "muted")] if rest > 0 else []
    return tuple([*chips[:_MOST_CHIPS], *more])
