"""``onnxsmith convert --batch FILE``: convert a list of models."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onnxsmith.cli.options import env_dir_option, json_option
from onnxsmith.cli.output import print_json, print_line, print_output, print_table, print_warning
from onnxsmith.errors import UsageError

if TYPE_CHECKING:
    from onnxsmith.pipeline.frontends.batch import BatchOutcome

_FLAG = "--batch"
_CONTEXT = "onnxsmith.batch"


class ConvertCommand(click.Command):
    """A conversion, or a list of them where ``--batch`` is given."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the command's options and, for its help, those of lists."""
        return [*super().get_params(ctx), *_options(alone=True)]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Hand the arguments to the command for lists where they ask for it."""
        asked = any(arg == _FLAG or arg.startswith(f"{_FLAG}=") for arg in args)
        if asked and not {"-h", "--help"} & set(args):
            _check_options(args)
            ctx.meta[_CONTEXT] = batch_command.make_context(ctx.info_name, args, parent=ctx.parent)
            return []
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the conversion, or the list of them."""
        context = ctx.meta.get(_CONTEXT)
        if context is None:
            return super().invoke(ctx)
        with context:
            return batch_command.invoke(context)


def _options(*, alone: bool) -> list[click.Parameter]:
    """Return the options of lists; on a command where they stand for nothing, they say so."""
    callback = _refuse if alone else None
    return [
        click.Option(
            [_FLAG, "file"],
            type=click.Path(path_type=Path),
            metavar="FILE",
            required=not alone,
            expose_value=not alone,
            help="Instead of SOURCE and -o: a YAML list of conversions.",
        ),
        click.Option(
            ["--out"],
            type=click.Path(file_okay=False, path_type=Path),
            metavar="DIR",
            callback=callback,
            expose_value=not alone,
            help="With --batch: where outputs go. Default: the file's folder.",
        ),
        click.Option(
            ["--jobs"],
            type=click.IntRange(min=1),
            metavar="N",
            callback=callback,
            expose_value=not alone,
            help="With --batch: how many at a time. Default: half the processors, 4 at most.",
        ),
    ]


def _refuse(context: click.Context, parameter: click.Parameter, value: object) -> None:
    if value is not None:
        raise UsageError(f"{parameter.opts[0]} is for a list of models", f"give {_FLAG} FILE too")


def _check_options(args: Sequence[str]) -> None:
    known = {option for parameter in batch_command.params for option in parameter.opts}
    for arg in args:
        option = arg.partition("=")[0]
        if option.startswith("-") and option not in known:
            raise UsageError(
                f"{option} does not go with {_FLAG}", "write it into the entries of the batch file"
            )


@click.command("convert", params=_options(alone=False))
@env_dir_option
@json_option
def batch_command(
    file: Path, out: Path | None, jobs: int | None, environments: Path | None, as_json: bool
) -> int:
    """Convert what FILE lists; exits with 0 only if all of it was written."""
    from onnxsmith.pipeline.frontends.batch import convert_batch

    outcomes = convert_batch(
        file,
        out=out,
        jobs=jobs or min(4, max(1, (os.cpu_count() or 1) // 2)),
        environments=environments,
        report=(lambda outcome: None) if as_json else _tell,
    )
    if as_json:
        print_json([outcome.to_json() for outcome in outcomes])
    else:
        _show(outcomes)
    return _exit_code(outcomes)


def _exit_code(outcomes: Sequence[BatchOutcome]) -> int:
    from onnxsmith.cli.main import DONE, FAILED, REFUSED

    bad = {outcome.status for outcome in outcomes} - {"written"}
    if not bad:
        return DONE
    return REFUSED if bad == {"refused"} else FAILED


def _tell(outcome: BatchOutcome) -> None:
    print_output(outcome.log)
    print_line(f"{outcome.source}: {outcome.status} ({outcome.seconds:.1f} s)")
    for warning in outcome.warnings:
        print_warning(f"{outcome.source}: {warning}")


def _show(outcomes: Sequence[BatchOutcome]) -> None:
    print_table(
        "batch",
        ("source", "frontend", "nodes", "parity", "seconds", "status"),
        [
            (
                outcome.source,
                outcome.frontend,
                "" if outcome.nodes is None else outcome.nodes,
                "" if outcome.parity is None else f"{outcome.parity:.1e}",
                f"{outcome.seconds:.1f}",
                outcome.status,
            )
            for outcome in outcomes
        ],
    )
    for outcome in outcomes:
        if outcome.reason:
            print_line(f"{outcome.source}: {outcome.reason}", "bold red")
            print_line(f"    {outcome.hint}")
    written = sum(outcome.status == "written" for outcome in outcomes)
    print_line(f"{written} of {len(outcomes)} written", "bold")
