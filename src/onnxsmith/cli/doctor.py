"""``onnxsmith doctor``: say what is installed and what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from onnxsmith.cli.options import json_option

if TYPE_CHECKING:
    from onnxsmith.runtime.doctor import Diagnosis


@click.command("doctor")
@json_option
def command(as_json: bool) -> int:
    """Say what is installed, which execution providers really load, and what to install.

    Exits with 1 if the base does not work; a missing extra or GPU is no error.
    """
    from onnxsmith.cli.output import print_json
    from onnxsmith.runtime.doctor import diagnose

    found = diagnose()
    if as_json:
        print_json(found.to_json())
    else:
        _show(found)
    return 0 if found.healthy else 1


def _show(found: Diagnosis) -> None:
    from onnxsmith.cli.output import print_line, print_table

    print_line(f"onnxsmith {found.version}, Python {found.python}, {found.system}")
    rows = [
        (p.name, p.installed or "-", p.required, p.extra or "base", p.problem)
        for p in found.packages
    ]
    print_table("Packages", ("package", "installed", "needed", "for", "problem"), rows)
    providers = [(p.name, "yes" if p.loads else "no", p.reason) for p in found.providers]
    print_table("Execution providers", ("provider", "loads", "why not"), providers)
    for finding in found.findings:
        print_line(finding.what, "bold red" if finding.serious else "")
        if finding.fix:
            print_line(f"    {finding.fix}", "cyan")
    verdict = "The base works." if found.healthy else "The base does not work."
    print_line(verdict, "bold green" if found.healthy else "bold red")
