"""``onnxsmith frontends``: the frameworks that come in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onnxsmith.cli.options import env_dir_option, json_option
from onnxsmith.cli.output import print_json, print_table

if TYPE_CHECKING:
    from onnxsmith.pipeline.frontends.base import Frontend


@click.group(name="frontends")
def command() -> None:
    """List the frameworks that come in."""


@command.command(name="list")
@env_dir_option
@json_option
def list_frontends(environments: Path | None, as_json: bool) -> None:
    """List what each frontend accepts, and whether it is installed; imports no framework."""
    from onnxsmith.pipeline.frontends.table import FRONTENDS, find_frontend

    rows = [_row(find_frontend(name), environments) for name in FRONTENDS]
    if as_json:
        print_json(rows)
        return
    print_table(
        "frontends",
        ("name", "accepts", "installed"),
        [(r["name"], r["accepts"], _installed(r)) for r in rows],
    )


def _row(frontend: Frontend, environments: Path | None) -> dict[str, Any]:
    from onnxsmith.pipeline.environments.environment import look
    from onnxsmith.pipeline.frontends.table import install_command, missing_packages

    missing = missing_packages(frontend)
    environment = ""
    if missing and frontend.environment:
        found = look(frontend.environment, environments)
        environment = found.name if found.usable else ""
    ready = not missing or bool(environment)
    return {
        "name": frontend.name,
        "accepts": frontend.accepts,
        "installed": ready,
        "environment": environment,
        "install": "" if ready else install_command(frontend),
    }


def _installed(row: dict[str, Any]) -> str:
    if row["environment"]:
        return f"in environment {row['environment']}"
    return row["install"] or "yes"
