"""``onnxsmith passes``: list passes and presets, or explain one."""

from __future__ import annotations

import click

from onnxsmith.cli.options import json_option


@click.group("passes")
def command() -> None:
    """List passes and presets, or explain one."""


@command.command("list")
@json_option
def list_passes(as_json: bool) -> None:
    """List all passes and presets."""
    from onnxsmith.cli.output import print_json, print_line, print_table, print_warning
    from onnxsmith.errors import SmithError
    from onnxsmith.passes.table import PASSES, PRESETS

    found = []
    for name in PASSES:
        try:
            found.append((name, PASSES[name]))
        except SmithError as error:  # one broken plugin should not hide all other passes
            print_warning(f"{error.message}; {error.hint}")
    if as_json:
        rows = {name: {"effect": p.effect, "summary": p.summary()} for name, p in found}
        print_json({"passes": rows, "presets": PRESETS})
        return
    print_table(
        "Passes", ("name", "effect", "what"), [(n, p.effect, p.summary()) for n, p in found]
    )
    print_line("\nPresets", "bold")
    for name, text in PRESETS.items():
        print_line(f"  {name}: {text}")


@command.command("show")
@click.argument("name")
def show(name: str) -> None:
    """Explain the pass NAME: its equation, its refusals and its options."""
    import dataclasses
    import inspect

    from onnxsmith.cli.output import print_line
    from onnxsmith.passes.table import PASSES

    found = PASSES.find(name)
    print_line(f"{name} ({found.effect})", "bold")
    print_line(inspect.getdoc(found) or "")
    options = dataclasses.fields(found)
    print_line("\nOptions" if options else "\nNo options", "bold")
    for option in options:
        print_line(f"  {option.name.replace('_', '-')}={option.default}  ({option.type})")
