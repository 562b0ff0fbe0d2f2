"""Bytes on disk and peak memory, as bars."""

from __future__ import annotations

from onnxsmith.pipeline.report import units
from onnxsmith.pipeline.report.blocks import Block, Figure, Section
from onnxsmith.pipeline.report.model import Amount
from onnxsmith.pipeline.report.plots import NARROW, WIDE, Bar, bars
from onnxsmith.pipeline.report.sections.view import View
from onnxsmith.pipeline.report.text import shorten

_MOST_DRAWN = 24


def footprint(view: View) -> Section | None:
    """Show what the models take of disk and memory."""
    report = view.report
    blocks: list[Block] = []
    if report.sizes:
        blocks.append(_figure(view, "Size on disk", report.sizes))
    if report.memory:
        blocks.append(_figure(view, "Peak memory", report.memory))
    return Section("footprint", "Size and memory", "", tuple(blocks)) if blocks else None


def _figure(view: View, caption: str, amounts: tuple[Amount, ...]) -> Figure:
    reference = next((a for a in amounts if a.model == view.baseline), amounts[0])
    items = [
        Bar(
            amount.model,
            float(amount.size_bytes),
            units.size(amount.size_bytes),
            _note(amount, reference),
            view.color(amount.model),
        )
        for amount in amounts[:_MOST_DRAWN]
    ]
    words = "; ".join(f"{shorten(item.name, 60)}: {item.label}" for item in items)
    label = f"{caption}. {words}."
    return Figure(caption, bars(items, WIDE, label), bars(items, NARROW, label), f"{words}.")


def _note(amount: Amount, reference: Amount) -> str:
    if amount is reference or min(amount.size_bytes, reference.size_bytes) <= 0:
        return ""
    ratio = reference.size_bytes / amount.size_bytes
    if 0.995 < ratio < 1.005:
        return "same"
    return f"{units.times(ratio)} less" if ratio > 1 else f"{units.times(1 / ratio)} more"
