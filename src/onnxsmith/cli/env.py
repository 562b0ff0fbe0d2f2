"""``onnxsmith env``: environments of their own for frameworks that collide with ours."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

import click

from onnxsmith.cli.options import env_dir_option, json_option
from onnxsmith.cli.output import print_json, print_line, print_table


@click.group(name="env")
def command() -> None:
    """Make, list and remove environments for frameworks that cannot be installed here.

    'onnxsmith convert' uses one where the framework's packages are missing beside onnxsmith.
    """


@command.command(name="create")
@click.argument("name")
@env_dir_option
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
    name: str, environments: Path | None, python: str, installer: Literal["uv", "pip"] | None
) -> None:
    """Make the environment NAME, or make it anew: 'onnxsmith env list' shows the names.

    The packages and their exact versions come from a list that onnxsmith ships. An environment is
    there completely or not at all.
    """
    from onnxsmith.pipeline.environments.create import create_environment
    from onnxsmith.pipeline.frontends.interpreters import served_by

    made = create_environment(
        name, root=environments, python=python, installer=installer, report=print_line
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
    print_table(
        "environments",
        ("name", "frontends", "state", "size", "Python", "made", "what to do"),
        [
            (
                row["name"],
                ", ".join(row["frontends"]),
                f"{row['state']}: {row['reason']}" if row["state"] == "broken" else row["state"],
                _size(row["bytes"]) if row["bytes"] else "",
                row["python"],
                row["created"],
                row["fix"],
            )
            for row in rows
        ],
    )


@command.command(name="remove")
@click.argument("name")
@env_dir_option
def remove(name: str, environments: Path | None) -> None:
    """Remove the environment NAME."""
    from onnxsmith.pipeline.environments.create import remove_environment

    remove_environment(name, root=environments)
    print_line(f"removed {name}")


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
            "fix": "" if found.state == "ready" else _fix(found.name, known=lock_names()),
        }
        for found in look_at_all(root)
    ]


def _fix(name: str, known: tuple[str, ...]) -> str:
    return f"onnxsmith env {'create' if name in known else 'remove'} {name}"


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
