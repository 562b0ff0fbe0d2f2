"""The report of a run: plain data to Markdown, JSON and one self-contained HTML file."""

from onnxsmith.pipeline.report.files import write
from onnxsmith.pipeline.report.html import to_html
from onnxsmith.pipeline.report.markdown import to_markdown
from onnxsmith.pipeline.report.model import Report

__all__ = ["Report", "to_html", "to_markdown", "write"]
