"""What a data source is: batches of named arrays and labels, streamed and restartable."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

if TYPE_CHECKING:
    from onnxsmith.pipeline.data.query import Options
    from onnxsmith.spec import ModelSpec

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Batch:
    """Some samples.

    Attributes:
        inputs: Arrays by name; the first axis of each is the sample.
        labels: What the model should say, ``[N]`` classes or ``[N, ...]`` values, if known.
    """

    inputs: dict[str, Array]
    labels: Array | None = None

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values()))) if self.inputs else 0

    def slice(self, start: int, stop: int) -> Batch:
        """Return the samples from ``start`` up to ``stop`` (views)."""
        inputs = {name: array[start:stop] for name, array in self.inputs.items()}
        return Batch(inputs, None if self.labels is None else self.labels[start:stop])

    def take(self, keep: Array) -> Batch:
        """Return the samples that the boolean or index array names."""
        inputs = {name: array[keep] for name, array in self.inputs.items()}
        return Batch(inputs, None if self.labels is None else self.labels[keep])


class DataSource(Protocol):
    """A stream of batches that gives the same samples in the same order every time."""

    @property
    def name(self) -> str:
        """What to call it in reports: without the folders of the user's machine."""

    @property
    def size(self) -> int | None:
        """The number of samples, where known without reading them."""

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names of the classes that integer labels index, where known."""

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """Yield batches of ``batch_size`` samples, the last one perhaps smaller.

        Raises:
            SmithError: The data cannot be read or does not fit.
        """

    def describe(self) -> dict[str, Any]:
        """Return kind, name, size and options as JSON values, for reports."""


class Reader(Protocol):
    """One kind of data as it is stored: no scaling, no casting, no limit.

    Attributes:
        keys: The query keys that apply to this kind.
    """

    keys: ClassVar[frozenset[str]]

    @classmethod
    def open(cls, location: str, options: Options, spec: ModelSpec | None) -> Reader:
        """Open the data, checking what is cheap to check.

        Raises:
            SmithError: It cannot be read.
            UsageError: An option does not fit.
        """

    @property
    def size(self) -> int | None:
        """The number of samples, where known."""

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names of the classes, where known."""

    @property
    def split(self) -> str | None:
        """The split that is read, where the data comes with splits of its own."""

    @property
    def channel_axis(self) -> int | None:
        """The axis of the channels in the arrays, where they are images."""

    def read(self, batch_size: int) -> Iterator[Batch]:
        """Yield the samples in order; batches may be smaller or larger than asked."""


def rebatch(batches: Iterable[Batch], batch_size: int) -> Iterator[Batch]:
    """Yield the same samples in batches of exactly ``batch_size``, the last perhaps smaller."""
    held: list[Batch] = []
    count = 0
    for incoming in batches:
        batch = incoming
        while count + len(batch) >= batch_size:
            cut = batch_size - count
            yield join([*held, batch.slice(0, cut)])
            batch, held, count = batch.slice(cut, len(batch)), [], 0
        if len(batch):
            held.append(batch)
            count += len(batch)
    if held:
        yield join(held)


def join(parts: list[Batch]) -> Batch:
    """Concatenate batches that have the same names."""
    parts = [part for part in parts if len(part)] or parts[:1]
    if len(parts) == 1:
        return parts[0]
    inputs = {
        name: np.concatenate([part.inputs[name] for part in parts]) for name in parts[0].inputs
    }
    labels = [part.labels for part in parts if part.labels is not None]
    return Batch(inputs, np.concatenate(labels) if len(labels) == len(parts) else None)


def take_first(batches: Iterable[Batch], limit: int) -> Iterator[Batch]:
    """Yield the first ``limit`` samples."""
    left = limit
    for batch in batches:
        if len(batch) >= left:
            yield batch.slice(0, left)
            return
        left -= len(batch)
        yield batch


def plain(options: Mapping[str, object]) -> dict[str, object]:
    """Return the options that were given, as JSON values."""
    given = {name: value for name, value in options.items() if value not in (None, ())}
    return {name: list(v) if isinstance(v, tuple) else v for name, v in given.items()}
