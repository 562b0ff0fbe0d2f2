"""Write a report into a folder: the page, its Markdown and its data."""

from __future__ import annotations

import json
from pathlib import Path

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.report.html import to_html
from onnxsmith.pipeline.report.markdown import to_markdown
from onnxsmith.pipeline.report.model import Report
from onnxsmith.storage.atomic import write_text


def write(report: Report, folder: Path) -> tuple[Path, Path]:
    """Write ``report.html``, ``report.json`` and ``report.md``, each beside and then renamed.

    Args:
        report: What to write.
        folder: Where to; made if it is not there.

    Returns:
        The paths of the HTML and the JSON file.

    Raises:
        SmithError: The folder cannot be made or written to.
    """
    # Rendered first: what cannot be rendered must not leave half a set of files.
    pages = {
        "report.json": json.dumps(report.to_json(), indent=1, allow_nan=False) + "\n",
        "report.md": to_markdown(report),
        "report.html": to_html(report),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SmithError(
            f"cannot make the folder {folder}: {error.strerror or error}",
            "name a folder that you may write to",
        ) from error
    for name, text in pages.items():
        write_text(folder / name, text)
    return folder / "report.html", folder / "report.json"
