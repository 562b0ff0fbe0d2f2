"""Options that several commands share. One option means the same everywhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

Option = Callable[[Decorated], Decorated]


class RecordCommand(click.Command):
    """A command whose function takes all values as one mapping, by the parameters' names."""

    def invoke(self, ctx: click.Context) -> Any:
        """Call the function."""
        assert self.callback is not None  # the decorator gave it
        return self.callback(ctx.params)


json_option: Option[Any] = click.option(
    "--json", "as_json", is_flag=True, help="Print the result as JSON."
)
target_option: Option[Any] = click.option(
    "--target",
    "target_name",
    default="cpu",
    show_default=True,
    metavar="T",
    help="What the model is for: cpu, cuda, tensorrt, edge-cpu, edge-web, server.",
)
dim_option: Option[Any] = click.option(
    "--dim",
    "dims",
    multiple=True,
    metavar="NAME=SIZE",
    help="Size of a symbolic dimension; may be repeated.",
)
threads_option: Option[Any] = click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="Threads within an operator. Default: the runtime's choice.",
)
data_option: Option[Any] = click.option(
    "--data",
    metavar="D",
    help="digits, mnist:DIR, npz:FILE, csv:FILE?label=COL, images:DIR or package.module:callable.",
)
seed_option: Option[Any] = click.option(
    "--seed", type=int, default=0, show_default=True, metavar="N", help="Seed of all randomness."
)
env_dir_option: Option[Any] = click.option(
    "--env-dir",
    "environments",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder of the environments that 'onnxsmith env create' makes. Default: the user's own.",
)
strict_option: Option[Any] = click.option(
    "--strict", is_flag=True, help="Exit with 3 also for a change that was dropped for speed."
)


def providers_options(command: Decorated) -> Decorated:
    """Add ``--providers`` and ``--require-provider``."""
    command = click.option(
        "--require-provider", metavar="P", help="Fail unless this provider is in use."
    )(command)
    return click.option(
        "--providers",
        metavar="P,P",
        callback=_split,
        help="Execution providers in order of preference, e.g. cuda,cpu.",
    )(command)


def tolerance_options(command: Decorated) -> Decorated:
    """Add ``--rtol`` and ``--atol``."""
    command = click.option(
        "--atol",
        type=click.FloatRange(min=0),
        metavar="X",
        help="Allowed difference, as a share of the largest magnitude in an output.",
    )(command)
    return click.option(
        "--rtol",
        type=click.FloatRange(min=0),
        metavar="X",
        help="Allowed difference relative to each value.",
    )(command)


def _split(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> tuple[str, ...] | None:
    return tuple(part.strip() for part in text.split(",") if part.strip()) if text else None


_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def parse_size(text: str) -> int:
    """Read a number of bytes: ``500MB``, ``2GiB``, ``4096``.

    Raises:
        UsageError: The text is no size, or not above zero.
    """
    from onnxsmith.errors import UsageError

    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)", text.strip())
    unit = None if found is None else _UNITS.get(found[2].upper() or "B")
    size = 0 if found is None or unit is None else int(float(found[1]) * unit)
    if not 0 < size < 2**62:
        raise UsageError(f"{text!r} is not a size", "write a number and a unit, such as 500MB")
    return size
