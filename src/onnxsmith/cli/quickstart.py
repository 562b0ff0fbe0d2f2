"""``onnxsmith quickstart``: the whole story once, on built-in data."""

from __future__ import annotations

from pathlib import Path

import click

from onnxsmith.cli.options import json_option


@click.command("quickstart")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("quickstart"),
    show_default=True,
    metavar="DIR",
    help="Where model and report go; an earlier quickstart there is taken up.",
)
@json_option
def command(out: Path, as_json: bool) -> None:
    """Train, check, optimize, quantize, evaluate and measure a classifier of handwritten digits.

    Ends with report.html. Needs no network and no GPU.
    """
    from onnxsmith.cli.run import execute
    from onnxsmith.pipeline.quickstart import quickstart_recipe

    execute(quickstart_recipe(), out.absolute(), resume=True, as_json=as_json)
