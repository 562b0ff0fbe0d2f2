"""What went in, what came out, and the data used."""

from __future__ import annotations

from onnxsmith.pipeline.report import units
from onnxsmith.pipeline.report.blocks import Block, Cell, Facts, Group, Section
from onnxsmith.pipeline.report.model import Dataset, Fact, ModelInfo
from onnxsmith.pipeline.report.sections.view import View


def sources(view: View) -> Section | None:
    """Describe the models and data that went in."""
    report = view.report
    groups: list[Block] = [_model(model) for model in report.sources]
    groups += [_dataset(data) for data in report.datasets]
    if not groups:
        return None
    return Section("input", "What went in", "", tuple(groups))


def products(view: View) -> Section | None:
    """Describe the models that came out."""
    groups = tuple(_model(model) for model in view.report.products)
    return Section("output", "What came out", "", groups) if groups else None


def _model(model: ModelInfo) -> Group:
    rows = [Fact("Framework", model.framework)] if model.framework else []
    rows += [Fact("Input", line) for line in model.inputs]
    rows += [Fact("Output", line) for line in model.outputs]
    if model.size_bytes is not None:
        rows.append(Fact("Size", units.size(model.size_bytes)))
    rows += model.facts
    if model.digest:
        rows.append(Fact("Digest", model.digest))
    return Group(model.name, None, (Facts("", tuple(rows)),) if rows else ())


def _dataset(data: Dataset) -> Group:
    rows = [Fact("Samples", units.count(data.samples))] if data.samples is not None else []
    rows += data.facts
    role = Cell(f"data for {data.role}", "muted") if data.role else Cell("data", "muted")
    return Group(data.name, role, (Facts("", tuple(rows)),) if rows else ())
