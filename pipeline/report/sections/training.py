"""How a model was trained: a curve for the loss and for each metric, and a row an epoch."""

from __future__ import annotations

import math

from onnxsmith.pipeline.report import units
from onnxsmith.pipeline.report.blocks import Beside, Block, Cell, Column, Figure, Section, Table
from onnxsmith.pipeline.report.plots import NARROW, curve
from onnxsmith.pipeline.report.sections.view import View
from onnxsmith.pipeline.report.text import shorten
from onnxsmith.pipeline.report.training import TrainedEpoch, Training

_MOST_ROWS = 60
_MOST_CURVES = 6


def training(view: View) -> Section | None:
    """Show the curves and the epochs of each training run."""
    runs = [run for run in view.report.trainings if run.epochs]
    if not runs:
        return None
    blocks: list[Block] = []
    for run in runs:
        blocks += [_curves(run), _epochs(run)]
    first = runs[0]
    parts = [f"{units.count(first.parameters)} parameters"] if first.parameters else []
    parts += [f"loss {shorten(first.loss, 60)}", f"optimizer {shorten(first.optimizer, 60)}"]
    parts += [f"{units.count(first.samples)} samples an epoch"] if first.samples else []
    return Section("training", "Training", f"{', '.join(parts)}.", tuple(blocks))


def _curves(run: Training) -> Beside:
    names = list(dict.fromkeys(name for epoch in run.epochs for name in epoch.metrics))
    figures = [_figure("loss", [epoch.loss for epoch in run.epochs], False, 0)]
    for color, name in enumerate(names[: _MOST_CURVES - 1], start=1):
        values = [epoch.metrics.get(name) for epoch in run.epochs]
        figures.append(_figure(name, values, units.higher_is_better(name), color))
    return Beside(tuple(figures))


def _figure(name: str, values: list[float | None], upward: bool | None, color: int) -> Figure:
    known = [(v, i) for i, v in enumerate(values) if v is not None and math.isfinite(v)]
    best = None
    if known and upward is not None:
        best = (max(known, key=lambda p: (p[0], -p[1])) if upward else min(known))[1]
    where = "on held-out data" if name != "loss" else "on the samples trained on"
    words = where
    if known:
        words += f", from {_figures(name, known[0][0])} to {_figures(name, known[-1][0])}"
    if best is not None:
        words += f", best in epoch {best + 1}: {_figures(name, values[best])}"
    caption = f"{shorten(name, 60)[:1].upper()}{shorten(name, 60)[1:]} by epoch"
    plot = curve(values, best, NARROW, f"{caption}, {words}.", color)
    return Figure(caption, plot, plot, f"{words[:1].upper()}{words[1:]}.")


def _figures(name: str, value: float | None) -> str:
    return units.number(value) if name == "loss" else units.metric(name, value)


def _epochs(run: Training) -> Table:
    names = list(dict.fromkeys(name for epoch in run.epochs for name in epoch.metrics))
    columns = [Column("Epoch", True), Column("Loss", True)]
    columns += [Column(name, True) for name in names]
    private = any(epoch.epsilon is not None for epoch in run.epochs)
    columns += [Column("Epsilon", True)] if private else []
    columns += [Column("Rate", True), Column("Updates", True), Column("Time", True)]
    shown = run.epochs[-_MOST_ROWS:]
    note = f"The last {_MOST_ROWS} epochs." if len(shown) < len(run.epochs) else ""
    rows = tuple(_row(epoch, names, private) for epoch in shown)
    return Table("Epochs", tuple(columns), rows, note, compact=len(columns) <= 6)


def _row(epoch: TrainedEpoch, names: list[str], private: bool) -> tuple[Cell, ...]:
    cells = [Cell(str(epoch.number)), Cell(units.number(epoch.loss))]
    cells += [Cell(units.metric(name, epoch.metrics.get(name))) for name in names]
    cells += [Cell(units.number(epoch.epsilon))] if private else []
    cells += [Cell(units.number(epoch.rate)), Cell(units.count(epoch.updates))]
    return (*cells, Cell(units.seconds(epoch.seconds)))
