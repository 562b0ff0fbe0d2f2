"""The report as one self-contained HTML file: no script, no link to anything outside it."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from onnxsmith.pipeline.report.model import Report
from onnxsmith.pipeline.report.sections import build_page
from onnxsmith.pipeline.report.text import TEXT_LIMIT, clean, shorten


def to_html(report: Report) -> str:
    """Render a report; every string of it is escaped, and long ones are cut in the middle."""
    return _environment().get_template("report.html.jinja").render(page=build_page(report))


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("onnxsmith.pipeline.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    environment.filters["short"] = shorten
    environment.filters["clip"] = _clip
    return environment


def _clip(text: str) -> str:
    return shorten(text, TEXT_LIMIT)


def _finalize(value: object) -> object:
    """Clean what no filter has cleaned, for example a string that a template prints as it is."""
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value
