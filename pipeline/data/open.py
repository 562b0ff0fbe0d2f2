"""Open a data source from its text on the command line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePath

from onnxsmith.errors import UsageError
from onnxsmith.pipeline.data.base import DataSource, Reader
from onnxsmith.pipeline.data.callable import CallableReader
from onnxsmith.pipeline.data.conform import conform
from onnxsmith.pipeline.data.query import parse_query, split_text
from onnxsmith.pipeline.data.source import Data
from onnxsmith.pipeline.data.table import SOURCES
from onnxsmith.pipeline.loading import is_callable_name
from onnxsmith.plugins import suggestion
from onnxsmith.spec import ModelSpec

_FORMS = "digits, mnist:DIR, npz:FILE, csv:FILE?label=COL, images:DIR or package.module:callable"


def open_data(
    text: str, spec: ModelSpec | None = None, *, default_split: str | None = None
) -> DataSource:
    """Open the data source that the text names.

    Args:
        text: ``digits``, ``mnist:DIR``, ``npz:FILE``, ``csv:FILE?label=COL``, ``images:DIR`` or
            ``package.module:callable``, each with a query ``?split=test&scale=1/255``.
        spec: The model's signature. If given, the batches have the names, element types and
            shapes that it takes, and the first sample is checked at once.
        default_split: The split to read where the query names none and the data comes in splits.

    Raises:
        UsageError: The text cannot be read, or an option does not apply.
        SmithError: The data cannot be read, or does not fit the model.
    """
    source, query = split_text(text)
    kind, _, location = source.partition(":")
    reader_type: type[Reader]
    if kind in SOURCES:
        reader_type, name = SOURCES[kind], _name(kind, location)
    elif is_callable_name(source) and not _is_file_name(location):
        reader_type, kind, location, name = CallableReader, "callable", source, source
    else:
        hint = suggestion(kind, list(SOURCES)) if kind else f"write {_FORMS}"
        raise UsageError(f"unknown data source {source!r}", hint)
    options = parse_query(query, reader_type.keys, kind)
    asked = options if options.split else replace(options, split=default_split)
    reader = reader_type.open(location, asked, spec)
    data = Data(kind, name, reader, options)
    return data if spec is None else conform(data, spec, options.input)


def _name(kind: str, location: str) -> str:
    last = PurePath(location).name
    return f"{kind}:{last}" if last else kind


def _is_file_name(text: str) -> bool:
    return text.endswith((".csv", ".npz", ".gz", ".tsv"))
