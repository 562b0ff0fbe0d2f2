"""Numerical parity: is what came out the same function as what went in."""

from __future__ import annotations

from onnxsmith.pipeline.report import units
from onnxsmith.pipeline.report.blocks import Cell, Column, Section, Table, Tone
from onnxsmith.pipeline.report.model import Parity, ParityRow
from onnxsmith.pipeline.report.sections.view import View

_TONES: dict[str, Tone] = {"match": "good", "differs": "bad", "unverified": "warn"}


def parity(view: View) -> Section | None:
    """Show one table a check."""
    checks = view.report.parity
    if not checks:
        return None
    lead = "The same inputs through both models: the largest differences, output by output."
    return Section("parity", "Parity", lead, tuple(_table(check) for check in checks))


def _table(check: Parity) -> Table:
    columns = (
        Column("Output"),
        Column("Max. abs.", numeric=True),
        Column("Max. rel.", numeric=True),
        Column("SNR", numeric=True),
        Column("Verdict"),
    )
    rows = tuple(
        (
            Cell(row.output),
            Cell(units.number(row.max_abs)),
            Cell(units.number(row.max_rel)),
            Cell(_decibel(row.snr_db)),
            _verdict(row, bool(check.budget)),
        )
        for row in check.rows
    )
    return Table(f"{check.candidate} against {check.reference}", columns, rows, _note(check))


def _verdict(row: ParityRow, budgeted: bool) -> Cell:
    if budgeted and row.verdict == "differs":
        # Lossy on purpose: the budget judges it, not the tolerance.
        return Cell("differs by design", "muted", row.reason)
    return Cell(row.verdict, _TONES[row.verdict], row.reason)


def _note(check: Parity) -> str:
    parts = [f"{units.count(check.samples)} probe inputs"] if check.samples is not None else []
    if check.rtol is not None:
        parts.append(f"relative tolerance {units.threshold(check.rtol)}")
    if check.atol is not None:
        parts.append(
            f"absolute tolerance {units.threshold(check.atol)} of the largest reference value"
        )
    if check.budget:
        parts.append(f"held to: {check.budget}")
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _decibel(value: float | None) -> str:
    text = units.number(value)
    return text if value is None else f"{text}{units.NARROW}dB"
