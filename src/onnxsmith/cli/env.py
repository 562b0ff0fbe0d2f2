"""``onnxsmith env``: environments of their own for frameworks that collide with ours."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from onnxsmith.cli.options import env_dir_option, json_option
from onnxsmith.cli.output import print_json, print_line, print_table

if TYPE_CHECKING:
    from onnxsmith.pipeline.environments.environment import Environment


@click.group(name="env")
def command() -> None:
    """Make, list and remove environments for frameworks that cannot be installed here.

    'onnxsmith convert' uses one where the framework's packages are missing beside onnxsmith.
    """


@command.command(name="create")
@click.argument("name")
@env_dir_option
@click.option(
    "--lock",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A list of packages of your own, in place of the one that onnxsmith ships.",
)
@click.option(
    "--python",
    default=sys.executable,
    show_default="the one that runs onnxsmith",
    metavar="PYTHON",
    help="The interpreter to make it with.",
)
@click.option(
    "--installer",
    type=click.Choice(["uv", "pip"]),
    help="What installs the packages. Default: uv where it is on the path, else pip.",
)
def create(
    name: str,
    environments: Path | None,
    lock: Path | None,
    python: str,
    installer: Literal["uv", "pip"] | None,
) -> None:
    """Make the environment NAME, or make it anew: 'onnxsmith env list' shows the names.

    The packages and their exact versions come from a list that onnxsmith ships. An environment is
    there completely or not at all.
    """
    from onnxsmith.pipeline.environments.create import create_environment
    from onnxsmith.pipeline.frontends.interpreters import served_by

    made = create_environment(
        name,
        root=environments,
        lock=lock,
        python=python,
        installer=installer,
        report=print_line,
    )
    served = ", ".join(served_by(name)) or "no frontend"
    print_line(f"made {name} in {made.folder}: {_size(made.size())}, used by {served}", "bold")


@command.command(name="list")
@env_dir_option
@json_option
def list_environments(environments: Path | None, as_json: bool) -> None:
    """List the environments that there are, and those that can be made."""
    rows = environment_rows(environments)
    if as_json:
        print_json(rows)
        return
    columns = ("name", "frontends", "state", "size", "Python")
    print_table(
        "environments",
        columns,
        [
            (
                row["name"],
                ", ".join(row["frontends"]),
                _STATES[row["state"]],
                _size(row["bytes"]) if row["bytes"] else "",
                row["python"],
            )
            for row in rows
        ],
    )
    for row in rows:
        if row["fix"]:
            print_line(f"{row['name']}: {row['reason']}: {row['fix']}")


@command.command(name="remove")
@click.argument("name")
@env_dir_option
def remove(name: str, environments: Path | None) -> None:
    """Remove the environment NAME."""
    from onnxsmith.pipeline.environments.create import remove_environment

    remove_environment(name, root=environments)
    print_line(f"removed {name}")


_STATES = {
    "ready": "ready",
    "outdated": "outdated",
    "making": "being made",
    "broken": "broken",
    "missing": "not made",
}


def environment_rows(root: Path | None) -> list[dict[str, Any]]:
    """Return the facts of each environment as JSON values."""
    from onnxsmith.pipeline.environments.environment import look_at_all
    from onnxsmith.pipeline.environments.locks import find_lock
    from onnxsmith.pipeline.environments.places import lock_names
    from onnxsmith.pipeline.frontends.interpreters import served_by

    return [
        {
            "name": found.name,
            "purpose": find_lock(found.name).purpose if found.name in lock_names() else "",
            "frontends": list(served_by(found.name)),
            "state": found.state,
            "reason": found.reason,
            "python": found.python,
            "created": found.created,
            "folder": str(found.folder),
            "bytes": found.size() if found.state != "missing" else 0,
            "fix": _fix(found, known=found.name in lock_names()),
        }
        for found in look_at_all(root)
    ]


def _fix(found: Environment, *, known: bool) -> str:
    if found.state in ("ready", "making"):
        return ""
    return f"onnxsmith env {'create' if known else 'remove'} {found.name}"


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
