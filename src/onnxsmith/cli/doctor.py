"""``onnxsmith doctor``: say what is installed and what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onnxsmith.cli.options import env_dir_option, json_option

if TYPE_CHECKING:
    from onnxsmith.runtime.doctor import Diagnosis


@click.command("doctor")
@env_dir_option
@json_option
def command(environments: Path | None, as_json: bool) -> int:
    """Say what is installed, which execution providers really load, and what to install.

    Environments that 'onnxsmith env create' made are looked at too.

    Exits with 1 if the base does not work; a missing extra or GPU is no error.
    """
    from onnxsmith.cli.output import print_json
    from onnxsmith.runtime.doctor import diagnose

    found = diagnose()
    rows = _environments(environments) if found.healthy else []
    if as_json:
        print_json({**found.to_json(), "environments": rows})
    else:
        _show(found, rows)
    return 0 if found.healthy else 1


def _environments(root: Path | None) -> list[dict[str, Any]]:
    """Return the environments that were made; those that could be are no news."""
    # Imported only now: a broken base may not be able to.
    from onnxsmith.cli.env import environment_rows

    return [row for row in environment_rows(root) if row["state"] != "missing"]


def _show(found: Diagnosis, environments: Sequence[Mapping[str, Any]]) -> None:
    from onnxsmith.cli.output import print_line, print_table

    print_line(f"onnxsmith {found.version}, Python {found.python}, {found.system}")
    rows = [
        (p.name, p.installed or "-", p.required, p.extra or "base", p.problem)
        for p in found.packages
    ]
    print_table("Packages", ("package", "installed", "needed", "for", "problem"), rows)
    providers = [(p.name, "yes" if p.loads else "no", p.reason) for p in found.providers]
    print_table("Execution providers", ("provider", "loads", "why not"), providers)
    if environments:
        columns = ("environment", "state", "used by", "Python", "problem")
        made = [
            (r["name"], r["state"], ", ".join(r["frontends"]), r["python"], r["reason"])
            for r in environments
        ]
        print_table("Environments", columns, made)
    for finding in found.findings:
        print_line(finding.what, "bold red" if finding.serious else "")
        if finding.fix:
            print_line(f"    {finding.fix}", "cyan")
    for row in environments:
        if row["fix"]:
            print_line(f"the environment {row['name']} is {row['state']}: {row['reason']}")
            print_line(f"    {row['fix']}", "cyan")
    verdict = "The base works." if found.healthy else "The base does not work."
    print_line(verdict, "bold green" if found.healthy else "bold red")
