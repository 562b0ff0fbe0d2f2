"""``onnxsmith frontends``: the frameworks that come in."""

from __future__ import annotations

import click

from onnxsmith.cli.options import json_option
from onnxsmith.cli.output import print_json, print_table


@click.group(name="frontends")
def command() -> None:
    """List the frameworks that come in."""


@command.command(name="list")
@json_option
def list_frontends(as_json: bool) -> None:
    """List what each frontend accepts, and whether it is installed; imports no framework."""
    from onnxsmith.pipeline.frontends.table import FRONTENDS, install_command, missing_packages

    rows = []
    for name in FRONTENDS:
        frontend = FRONTENDS[name]()
        missing = missing_packages(frontend)
        rows.append(
            {
                "name": name,
                "accepts": frontend.accepts,
                "installed": not missing,
                "install": install_command(frontend) if missing else "",
            }
        )
    if as_json:
        print_json(rows)
        return
    print_table(
        "frontends",
        ("name", "accepts", "installed"),
        [(r["name"], r["accepts"], r["install"] or "yes") for r in rows],
    )
