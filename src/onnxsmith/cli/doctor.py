"""``onnxsmith doctor``: what is installed and what is missing."""

from __future__ import annotations

import click

from onnxsmith.cli.options import json_option


@click.command("doctor")
@json_option
def command(as_json: bool) -> int:
    """Say what is installed, which providers really load, and how to add the missing.

    Exits with 1 if something is missing that the tool cannot work without.
    """
    from onnxsmith.cli.main import DONE, FAILED
    from onnxsmith.cli.output import print_json, print_line, print_table
    from onnxsmith.pipeline.doctor import examine

    diagnosis = examine()
    code = DONE if diagnosis.healthy else FAILED
    if as_json:
        print_json(diagnosis.to_json())
        return code
    rows = [(f.area, f.name, f.status, f.found) for f in diagnosis.findings]
    print_table("", ("area", "name", "status", "found"), rows)
    for finding in diagnosis.findings:
        if finding.status != "ok":
            print_line(f"{finding.name}: {finding.mend}")
    environment = diagnosis.environment
    print_line(f"{environment['cpu']}, {environment['cores']} cores, {environment['system']}")
    print_line("healthy" if diagnosis.healthy else "not healthy", "bold")
    return code
