"""The top of the page: the verdict in words, as one word, and as tiles."""

from __future__ import annotations

import math

from onnxsmith.pipeline.report import units
from onnxsmith.pipeline.report.blocks import Cell, Tile, Tone
from onnxsmith.pipeline.report.model import Parity, Report, Speedup, Status
from onnxsmith.pipeline.report.sections.view import View, headline_metric
from onnxsmith.pipeline.report.text import shorten

_BADGES: dict[Status, tuple[str, Tone]] = {
    "passed": ("Passed", "good"),
    "attention": ("Passed, with notes", "warn"),
    "failed": ("Failed", "bad"),
}

_SPEED_TONES: dict[str, Tone] = {"faster": "good", "slower": "bad"}


def status(report: Report) -> Status:
    """Return the report's status, read off its parts where it does not say."""
    if report.status is not None:
        return report.status
    broken = any(row.verdict == "differs" for p in report.parity if not p.budget for row in p.rows)
    if broken or any(stage.status == "failed" for stage in report.stages):
        return "failed"
    unverified = any(row.verdict == "unverified" for p in report.parity for row in p.rows)
    dropped = any(row.status == "dropped" for stage in report.stages for row in stage.passes)
    warned = report.warnings or any(stage.warnings for stage in report.stages)
    return "attention" if unverified or dropped or warned else "passed"


def badge(report: Report) -> Cell:
    """Return the status as a word with its tone."""
    word, tone = _BADGES[status(report)]
    return Cell(word, tone)


def summary(view: View) -> str:
    """Return the verdict in words: what went in, what came out, is it right, smaller, faster."""
    if view.report.summary:
        return view.report.summary
    clauses = [c for c in (_size_clause(view), _speed_clause(view), _score_clause(view)) if c]
    sentences = [s for s in (_opening(view, clauses), _parity_sentence(view.report)) if s]
    dropped = [r.name for s in view.report.stages for r in s.passes if r.status == "dropped"]
    if dropped:
        noun = "One change was" if len(dropped) == 1 else f"{len(dropped)} changes were"
        names = ", ".join(shorten(name, 60) for name in dropped[:5])
        sentences.append(f"{noun} left out: {names}{', …' if len(dropped) > 5 else ''}.")
    return " ".join(sentences)


def tiles(view: View) -> tuple[Tile, ...]:
    """Return the headline figures that the report has the data for."""
    found = (
        _score_tile(view),
        _speed_tile(view),
        _latency_tile(view),
        _size_tile(view),
        _memory_tile(view),
        _parity_tile(view.report),
    )
    return tuple(tile for tile in found if tile is not None)


def _opening(view: View, clauses: list[str]) -> str:
    figures = ", ".join(clauses)
    sources = view.report.sources
    source = shorten(sources[0].name, 60) if sources else ""
    if source and sources[0].framework:
        source += f" ({shorten(sources[0].framework, 40)})"
    result = shorten(view.candidate, 60)
    if not result:
        return f"{source} went in." if source else ""
    became = f"{source} became {result}" if source and source != result else result
    if view.compares and clauses:
        return f"{became}. Against {shorten(view.baseline, 60)} it is {figures}."
    return f"{became}: {figures}." if clauses else f"{became}."


def _size_clause(view: View) -> str:
    before, after = view.size(view.baseline), view.size(view.candidate)
    if after is None:
        return ""
    if before is None or not view.compares:
        return units.size(after.size_bytes)
    sizes = f"{units.size(before.size_bytes)} → {units.size(after.size_bytes)}"
    return f"{_factor(before.size_bytes, after.size_bytes, 'smaller', 'larger')} ({sizes})"


def _speed_clause(view: View) -> str:
    ratio = view.speedup()
    if ratio is None or ratio.ratio is None or not math.isfinite(ratio.ratio) or ratio.ratio <= 0:
        latency = view.latency(view.candidate)
        return "" if latency is None else f"{units.milliseconds(latency.p50)} a run at the median"
    interval = _interval(ratio)
    if ratio.verdict == "slower":
        turned = Speedup("", "", 1 / ratio.ratio, _inverse(ratio.high), _inverse(ratio.low))
        return f"{units.times(turned.ratio)} slower{_interval(turned)}"
    if ratio.verdict == "faster":
        return f"{units.times(ratio.ratio)} faster{interval}"
    if ratio.verdict == "unmeasured":
        return "not measured for speed here"
    return f"as fast as before{interval}"


def _score_clause(view: View) -> str:
    after, before = view.scores(view.candidate), view.scores(view.baseline)
    name = headline_metric(after) if after else ""
    if after is None or not name:
        return ""
    value = after.metrics[name]
    if before is None or not view.compares or name not in before.metrics:
        samples = f" on {units.count(after.samples)} samples" if after.samples else ""
        return f"{name} {units.metric(name, value)}{samples}"
    was = before.metrics[name]
    difference = units.metric_change(name, was, value)
    figures = f"{units.metric(name, was)} → {units.metric(name, value)}"
    return f"with {name} {figures} ({difference})"


def _parity_sentence(report: Report) -> str:
    rows = [row for parity in report.parity if not parity.budget for row in parity.rows]
    if not rows:
        return ""
    wrong = [shorten(row.output, 60) for row in rows if row.verdict == "differs"]
    open_ = [row for row in rows if row.verdict == "unverified"]
    if wrong:
        verb = "differs" if len(wrong) == 1 else "differ"
        return f"Wrong: {', '.join(wrong[:5])} {verb} from the reference."
    if open_:
        matched = f"{len(rows) - len(open_)} of {len(rows)} checked outputs match their reference"
        return f"{matched}; the others change by themselves from run to run."
    return "Every checked output matches its reference."


def _score_tile(view: View) -> Tile | None:
    after, before = view.scores(view.candidate), view.scores(view.baseline)
    name = headline_metric(after) if after else ""
    if after is None or not name:
        return None
    value, note = after.metrics[name], ""
    if before is not None and view.compares and name in before.metrics:
        was = before.metrics[name]
        note = f"{units.metric_change(name, was, value)}, was {units.metric(name, was)}"
    elif after.samples:
        note = f"{units.count(after.samples)} samples"
    return Tile(name.capitalize(), units.metric(name, value), note)


def _speed_tile(view: View) -> Tile | None:
    ratio = view.speedup()
    if ratio is None or ratio.ratio is None:
        return None
    tone = _SPEED_TONES.get(ratio.verdict, "")
    return Tile("Speed", units.times(ratio.ratio), _range(ratio), tone)


def _latency_tile(view: View) -> Tile | None:
    after, before = view.latency(view.candidate), view.latency(view.baseline)
    if after is None or after.p50 is None:
        return None
    note = f"p99 {units.milliseconds(after.p99)}"
    if before is not None and view.compares:
        note = f"was {units.milliseconds(before.p50)}, {note}"
    return Tile("Latency, median", units.milliseconds(after.p50), note)


def _size_tile(view: View) -> Tile | None:
    after, before = view.size(view.candidate), view.size(view.baseline)
    if after is None:
        return None
    if before is None or not view.compares:
        return Tile("Size", units.size(after.size_bytes))
    word = _factor(before.size_bytes, after.size_bytes, "smaller", "larger")
    tone: Tone = "good" if before.size_bytes > after.size_bytes * 1.02 else ""
    return Tile(
        "Size", units.size(after.size_bytes), f"{word}, was {units.size(before.size_bytes)}", tone
    )


def _memory_tile(view: View) -> Tile | None:
    after, before = view.memory(view.candidate), view.memory(view.baseline)
    if after is None:
        return None
    note = f"was {units.size(before.size_bytes)}" if before is not None and view.compares else ""
    return Tile("Peak memory", units.size(after.size_bytes), note)


def _parity_tile(report: Report) -> Tile | None:
    checks: list[Parity] = [p for p in report.parity if not p.budget]
    rows = [row for parity in checks for row in parity.rows]
    if not rows:
        return None
    good = sum(row.verdict == "match" for row in rows)
    largest = max((r.max_abs for r in rows if r.max_abs is not None), default=None)
    note = "" if largest is None else f"largest difference {units.number(largest, 2)}"
    tone: Tone = "good" if good == len(rows) else "warn"
    if any(row.verdict == "differs" for row in rows):
        tone = "bad"
    return Tile("Parity", f"{good} of {len(rows)}", note or "outputs match", tone)


def _factor(before: float, after: float, less: str, more: str) -> str:
    if min(before, after) <= 0 or abs(before - after) <= 0.005 * before:
        return "the same size"
    if after < before:
        return f"{units.times(before / after)} {less}"
    return f"{units.times(after / before)} {more}"


def _interval(ratio: Speedup) -> str:
    if ratio.low is None or ratio.high is None:
        return ""
    level = f"{ratio.confidence * 100:g}{units.NARROW}%"
    return f" ({level} interval {units.span(ratio.low, ratio.high)})"


def _range(ratio: Speedup) -> str:
    if ratio.low is None or ratio.high is None:
        return ratio.verdict
    return f"{ratio.verdict}, {units.span(ratio.low, ratio.high)}"


def _inverse(value: float | None) -> float | None:
    return 1 / value if value else None
