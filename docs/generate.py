"""Write the pages of docs/reference from what the program itself knows.

``python docs/generate.py`` writes them; with ``--check`` it changes nothing and fails where a page
is out of date.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from onnxsmith.cli.main import COMMANDS, cli
from onnxsmith.passes.base import Pass
from onnxsmith.passes.table import PASSES, PRESETS
from onnxsmith.pipeline.data.query import COMMON, Options
from onnxsmith.pipeline.data.table import SOURCES
from onnxsmith.pipeline.evaluation.table import DEFAULTS, METRICS
from onnxsmith.pipeline.frontends.layers.description import AnyLayer, Network
from onnxsmith.pipeline.frontends.layers.kinds.base import Layer
from onnxsmith.pipeline.recipe import Recipe
from onnxsmith.target import TARGETS

FOLDER = Path(__file__).resolve().parent / "reference"
HEAD = "<!-- Written by docs/generate.py: run `make docs` instead of editing. -->\n\n"


def pages() -> dict[str, str]:
    """Return each page's file name and text."""
    return {
        "cli.md": _cli(),
        "data.md": _data(),
        "metrics.md": _metrics(),
        "network.md": _network(),
        "passes.md": _passes(),
        "recipe.md": _recipe(),
        "targets.md": _targets(),
    }


def _cli() -> str:
    parts = [
        "# Commands",
        "Exit codes are the same everywhere: see [errors and exit codes](../errors.md).",
        _table(
            ("command", "what"), ((f"[`{n}`](#{n})", text) for n, (_, text) in COMMANDS.items())
        ),
    ]
    root = click.Context(cli, info_name="onnxsmith")
    for name in COMMANDS:
        command = cli.get_command(root, name)
        assert command is not None  # the name comes from its own table
        parts += _command(command, click.Context(command, info_name=name, parent=root), 2)
    return _page(parts)


def _command(command: click.Command, context: click.Context, depth: int) -> list[str]:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    title = context.command_path.removeprefix("onnxsmith ")
    parts = [f"{'#' * depth} {title}", f"    {usage}", inspect.cleandoc(command.help or "")]
    options = [p for p in command.get_params(context) if isinstance(p, click.Option)]
    rows = [_option(o, context) for o in options if "--help" not in o.opts]
    if rows:
        parts.append(_table(("option", "default", "what"), rows))
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None  # the group lists it itself
            made = click.Context(inner, info_name=name, parent=context)
            parts += _command(inner, made, depth + 1)
    return parts


def _option(option: click.Option, context: click.Context) -> tuple[str, str, str]:
    """Return the spelling, the default and the help of an option."""
    spelling = ", ".join(option.opts) + "".join(f" / {other}" for other in option.secondary_opts)
    if not option.is_flag:
        spelling += f" {option.make_metavar(context)}"
    default = option.get_default(context) if option.show_default else None
    if option.secondary_opts and default is not None:
        default = (option.opts if default else option.secondary_opts)[0]
    what = option.help or ""
    if option.required:
        what = f"{what} Required.".strip()
    if isinstance(option.show_default, str):  # in words, where the value depends on the machine
        return f"`{spelling}`", option.show_default, what
    return f"`{spelling}`", "" if default is None else f"`{default}`", what


def _passes() -> str:
    parts = [
        "# Passes",
        "A pass is written `name` or `name:option=value:option=value`, a pipeline is passes with "
        "commas between. *Exact* passes must meet the element type's tolerance, *approximate* and "
        "*lossy* ones a budget, or their difference is reported.",
        "## Presets",
        "A preset is a pipeline with a name; each target has one.",
        *_presets(),
    ]
    for name in PASSES.rows:
        found: type[Pass] = PASSES[name]
        facts = f"*{found.effect}*" + "".join(f", needs {need}" for need in found.needs)
        parts += [f"## {name}", facts, _prose(found)]
        rows = _fields(found)
        if rows:
            parts.append(_table(("option", "type", "default"), rows))
    return _page(parts)


def _presets() -> list[str]:
    """Return each pipeline under the names of the presets that it belongs to."""
    names: dict[str, list[str]] = {}
    for name, text in PRESETS.items():
        names.setdefault(text, []).append(f"`{name}`")
    return [f"{', '.join(found)}:\n\n    {_wrapped(text)}" for text, found in names.items()]


def _wrapped(pipeline: str) -> str:
    """Break a pipeline after commas, indented as code."""
    text = textwrap.fill(pipeline.replace(",", ", "), 90, break_on_hyphens=False)
    return textwrap.indent(text, "    ").lstrip().replace(", ", ",")


def _fields(made: type[Any]) -> list[tuple[str, str, str]]:
    hints = typing.get_type_hints(made)
    return [
        (f"`{f.name.replace('_', '-')}`", _type(hints[f.name]), f"`{_plain(f.default)}`")
        for f in dataclasses.fields(made)
        if f.init
    ]


def _type(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return ", ".join(f"`{value}`" for value in typing.get_args(hint))
    names = {int: "integer", float: "number", bool: "`true`, `false`", str: "text"}
    return names.get(hint, f"`{hint}`")


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _metrics() -> str:
    rows = []
    for name in METRICS.rows:
        metric = METRICS[name]
        options = ", ".join(f"{option} ({default})" for option, _, default in _fields(metric))
        better = "higher" if metric.higher_is_better else "lower"
        what = f"{_summary(inspect.getmodule(metric))} {_summary(metric)}"
        rows.append((f"`{name}`", metric.task, better, options, what))
    defaults = "; ".join(f"{task}: {', '.join(names)}" for task, names in DEFAULTS.items())
    return _page(
        [
            "# Metrics",
            "A metric is written `name` or `name:option=value`, as in `top-k:k=3`. "
            f"Where none is named, the task decides: {defaults}.",
            _table(("metric", "task", "better", "options", "what"), rows),
        ]
    )


def _data() -> str:
    about = _attributes(Options)
    keys = ((f"`{key}`", about[key]) for key in _ordered(COMMON, list(about)))
    kinds = []
    for name in SOURCES.rows:
        reader = SOURCES[name]
        own = ", ".join(f"`{key}`" for key in sorted(reader.keys - COMMON))
        without = ", ".join(f"`{key}`" for key in sorted(COMMON - reader.keys))
        kinds.append((f"`{name}`", _summary(reader), own, without))
    return _page(
        [
            "# Data sources",
            "A data source is written `KIND:LOCATION?KEY=VALUE&KEY=VALUE`, or "
            "`package.module:callable` for one's own; see [data sources](../data.md).",
            "## Keys",
            _table(("key", "what"), keys),
            "## Kinds",
            _table(("kind", "what it gives", "more keys", "keys that do not apply"), kinds),
        ]
    )


def _ordered(names: Iterable[str], order: Sequence[str]) -> list[str]:
    return sorted(names, key=order.index)


def _targets() -> str:
    rows = (
        (
            f"`{t.name}`",
            ", ".join(p.removesuffix("ExecutionProvider") for p in t.providers),
            str(t.max_opset),
            str(t.max_ir_version),
            ", ".join(t.precisions),
            f"`{t.preset}`",
        )
        for t in TARGETS.values()
    )
    head = ("target", "providers", "opset", "IR version", "precisions", "preset")
    return _page(
        ["# Targets", "`--target NAME` stands for a row of this table.", _table(head, rows)]
    )


def _recipe() -> str:
    schema = Recipe.model_json_schema()
    parts = [
        "# Recipe fields",
        "`onnxsmith schema` prints the JSON schema of recipes for editors.",
        "## Top level",
        _schema_table(schema),
    ]
    for name, part in schema["$defs"].items():
        field = next(key for key, value in schema["properties"].items() if name in str(value))
        parts += [f"## {field}", part.get("description", ""), _schema_table(part)]
    return _page(parts)


def _network() -> str:
    schema = Network.model_json_schema()
    parts = [
        "# Network fields",
        "`onnxsmith schema network` prints the JSON schema of networks for editors. Every layer "
        "has a `type`, and may have a `name` and `inputs`; the rest depends on the type.",
        "## Top level",
        _schema_table(schema),
        "## Every layer",
        _schema_table(_layer_schema(Layer)),
    ]
    shared = set(Layer.model_fields)
    for part in typing.get_args(typing.get_args(AnyLayer)[0]):
        fields = {k: v for k, v in _layer_schema(part)["properties"].items() if k not in shared}
        kind = fields.pop("type")["const"]
        found = {"properties": fields, "required": _layer_schema(part)["required"]}
        parts += [f"## {kind}", _markdown(inspect.cleandoc(part.__doc__ or ""))]
        parts += [_schema_table(found)] if fields else []
    return _page(parts)


def _layer_schema(layer: type[Layer]) -> dict[str, Any]:
    return layer.model_json_schema()


def _schema_table(schema: dict[str, Any]) -> str:
    required = schema.get("required", [])
    rows = [
        (
            f"`{name}`",
            _schema_type(value),
            "*required*" if name in required else _schema_default(value),
            value.get("description", ""),
        )
        for name, value in schema["properties"].items()
    ]
    return _table(("field", "type", "default", "what"), rows)


def _schema_type(value: dict[str, Any]) -> str:
    if "anyOf" in value:
        inner = [_schema_type(v) for v in value["anyOf"] if v.get("type") != "null"]
        return " or ".join(inner)
    if "$ref" in value:
        return "fields below"
    if "enum" in value:
        return ", ".join(f"`{v}`" for v in value["enum"])
    if "const" in value:
        return f"`{value['const']}`"
    if "oneOf" in value:
        return "one of the types below"
    if value["type"] == "array":
        return f"list of {_schema_type(value['items'])}"
    if value["type"] == "object":
        return f"names to {_schema_type(value['additionalProperties'])}"
    names = {"string": "text", "boolean": "`true`, `false`"}
    return names.get(value["type"], str(value["type"]))


def _schema_default(value: dict[str, Any]) -> str:
    default = value.get("default")
    if default is None or default in ([], {}):
        return ""
    return "its defaults" if isinstance(default, dict) else f"`{_plain(default)}`"


def _summary(made: object) -> str:
    return _markdown((inspect.getdoc(made) or "").partition("\n")[0])


def _prose(made: type[Any]) -> str:
    """Return a docstring as Markdown, without its section on attributes."""
    return _markdown((inspect.getdoc(made) or "").partition("\nAttributes:")[0].strip())


def _attributes(made: type[Any]) -> dict[str, str]:
    """Return what a docstring says of each attribute."""
    text = (inspect.getdoc(made) or "").partition("\nAttributes:\n")[2]
    found = re.findall(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", text, re.MULTILINE)
    return {name: _markdown(" ".join(what.split())) for name, what in found}


def _markdown(text: str) -> str:
    return text.replace("``", "`")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _page(parts: Iterable[str]) -> str:
    return HEAD + "\n\n".join(part for part in parts if part) + "\n"


def outdated() -> list[str]:
    """Return the pages that differ from what would be written, and those nobody writes."""
    made = pages()
    there = {path.name: path.read_text() for path in FOLDER.glob("*.md")}
    return sorted(name for name in made.keys() | there if made.get(name) != there.get(name))


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; fail where a page is out of date.")
def main(check: bool) -> None:
    """Write the pages of docs/reference."""
    wrong = outdated()
    if check:
        if wrong:
            raise click.ClickException(f"out of date: {', '.join(wrong)}; run 'make docs'")
        return
    made = pages()
    for name in wrong:
        if name in made:
            FOLDER.mkdir(exist_ok=True)
            (FOLDER / name).write_text(made[name])
        else:
            (FOLDER / name).unlink()
        click.echo(f"wrote {name}" if name in made else f"removed {name}")


if __name__ == "__main__":
    main()
