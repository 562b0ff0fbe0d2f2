"""Read the list of what to convert: YAML, each entry with the options of ``onnxsmith convert``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import pydantic
import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.plain_yaml import PlainLoader, open_yaml
from onnxsmith.plugins import suggestion


def _texts(value: Any) -> Any:
    """Take one text for a list of it, and a mapping for ``NAME=VALUE`` texts."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, Mapping):
        return tuple(f"{name}={part}" for name, part in value.items())
    return value


Texts = Annotated[tuple[str, ...], BeforeValidator(_texts)]


class BatchEntry(BaseModel):
    """One conversion: the options of ``onnxsmith convert`` by their long names.

    In Python the names are those of the fields; an entry's paths are relative to the batch's
    folder, and so are data sources.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    source: str = Field(min_length=1)
    output: str = Field(min_length=1)
    framework: str | None = Field(None, alias="from")
    weights: str | None = None
    part: str | None = None
    inputs: Texts = Field((), alias="input")
    dims: Texts = Field((), alias="dim")
    opset: int | None = None
    target: str = "cpu"
    data: str | None = None
    rename: Texts = ()
    preprocess: Texts = ()
    reference: str | None = None
    repair: bool = False
    domains: Texts = Field((), alias="allow-domain")
    no_verify: bool = Field(False, alias="no-verify")
    trust: bool = False
    seed: int = 0
    rtol: float | None = Field(None, ge=0)
    atol: float | None = Field(None, ge=0)
    timeout: float = Field(3600.0, gt=0)
    memory: float | None = Field(None, gt=0, description="GiB.")


def load_batch(path: Path) -> tuple[BatchEntry, ...]:
    """Read a batch file.

    Raises:
        UsageError: A key is unknown or its value does not fit: the line is named.
        SmithError: The file cannot be read or is no YAML.
    """
    with open_yaml(path, "list of what to convert") as loader:
        root = loader.get_single_node()
        if not isinstance(root, yaml.SequenceNode) or not root.value:
            raise SmithError(
                f"{path} is not a list of conversions",
                "start each with '- source: ...' and 'output: ...' below it",
            )
        return tuple(_entry(loader, node, path) for node in root.value)


def check_entries(entries: Sequence[BatchEntry], places: Sequence[Path], base: Path) -> None:
    """Check that no conversion writes what another one writes or reads.

    Args:
        entries: The conversions.
        places: Where each one's result goes.
        base: The folder that sources are relative to.

    Raises:
        UsageError: One does.
    """
    sources = {(base / entry.source).resolve(): entry.source for entry in entries}
    seen: set[Path] = set()
    for entry, place in zip(entries, places, strict=True):
        resolved = place.resolve()
        if resolved in seen:
            raise UsageError(f"two entries write {entry.output}", "give each an output of its own")
        if resolved in sources:
            raise UsageError(
                f"the output {entry.output} is the source of an entry", "give it another name"
            )
        seen.add(resolved)


def _entry(loader: PlainLoader, node: yaml.Node, path: Path) -> BatchEntry:
    if not isinstance(node, yaml.MappingNode):
        raise _wrong(path, node, "an entry is not a mapping", "write '- source: ...'")
    known = [field.alias or name for name, field in BatchEntry.model_fields.items()]
    lines: dict[str, yaml.Node] = {}
    values: dict[str, Any] = {}
    for key, value in node.value:
        name = str(key.value)
        if name not in known:
            raise _wrong(path, key, f"unknown key {name!r}", suggestion(name, known))
        if name in values:
            raise _wrong(path, key, f"the key {name!r} is there twice", "remove one")
        lines[name] = key
        values[name] = loader.construct_object(value, deep=True)
    try:
        return BatchEntry.model_validate(values)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0])
        if name not in lines:
            raise _wrong(path, node, f"the entry has no {name!r}", f"add '{name}: ...'") from error
        raise _wrong(
            path, lines[name], f"{name}: {first['msg'].lower()}", "see 'onnxsmith convert --help'"
        ) from error


def _wrong(path: Path, node: yaml.Node, what: str, hint: str) -> UsageError:
    return UsageError(f"{path}, line {node.start_mark.line + 1}: {what}", hint)
