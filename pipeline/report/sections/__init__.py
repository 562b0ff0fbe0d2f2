"""The report's sections: a function each, which returns None where there is nothing to say."""

from onnxsmith.pipeline.report.blocks import Page
from onnxsmith.pipeline.report.model import Report
from onnxsmith.pipeline.report.sections.accuracy import accuracy
from onnxsmith.pipeline.report.sections.departure import departure
from onnxsmith.pipeline.report.sections.footprint import footprint
from onnxsmith.pipeline.report.sections.headline import badge, summary, tiles
from onnxsmith.pipeline.report.sections.models import products, sources
from onnxsmith.pipeline.report.sections.origin import environment, provenance
from onnxsmith.pipeline.report.sections.parity import parity
from onnxsmith.pipeline.report.sections.search import search, sensitivity
from onnxsmith.pipeline.report.sections.speed import speed
from onnxsmith.pipeline.report.sections.stages import stages
from onnxsmith.pipeline.report.sections.training import training
from onnxsmith.pipeline.report.sections.view import View

__all__ = ["build_page"]

_SECTIONS = (
    sources,
    stages,
    training,
    parity,
    departure,
    search,
    sensitivity,
    accuracy,
    speed,
    footprint,
    products,
    provenance,
    environment,
)


def build_page(report: Report) -> Page:
    """Lay a report out; sections without data do not appear."""
    view = View.of(report)
    found = tuple(section for make in _SECTIONS if (section := make(view)) is not None)
    return Page(report.title, summary(view), badge(report), tiles(view), report.warnings, found)
