"""Batches in an order that a seed and an epoch decide."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.data.base import Array, Batch, DataSource, join
from onnxsmith.pipeline.data.conform import Conformed
from onnxsmith.spec import ModelSpec

_READ = 256
_AHEAD = 4

Augment = Callable[[Batch, np.random.Generator], Batch]
"""Returns a changed copy of a batch."""


@dataclass
class Shuffled:
    """A data source in memory, or a window of it, shuffled anew each epoch.

    Attributes:
        source: Labelled samples.
        spec: The signature of the model they are for.
        batch_size: Samples a batch; the last of an epoch may be smaller.
        seed: Decides all orders.
        memory: The most bytes to hold; of larger sources a window is held and shuffled, and
            each epoch reads the source again.
        augment: Changes batches.
    """

    source: DataSource
    spec: ModelSpec
    batch_size: int
    seed: int = 0
    memory: int = 2 * 1024**3
    augment: Augment | None = None
    _held: Batch | None = None
    _count: int | None = None

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yield the batches of an epoch; a thread prepares some ahead.

        Raises:
            SmithError: The data cannot be read, is empty, has no labels or does not fit.
        """
        return _ahead(lambda: self._epoch(number))

    def count(self) -> int:
        """Return the number of samples, which reads all of them the first time."""
        if self._count is None:
            self._count = sum(len(batch) for batch in self._read())
            if not self._count:
                raise SmithError(
                    f"the data {self.source.name!r} has no samples", "give data with samples"
                )
        return self._count

    def _epoch(self, number: int) -> Iterator[Batch]:
        rng = np.random.default_rng([self.seed, number])
        for batch in self._ordered(rng):
            yield batch if self.augment is None else self.augment(batch, rng)

    def _ordered(self, rng: np.random.Generator) -> Iterator[Batch]:
        if self._held is None and self._count is None:
            self._hold()
        if self._held is not None:
            order = rng.permutation(len(self._held))
            for start in range(0, len(order), self.batch_size):
                yield self._held.take(order[start : start + self.batch_size])
            return
        window: list[Batch] = []
        size = 0
        for batch in self._read():
            window.append(batch)
            size += _nbytes(batch)
            if size >= self.memory:
                yield from self._from_window(window, rng)
                window, size = [], 0
        yield from self._from_window(window, rng)

    def _from_window(self, window: list[Batch], rng: np.random.Generator) -> Iterator[Batch]:
        if not window:
            return
        whole = join(window)
        order = rng.permutation(len(whole))
        for start in range(0, len(order), self.batch_size):
            yield whole.take(order[start : start + self.batch_size])

    def _hold(self) -> None:
        """Keep the samples where they fit, and count them in any case."""
        parts: list[Batch] | None = []
        size = count = 0
        for batch in self._read():
            count += len(batch)
            size += _nbytes(batch)
            if size > self.memory:
                parts = None
            if parts is not None:
                parts.append(batch)
        if not count:
            raise SmithError(
                f"the data {self.source.name!r} has no samples", "give data with samples"
            )
        self._count = count
        self._held = join(parts) if parts else None

    def _read(self) -> Iterator[Batch]:
        for batch in Conformed(self.source, self.spec).batches(_READ):
            if batch.labels is None:
                raise SmithError(
                    f"the data {self.source.name!r} has no labels", "training needs labels"
                )
            yield batch


def _nbytes(batch: Batch) -> int:
    arrays: list[Array] = [*batch.inputs.values()]
    if batch.labels is not None:
        arrays.append(batch.labels)
    return sum(array.nbytes for array in arrays)


def _ahead(make: Callable[[], Iterator[Batch]]) -> Iterator[Batch]:
    """Yield what an iterator does, some items ahead in a thread of their own."""
    ready: queue.Queue[Batch | BaseException | None] = queue.Queue(_AHEAD)
    stop = threading.Event()

    def put(item: Batch | BaseException | None) -> None:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.1)
                return
            except queue.Full:
                continue  # the reader may have stopped

    def work() -> None:
        try:
            for batch in make():
                put(batch)
                if stop.is_set():
                    return
            put(None)
        except BaseException as error:  # noqa: BLE001 - handed to the reader, who raises it
            put(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()
