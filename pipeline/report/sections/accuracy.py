"""Accuracy on held-out data: metrics side by side, confusion matrix, scores class by class."""

from __future__ import annotations

from onnxsmith.pipeline.report import units
from onnxsmith.pipeline.report.blocks import (
    Beside,
    Block,
    Cell,
    Column,
    Figure,
    Section,
    Table,
    Tone,
)
from onnxsmith.pipeline.report.model import ClassScore, Scores
from onnxsmith.pipeline.report.plots import NARROW, WIDE, heatmap
from onnxsmith.pipeline.report.plots.heatmap import LARGEST
from onnxsmith.pipeline.report.sections.view import View
from onnxsmith.pipeline.report.text import shorten

_MOST_CLASSES = 40
_MOST_CONFUSED = 10
_MOST_BESIDE = 16


def accuracy(view: View) -> Section | None:
    """Show the metrics of every model, and the details of the one the verdict is about."""
    found = view.report.scores
    if not found:
        return None
    blocks: list[Block] = [_metrics(view)] if any(s.metrics for s in found) else []
    chosen = view.scores(view.candidate) or found[-1]
    baseline = view.scores(view.baseline)
    pair = (chosen,) if baseline is None or baseline is chosen else (baseline, chosen)
    drawn = tuple(figure for scores in pair if (figure := _heatmap(scores)) is not None)
    small = all(len(scores.confusion) <= _MOST_BESIDE for scores in pair)
    blocks += [Beside(drawn)] if small and len(drawn) > 1 else drawn
    blocks += _confused(chosen)
    blocks += _per_class(chosen)
    counts = sorted({s.samples for s in found if s.samples is not None})
    lead = f"{units.count(counts[0])} held-out samples." if len(counts) == 1 else ""
    return Section("accuracy", "Accuracy", lead, tuple(blocks))


def _metrics(view: View) -> Table:
    found = view.report.scores
    names = list(dict.fromkeys(name for scores in found for name in scores.metrics))
    compared = view.compares and view.scores(view.baseline) is not None and len(found) > 1
    columns = [Column("Metric"), *(Column(s.model, numeric=True) for s in found)]
    if compared:
        columns.append(Column("Difference", numeric=True))
    rows = []
    for name in names:
        cells = [Cell(name)]
        cells += [Cell(units.metric(name, s.metrics.get(name))) for s in found]
        if compared:
            cells.append(_difference(view, name))
        rows.append(tuple(cells))
    note = (
        f"Difference: {shorten(view.candidate, 60)} less {shorten(view.baseline, 60)}."
        if compared and len(found) > 2
        else ""
    )
    return Table("Metrics by model", tuple(columns), tuple(rows), note)


def _difference(view: View, name: str) -> Cell:
    before, after = view.scores(view.baseline), view.scores(view.candidate)
    was = before.metrics.get(name) if before else None
    now = after.metrics.get(name) if after else None
    tone: Tone = ""
    upward = units.higher_is_better(name)
    if was is not None and now is not None and upward is not None and was != now:
        tone = "good" if (now > was) == upward else "warn"
    return Cell(units.metric_change(name, was, now), tone)


def _square(scores: Scores) -> int:
    """Return the number of classes of a confusion matrix that can be shown, else 0."""
    size = len(scores.confusion)
    return size if size > 1 and all(len(row) == size for row in scores.confusion) else 0


def _class_names(scores: Scores) -> tuple[str, ...]:
    known = len(scores.classes)
    return tuple(
        shorten(scores.classes[i], 60) if i < known else str(i)
        for i in range(len(scores.confusion))
    )


def _heatmap(scores: Scores) -> Figure | None:
    size = _square(scores)
    if not 0 < size <= LARGEST:
        return None
    names = _class_names(scores)
    right = sum(scores.confusion[i][i] for i in range(size))
    total = sum(map(sum, scores.confusion))
    words = f"{units.count(right)} of {units.count(total)} samples on the diagonal."
    label = f"Confusion matrix of {shorten(scores.model, 60)}: {words}"
    narrow = heatmap(scores.confusion, names, NARROW, label)
    wide = narrow if size <= _MOST_BESIDE else heatmap(scores.confusion, names, WIDE, label)
    return Figure(f"Confusion matrix of {shorten(scores.model, 100)}", wide, narrow, words)


def _confused(scores: Scores) -> list[Block]:
    if _square(scores) <= LARGEST:
        return []
    confused = _most_confused(scores.confusion, _class_names(scores))
    columns = (Column("True class"), Column("Taken for"), Column("Samples", numeric=True))
    rows = tuple((Cell(t), Cell(p), Cell(units.count(n))) for n, t, p in confused)
    note = f"The matrix of all {len(scores.confusion)} classes is in the JSON report."
    table = Table(f"Most confused classes of {scores.model}", columns, rows, note)
    return [table] if rows else []


def _most_confused(
    matrix: tuple[tuple[int, ...], ...], names: tuple[str, ...]
) -> list[tuple[int, str, str]]:
    pairs = [
        (count, names[true], names[predicted])
        for true, row in enumerate(matrix)
        for predicted, count in enumerate(row)
        if true != predicted and count > 0
    ]
    return sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2]))[:_MOST_CONFUSED]


def _per_class(scores: Scores) -> list[Block]:
    classes = scores.per_class
    if not classes:
        return []
    note = ""
    if len(classes) > _MOST_CLASSES:
        note = f"The {_MOST_CLASSES} of {units.count(len(classes))} classes with the lowest F1."
        classes = tuple(sorted(classes, key=_weakness))[:_MOST_CLASSES]
    columns = (
        Column("Class"),
        Column("Precision", numeric=True),
        Column("Recall", numeric=True),
        Column("F1", numeric=True),
        Column("Samples", numeric=True),
    )
    rows = tuple(
        (
            Cell(item.name),
            Cell(units.percent(item.precision, 1)),
            Cell(units.percent(item.recall, 1)),
            Cell(units.percent(item.f1, 1)),
            Cell(units.count(item.support)),
        )
        for item in classes
    )
    compact = all(len(item.name) <= 12 for item in classes)
    return [Table(f"Scores by class of {scores.model}", columns, rows, note, compact)]


def _weakness(item: ClassScore) -> float:
    return item.f1 if item.f1 is not None and item.f1 == item.f1 else -1.0
