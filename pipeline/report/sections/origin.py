"""Where the result comes from: the artifact's history, the command, seeds, and the machine."""

from __future__ import annotations

from onnxsmith.pipeline.report.blocks import Block, Cell, Column, Facts, Section, Table
from onnxsmith.pipeline.report.model import Fact, HistoryStep
from onnxsmith.pipeline.report.sections.view import View


def provenance(view: View) -> Section | None:
    """Show how the artifact came to be and how to make it again."""
    report = view.report
    blocks: list[Block] = []
    if report.provenance:
        blocks.append(Facts("Run", report.provenance))
    if report.history:
        blocks.append(_history(report.history))
    if not blocks:
        return None
    return Section("provenance", "Provenance", "", tuple(blocks))


def environment(view: View) -> Section | None:
    """Show what the figures were taken on."""
    facts = view.report.environment
    if not facts:
        return None
    return Section("environment", "Environment", "", (Facts("", facts),))


def _history(steps: tuple[HistoryStep, ...]) -> Table:
    columns = (Column("Step"), Column("Kind"), Column("Options"), Column("Result"))
    rows = tuple(
        (
            Cell(f"{index}. {step.name}"),
            Cell(step.kind),
            Cell(_joined(step.options)),
            Cell(_joined(step.result)),
        )
        for index, step in enumerate(steps, 1)
    )
    return Table("History carried by the model file", columns, rows)


def _joined(facts: tuple[Fact, ...]) -> str:
    return ", ".join(f"{fact.label}={fact.value}" for fact in facts)
