"""A search over ways to quantize, and what each layer costs."""

from __future__ import annotations

from onnxsmith.pipeline.report import units
from onnxsmith.pipeline.report.blocks import Block, Cell, Column, Figure, Section, Table, Tone
from onnxsmith.pipeline.report.plots import NARROW, WIDE, Bar, bars, front
from onnxsmith.pipeline.report.quantization import LayerCost, Search, TrialPoint
from onnxsmith.pipeline.report.sections.departure import decibel
from onnxsmith.pipeline.report.sections.view import View
from onnxsmith.pipeline.report.text import shorten

_MOST_BARS = 20
_MOST_ROWS = 60


def search(view: View) -> Section | None:
    """Show the candidates of each search and the ones that none beats."""
    blocks: list[Block] = []
    for item in view.report.searches:
        blocks += [_front(item), _trials(item)]
    if not blocks:
        return None
    lead = (
        "Candidates that were made and measured. A dot on the line is beaten by no other in both."
    )
    return Section("search", "Search", lead, tuple(blocks))


def sensitivity(view: View) -> Section | None:
    """Show what quantizing each layer alone does, and what each layer takes."""
    layers = view.report.sensitivity
    if not layers:
        return None
    lead = "Each layer was quantized alone: what that does to the outputs, and what it takes."
    blocks: list[Block] = []
    drawn = [layer for layer in layers if layer.snr_db is not None][:_MOST_BARS]
    if drawn:
        blocks.append(_bars(drawn))
    blocks.append(_layers(layers, view.report.sensitivity_note))
    return Section("sensitivity", "Sensitivity", lead, tuple(blocks))


def _front(item: Search) -> Figure:
    words = "; ".join(
        f"{shorten(t.name, 60)}: {units.milliseconds(t.latency_ms)}, "
        f"{units.metric(item.score, t.score)}"
        for t in item.trials
        if t.on_front
    )
    label = f"Latency and {item.score} of the candidates; not beaten: {words or 'none'}."
    plots = (front(item, WIDE, label), front(item, NARROW, label))
    return Figure("What is kept against what is taken", *plots, label)


def _trials(item: Search) -> Table:
    columns = (
        Column("Candidate"),
        Column("Latency", numeric=True),
        Column(item.score, numeric=True),
        Column("Weights", numeric=True),
        Column("Verdict"),
    )
    rows = tuple(
        (
            Cell(trial.name),
            Cell(units.milliseconds(trial.latency_ms)),
            Cell(units.metric(item.score, trial.score)),
            Cell(units.size(trial.size_bytes)),
            _verdict(trial),
        )
        for trial in item.trials
    )
    note = (
        "" if item.limit is None else f"At least {units.metric(item.score, item.limit)} is asked."
    )
    return Table("Candidates", columns, rows, note)


def _verdict(trial: TrialPoint) -> Cell:
    tone: Tone = "good" if trial.chosen else ""
    fronts = (("of speed", trial.on_front), ("of size", trial.on_size_front))
    on = " and ".join(words for words, there in fronts if there)
    return Cell(
        "chosen" if trial.chosen else trial.verdict, tone, f"on the front {on}" if on else ""
    )


def _bars(layers: list[LayerCost]) -> Figure:
    """Draw the noise of the most sensitive layers: the longer the bar, the more it hurts."""
    rows = [
        Bar(
            layer.layer,
            10 ** (-(layer.snr_db or 0.0) / 20),
            decibel(layer.snr_db),
            _remark(layer),
            1,
        )
        for layer in layers
    ]
    words = "; ".join(f"{shorten(bar.name, 60)}: {bar.label}" for bar in rows)
    label = f"Error of the outputs with one layer quantized, most sensitive first. {words}."
    return Figure(
        "Error of the outputs with one layer quantized",
        bars(rows, WIDE, label),
        bars(rows, NARROW, label),
        label,
    )


def _remark(layer: LayerCost) -> str:
    words = [] if layer.drop is None else [f"drop {units.number(layer.drop)}"]
    if layer.share is not None:
        words.append(f"{units.percent(layer.share, 1)} of the time")
    return "  ·  ".join(words)


def _layers(layers: tuple[LayerCost, ...], said: str) -> Table:
    scored = any(layer.drop is not None for layer in layers)
    columns = [Column("Layer"), Column("Operator"), Column("SNR", numeric=True)]
    columns += [Column("Drop", numeric=True)] if scored else []
    columns += [Column("Time", numeric=True), Column("Share", numeric=True), Column("Note")]
    rows = []
    for layer in layers[:_MOST_ROWS]:
        cells = [Cell(layer.layer), Cell(layer.op_type), Cell(decibel(layer.snr_db))]
        cells += [Cell(units.number(layer.drop))] if scored else []
        cells.append(Cell(units.milliseconds(layer.time_ms)))
        cells += [Cell(units.percent(layer.share, 1)), Cell(layer.note)]
        rows.append(tuple(cells))
    more = len(layers) - _MOST_ROWS
    notes = [said] if said else []
    notes += [f"The {_MOST_ROWS} most sensitive; {more} more."] if more > 0 else []
    return Table("Layers, the most sensitive first", tuple(columns), tuple(rows), " ".join(notes))
