"""The section on the steps of a run."""

from onnxsmith.pipeline.report import Report, to_markdown
from onnxsmith.pipeline.report.model import PassRow, Stage

IDLE = PassRow("idle", "exact", "", 0.001, 9, 9, "unchanged")


def test_passes_that_did_nothing_are_counted_not_listed() -> None:
    busy = PassRow("busy", "exact", "", 0.001, 9, 7, "applied")
    refused = PassRow("refused", "exact", "", 0.001, 9, 9, "unchanged", "it needs opset 13")
    text = to_markdown(Report("t", stages=(Stage("optimize", passes=(IDLE, busy, refused, IDLE)),)))
    assert "| busy |" in text
    assert "| refused |" in text
    assert "| idle |" not in text
    assert "2 passes left the graph as it was." in text


def test_where_no_pass_did_anything_there_is_no_table() -> None:
    text = to_markdown(Report("t", stages=(Stage("optimize", passes=(IDLE,)),)))
    assert "| Pass |" not in text
    assert "1 passes left" not in text
    assert "1 pass left the graph as it was." in text
