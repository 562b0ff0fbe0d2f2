"""``onnxsmith schema``: the JSON schema of recipes and of networks."""

from __future__ import annotations

import click


@click.command("schema")
@click.argument("what", type=click.Choice(["recipe", "network"]), default="recipe")
def command(what: str) -> None:
    """Print the JSON schema of recipes, or of networks in YAML, for editors and checks."""
    from onnxsmith.cli.output import print_json

    if what == "network":
        from onnxsmith.pipeline.frontends.layers.description import Network

        print_json(Network.model_json_schema())
        return
    from onnxsmith.pipeline.recipe import Recipe

    print_json(Recipe.model_json_schema())
