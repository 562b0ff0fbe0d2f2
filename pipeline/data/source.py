"""A data source as the user names it: a reader of one kind of data, and the query applied."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from onnxsmith.pipeline.data.base import Batch, Reader, plain, rebatch, take_first
from onnxsmith.pipeline.data.query import Options
from onnxsmith.pipeline.data.split import split_by_content
from onnxsmith.pipeline.data.transform import transform


@dataclass(frozen=True)
class Data:
    """Samples read, split, limited and transformed.

    Attributes:
        kind: The kind of source: ``digits``, ``csv``, ...
        name: The kind and the last part of the location.
        reader: Reads the samples as stored.
        options: The query.
    """

    kind: str
    name: str
    reader: Reader
    options: Options

    @property
    def size(self) -> int | None:
        """The number of samples, where known without reading them."""
        if self._splits_by_content or self.reader.size is None:
            return None
        limit = self.options.limit
        return self.reader.size if limit is None else min(limit, self.reader.size)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names of the classes, where known."""
        return self.reader.classes

    @property
    def _splits_by_content(self) -> bool:
        return self.reader.split is None and self.options.split is not None

    def stored(self, batch_size: int) -> Iterator[Batch]:
        """Yield the chosen samples as they are stored, before scaling and casting.

        Raises:
            SmithError: The data cannot be read.
        """
        batches = self.reader.read(batch_size)
        if self._splits_by_content and self.options.split is not None:
            batches = split_by_content(batches, self.options.split)
        if self.options.limit is not None:
            batches = take_first(batches, self.options.limit)
        return rebatch(batches, batch_size)

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """Yield the chosen samples with the query applied.

        Raises:
            SmithError: The data cannot be read, or the query does not fit it.
        """
        for batch in self.stored(batch_size):
            yield transform(batch, self.options, self.reader.channel_axis)

    def describe(self) -> dict[str, Any]:
        """Return kind, name, size, split and the options given."""
        options = plain(asdict(self.options))
        own = options.pop("own", {})
        if self.reader.split is not None:
            options["split"] = self.reader.split
        return {
            "kind": self.kind,
            "name": self.name,
            "size": self.size,
            "options": {**options, **(own if isinstance(own, dict) else {})},
        }
