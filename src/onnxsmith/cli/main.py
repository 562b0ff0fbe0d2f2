"""The ``onnxsmith`` program: commands are imported when they run."""

from __future__ import annotations

import difflib
import importlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

import click

from onnxsmith.cli.deferred import defer_imports
from onnxsmith.errors import RefusedError, SmithError, UsageError

# Exit codes; README lists them for users.
DONE, FAILED, USAGE, ROLLED_BACK, REFUSED, INTERRUPTED = 0, 1, 2, 3, 4, 130

# Libraries whose log would otherwise print tracebacks of what they could not do, and went on.
_CHATTY = ("onnx_ir", "onnxscript")
_SILENCE = logging.NullHandler()

COMMANDS: dict[str, tuple[str, str]] = {
    "quickstart": ("onnxsmith.cli.quickstart:command", "Run the whole story on built-in data."),
    "run": ("onnxsmith.cli.run:command", "Run a recipe from source to report."),
    "convert": ("onnxsmith.cli.convert:command", "Make an ONNX model from any framework's."),
    "optimize": ("onnxsmith.cli.optimize:command", "Rewrite a model with checked passes."),
    "quantize": ("onnxsmith.cli.quantize:command", "Make a model smaller and faster in int8."),
    "train": ("onnxsmith.cli.train:command", "Train or fine-tune a model on the plain runtime."),
    "infer": ("onnxsmith.cli.infer:command", "Run a model on inputs from a file."),
    "evaluate": ("onnxsmith.cli.evaluate:command", "Score one or two models on labelled data."),
    "bench": ("onnxsmith.cli.bench:command", "Measure models against each other."),
    "compare": (
        "onnxsmith.cli.compare:command",
        "Say how far one model is from another, and where.",
    ),
    "inspect": ("onnxsmith.cli.inspect:command", "Say what is in a model and what it costs."),
    "passes": ("onnxsmith.cli.passes:command", "List passes and presets, or explain one."),
    "frontends": ("onnxsmith.cli.frontends:command", "List the frameworks that come in."),
    "env": ("onnxsmith.cli.env:command", "Make environments for frameworks that collide."),
    "doctor": ("onnxsmith.cli.doctor:command", "Say what is installed and what is missing."),
    "schema": ("onnxsmith.cli.schema:command", "Print the JSON schema of recipes and networks."),
}


class LazyGroup(click.Group):
    """A group whose help needs no command's module."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of a user's day."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve a command, or name the closest one."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean {close[0]!r}?" if close else "see 'onnxsmith --help'"
            raise UsageError(f"unknown command {args[0]!r}", hint)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="onnxsmith")
def cli() -> None:
    """Convert, check, rewrite, quantize, measure and ship ONNX models."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program and exit with its code."""
    signal.signal(signal.SIGINT, _interrupt)
    try:
        defer_imports()
        code = run(arguments)
    except KeyboardInterrupt:  # between two commands' own handling
        sys.stderr.write("error: interrupted\n")
        code = INTERRUPTED
    sys.exit(code)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, but leave at once while a module is being imported.

    C++ extensions turn the exception into an ImportError or crash, and nothing is being written
    then: commands import what they need before they start.
    """
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os.write(2, b"error: interrupted\n")
            os._exit(INTERRUPTED)
        frame = frame.f_back
    raise KeyboardInterrupt


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code; the one place where errors become codes."""
    from onnxsmith.cli.output import print_error, print_output

    for name in _CHATTY:
        # What matters of it comes back as an error or a warning of ours.
        logging.getLogger(name).addHandler(_SILENCE)
    try:
        code = cli.main(args=arguments, prog_name="onnxsmith", standalone_mode=False)
        return code if isinstance(code, int) else DONE
    except click.exceptions.Abort:
        print_error("interrupted", "")
        return INTERRUPTED
    except KeyboardInterrupt:
        print_error("interrupted", "")
        return INTERRUPTED
    except click.ClickException as error:
        command = (
            error.ctx.command_path
            if isinstance(error, click.UsageError) and error.ctx
            else "onnxsmith"
        )
        print_error(error.format_message(), f"see '{command} --help'")
        return USAGE
    except SmithError as error:
        print_output(error.output)
        print_error(error.message, error.hint)
        if isinstance(error, UsageError):
            return USAGE
        return REFUSED if isinstance(error, RefusedError) else FAILED
    except BrokenPipeError:
        # The reader of our output is gone; a second failure at interpreter exit is avoided.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except MemoryError:
        print_error("out of memory", "use a machine with more memory, or a smaller batch")
        return FAILED
