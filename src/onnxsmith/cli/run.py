"""``onnxsmith run``: run a recipe from source to report."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from onnxsmith.cli.options import json_option

if TYPE_CHECKING:
    from onnxsmith.pipeline.recipe import Recipe


@click.command("run")
@click.argument("recipe_path", type=click.Path(path_type=Path), metavar="RECIPE.yaml")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The run's folder. Default: runs/RECIPE-NUMBER.",
)
@click.option("--resume", is_flag=True, help="Go on in a folder that holds an unfinished run.")
@click.option("--trust", is_flag=True, help="Load sources that run code when they are loaded.")
@json_option
def command(recipe_path: Path, out: Path | None, resume: bool, trust: bool, as_json: bool) -> None:
    """Run RECIPE.yaml: convert, train, optimize, quantize, evaluate, measure, report.

    Paths and callables in the recipe are found from the recipe's folder.
    """
    from onnxsmith.errors import UsageError
    from onnxsmith.pipeline.recipe import load_recipe

    if resume and out is None:
        raise UsageError("--resume needs the folder to go on in", "give --out DIR")
    recipe = load_recipe(recipe_path)
    folder = (out or _next_folder(recipe_path.stem)).absolute()
    os.chdir(recipe_path.absolute().parent)
    execute(recipe, folder, resume=resume, trust=trust, as_json=as_json)


def execute(recipe: Recipe, out: Path, *, resume: bool, as_json: bool, trust: bool = False) -> None:
    """Run ``recipe`` into ``out`` and say where the report is."""
    from onnxsmith.cli.output import print_json, print_line
    from onnxsmith.pipeline.run import run_recipe

    def progress(stage: str, status: str, seconds: float) -> None:
        if not as_json:
            print_line(f"  {stage:<10} {status:<7} {seconds:6.1f} s")

    result = run_recipe(recipe, out, resume=resume, trust=trust, progress=progress)
    if as_json:
        print_json(result.report.to_json())
        return
    for warning in (w for stage in result.report.stages for w in stage.warnings):
        print_line(f"  note: {warning}", "yellow")
    print_line(f"model:  {_short(result.model)}")
    print_line(f"report: {_short(result.html)}", "bold")


def _next_folder(name: str) -> Path:
    """Return the first of runs/NAME-1, runs/NAME-2, ... that is not there."""
    number = 1
    while (folder := Path("runs") / f"{name}-{number}").exists():
        number += 1
    return folder


def _short(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
