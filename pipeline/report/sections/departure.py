"""Where a candidate departs from its reference, layer by layer."""

from __future__ import annotations

from onnxsmith.pipeline.report import units
from onnxsmith.pipeline.report.blocks import Block, Cell, Column, Figure, Section, Table
from onnxsmith.pipeline.report.plots import NARROW, WIDE, trace
from onnxsmith.pipeline.report.quantization import Departure, LayerNoise
from onnxsmith.pipeline.report.sections.view import View
from onnxsmith.pipeline.report.text import shorten

_MOST_MARKED = 8
_MOST_ROWS = 30


def departure(view: View) -> Section | None:
    """Show a plot and a ranked table a comparison."""
    found = view.report.departures
    if not found:
        return None
    blocks: list[Block] = [block for item in found for block in (_figure(item), _table(item))]
    lead = (
        "The same inputs through both models: the signal to noise of every tensor that both have, "
        "and the noise that each layer adds to what comes in."
    )
    return Section("departure", "Where they part", lead, tuple(blocks))


def _ranked(item: Departure) -> list[tuple[int, LayerNoise]]:
    noisy = [(i, layer) for i, layer in enumerate(item.layers) if (layer.added or 0.0) > 0]
    return sorted(noisy, key=lambda pair: -(pair[1].added or 0.0))


def _figure(item: Departure) -> Figure:
    ranked = _ranked(item)[:_MOST_MARKED]
    marked = [index for index, _ in ranked]
    words = "; ".join(
        f"{rank}. {shorten(layer.tensor, 60)} {decibel(layer.snr_db)}"
        for rank, (_, layer) in enumerate(ranked, start=1)
    )
    label = f"Signal to noise layer by layer; most noise is added at {words or 'no layer'}."
    plots = (trace(item.layers, marked, WIDE, label), trace(item.layers, marked, NARROW, label))
    caption = f"Signal to noise of {shorten(item.candidate, 60)} along the network"
    return Figure(caption, *plots, label)


def _table(item: Departure) -> Table:
    ranked = _ranked(item)
    columns = (
        Column("Tensor"),
        Column("Rank", numeric=True),
        Column("Operator"),
        Column("SNR", numeric=True),
        Column("Before it", numeric=True),
        Column("Noise added", numeric=True),
        Column("Max. rel.", numeric=True),
    )
    rows = tuple(
        (
            Cell(layer.tensor),
            Cell(str(rank)),
            Cell(layer.op_type),
            Cell(decibel(layer.snr_db)),
            Cell(decibel(layer.before_db)),
            Cell(units.number(layer.added)),
            Cell(units.number(layer.max_rel)),
        )
        for rank, (_, layer) in enumerate(ranked[:_MOST_ROWS], start=1)
    )
    notes = [f"{units.count(len(item.layers))} tensors were found in both models"]
    if item.unmatched:
        notes.append(f"{units.count(item.unmatched)} were not")
    if len(ranked) > _MOST_ROWS:
        notes.append(f"the {_MOST_ROWS} that add most noise are shown")
    note = f"{'; '.join(notes)}. Noise added is noise power over signal power."
    return Table("Layers by the noise they add", columns, rows, note)


def decibel(value: float | None) -> str:
    """Format a ratio in decibels."""
    text = units.number(value)
    return text if value is None else f"{text}{units.NARROW}dB"
