"""Latency as distributions, ratios with intervals, and throughput."""

from __future__ import annotations

from onnxsmith.pipeline.report import units
from onnxsmith.pipeline.report.blocks import Block, Cell, Column, Figure, Section, Table, Tone
from onnxsmith.pipeline.report.model import Latency, Speedup
from onnxsmith.pipeline.report.plots import NARROW, WIDE, Bar, bars, density, intervals
from onnxsmith.pipeline.report.sections.view import View
from onnxsmith.pipeline.report.text import shorten

_MOST_DRAWN = 12
_TONES: dict[str, Tone] = {"faster": "good", "slower": "bad"}


def speed(view: View) -> Section | None:
    """Show how long the models take and which is faster."""
    report = view.report
    blocks: list[Block] = []
    if any(row.samples_ms for row in report.latency):
        blocks.append(_distributions(view))
    if report.latency:
        blocks.append(_quantiles(report.latency))
    if report.speedups:
        blocks += _ratios(report.speedups)
    if len([row for row in report.latency if row.throughput]) > 1:
        blocks.append(_throughput(view))
    if not blocks:
        return None
    return Section("speed", "Speed", "", tuple(blocks))


def _distributions(view: View) -> Figure:
    drawn = [(row, view.color(row.model)) for row in view.report.latency if row.samples_ms]
    drawn = drawn[:_MOST_DRAWN]
    words = "; ".join(
        f"{shorten(row.model, 60)}: median {units.milliseconds(row.p50)}" for row, _ in drawn
    )
    label = f"Distribution of latency. {words}."
    return Figure(
        "Latency of single runs",
        density(drawn, WIDE, label),
        density(drawn, NARROW, label),
        f"Median of single runs. {words}.",
    )


def _quantiles(rows: tuple[Latency, ...]) -> Table:
    batched = any(row.batch is not None for row in rows)
    placed = any(row.provider for row in rows)
    columns = [Column("Model"), *(Column(n, numeric=True) for n in ("p50", "p90", "p99", "Mean"))]
    columns.append(Column("Throughput", numeric=True))
    columns += [Column("Batch", numeric=True)] if batched else []
    columns.append(Column("Runs", numeric=True))
    columns += [Column("Provider")] if placed else []
    table = []
    for row in rows:
        cells = [Cell(row.model)]
        cells += [Cell(units.milliseconds(v)) for v in (row.p50, row.p90, row.p99, row.mean)]
        cells.append(Cell(units.rate(row.throughput)))
        cells += [Cell(units.count(row.batch))] if batched else []
        cells.append(Cell(units.count(len(row.samples_ms) or None)))
        # "CPUExecutionProvider" says no more than "CPU" in a column of providers.
        cells += [Cell(row.provider.replace("ExecutionProvider", ""))] if placed else []
        table.append(tuple(cells))
    return Table("Latency and throughput", tuple(columns), tuple(table))


def _ratios(rows: tuple[Speedup, ...]) -> list[Block]:
    blocks: list[Block] = []
    drawn = [row for row in rows if row.ratio is not None][:_MOST_DRAWN]
    if drawn:
        words = "; ".join(
            f"{shorten(row.candidate, 60)} against {shorten(row.baseline, 60)}: "
            f"{units.times(row.ratio)}, {row.verdict}"
            for row in drawn
        )
        label = f"Speed-up with its interval. {words}."
        plots = (intervals(drawn, WIDE, label), intervals(drawn, NARROW, label))
        blocks.append(Figure("Speed-up, with its interval", *plots, f"{words}."))
    columns = (
        Column("Candidate"),
        Column("Baseline"),
        Column("Speed-up", numeric=True),
        Column("Interval", numeric=True),
        Column("Verdict"),
    )
    table = tuple(
        (
            Cell(row.candidate),
            Cell(row.baseline),
            Cell(units.times(row.ratio)),
            Cell(_interval(row)),
            Cell(row.verdict, _TONES.get(row.verdict, "muted")),
        )
        for row in rows
    )
    levels = sorted({row.confidence for row in rows})
    level = ", ".join(f"{value * 100:g}{units.NARROW}%" for value in levels)
    note = f"Time of the baseline over time of the candidate; {level} interval."
    blocks.append(Table("Speed-up by pair", columns, table, note))
    return blocks


def _throughput(view: View) -> Figure:
    rows = [row for row in view.report.latency if row.throughput][:_MOST_DRAWN]
    items = [
        Bar(
            row.model,
            row.throughput or 0.0,
            units.rate(row.throughput),
            series=view.color(row.model),
        )
        for row in rows
    ]
    words = "; ".join(f"{shorten(item.name, 60)}: {item.label}" for item in items)
    label = f"Throughput in samples a second. {words}."
    return Figure(
        "Throughput, samples a second",
        bars(items, WIDE, label),
        bars(items, NARROW, label),
        f"{words}.",
    )


def _interval(row: Speedup) -> str:
    if row.low is None or row.high is None:
        return units.MISSING
    return units.span(row.low, row.high)
