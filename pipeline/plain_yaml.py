"""Read YAML as plain values: no objects, no aliases, no more than a page of text."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import pydantic
import yaml

from onnxsmith.errors import SmithError

_MAX_BYTES = 1024 * 1024

Model = TypeVar("Model", bound=pydantic.BaseModel)


def read_yaml(path: Path, what: str) -> Any:
    """Return the values of a YAML file.

    Args:
        path: The file.
        what: What it should hold, for messages: ``recipe``.

    Raises:
        SmithError: The file cannot be read, is too large or is no YAML.
    """
    with open_yaml(path, what) as loader:
        return loader.get_single_data()


@contextlib.contextmanager
def open_yaml(path: Path, what: str) -> Iterator[PlainLoader]:
    """Yield what reads a YAML file, for those who need its lines; see :func:`read_yaml`."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise SmithError(f"cannot read {path}: {error.strerror}", "check the path") from error
    if len(data) > _MAX_BYTES:
        raise SmithError(f"{path} is larger than 1 MiB", f"give a {what}")
    try:
        yield PlainLoader(data)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        text = " ".join(str(error).split())[:300]
        raise SmithError(f"{path} is not YAML: {text}", "mend the file") from error


def check_values(model: type[Model], value: Any, origin: str, hint: str) -> Model:
    """Return plain values as a model.

    Raises:
        SmithError: A field is wrong: the field is named.
    """
    try:
        return model.model_validate(value)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or model.__name__.lower()
        raise SmithError(f"{origin}: {where}: {first['msg']}", hint) from error


class PlainLoader(yaml.SafeLoader):
    """Safe YAML without aliases: they let a small file grow without bound."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuse aliases, else compose as usual."""
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs leave it out
            raise yaml.YAMLError(f"aliases are not allowed ({event.start_mark})")
        return super().compose_node(parent, index)
