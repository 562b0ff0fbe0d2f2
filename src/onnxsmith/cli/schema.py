"""``onnxsmith schema``: the JSON schema of recipes."""

from __future__ import annotations

import click


@click.command("schema")
def command() -> None:
    """Print the JSON schema of recipes, for editors and checks."""
    from onnxsmith.cli.output import print_json
    from onnxsmith.pipeline.recipe import Recipe

    print_json(Recipe.model_json_schema())
