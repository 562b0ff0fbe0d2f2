"""Options as text: ``name:option=value:option=value`` makes a dataclass of a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

from onnxsmith.errors import UsageError
from onnxsmith.plugins import Table, suggestion


def make(table: Table, text: str) -> Any:
    """Return what ``name[:option=value]...`` names; safe unquoted in a shell.

    Raises:
        UsageError: The name or an option is unknown, or a value does not fit.
    """
    name, texts = split_options(table.kind, text)
    return from_texts(table.find(name), f"the {table.kind} {name!r}", texts)


def split_options(kind: str, text: str) -> tuple[str, dict[str, str]]:
    """Return the name and the options of a ``kind`` of thing.

    Raises:
        UsageError: An option has no value, or is given twice.
    """
    name, *options = text.strip().split(":")
    texts: dict[str, str] = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals or not key:
            raise UsageError(
                f"cannot read the option {option!r} of the {kind} {name!r}", "write option=value"
            )
        if key in texts:
            raise UsageError(f"the {kind} {name!r} has the option {key!r} twice", "give it once")
        texts[key] = value
    return name, texts


def from_texts(cls: type[Any], owner: str, texts: Mapping[str, str]) -> Any:
    """Build a dataclass from texts; options are its fields in kebab-case.

    Args:
        cls: A dataclass.
        owner: What to call it in messages.
        texts: Option to value.

    Raises:
        UsageError: An option is unknown or its value does not fit.
    """
    hints = get_type_hints(cls)
    known = {f.name.replace("_", "-"): f.name for f in dataclasses.fields(cls) if f.init}
    values = {}
    for option, text in texts.items():
        if option not in known:
            raise UsageError(
                f"{owner} has no option {option!r}",
                suggestion(option, list(known)) if known else "it has no options",
            )
        values[known[option]] = _parse(owner, option, text, hints[known[option]])
    return cls(**values)


def to_text(name: str, made: object) -> str:
    """Return a dataclass as :func:`make` reads it: the options that are not the defaults."""
    words = [
        f"{f.name.replace('_', '-')}={value_text(getattr(made, f.name))}"
        for f in dataclasses.fields(made)  # type: ignore[arg-type]  # callers give dataclasses
        if f.init and getattr(made, f.name) != f.default
    ]
    return ":".join([name, *words])


def value_text(value: object) -> str:
    """Return one value as an option has it."""
    if isinstance(value, tuple):
        return "+".join(str(part) for part in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _parse(owner: str, option: str, text: str, kind: Any) -> Any:
    if get_origin(kind) is Literal:
        if text in get_args(kind):
            return text
        raise UsageError(
            f"{owner}: {option}={text!r} is not one of {', '.join(get_args(kind))}",
            f"write {option}={get_args(kind)[0]}",
        )
    name, read = _READERS[kind]
    try:
        return read(text)
    except ValueError as error:
        raise UsageError(
            f"{owner}: {option}={text!r} is not {name}", f"change the value of {option}"
        ) from error


def _truth(text: str) -> bool:
    if text.lower() in ("true", "1", "yes", "on"):
        return True
    if text.lower() in ("false", "0", "no", "off"):
        return False
    raise ValueError(text)


_READERS: dict[Any, tuple[str, Callable[[str], Any]]] = {
    bool: ("true or false", _truth),
    int: ("a whole number", int),
    int | None: ("a whole number", int),
    float: ("a number", float),
    str: ("a text", str),
    tuple[str, ...]: ("words joined by +", lambda text: tuple(filter(None, text.split("+")))),
    tuple[float, ...]: (
        "numbers joined by +",
        lambda text: tuple(float(part) for part in text.split("+") if part),
    ),
}
