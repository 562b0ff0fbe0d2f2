"""Batches in an order that a seed and an epoch decide."""

from __future__ import annotations

import math
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
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
        augment: Change batches, one after the other.
        workers: Threads that do so.
        poisson: Take each sample into a batch by chance, ``batch_size`` of them on average, as
            the accounting of privacy supposes; the samples have to fit in memory.
    """

    source: DataSource
    spec: ModelSpec
    batch_size: int
    seed: int = 0
    memory: int = 2 * 1024**3
    augment: tuple[Augment, ...] = ()
    workers: int = 1
    poisson: bool = False
    _held: Batch | None = None
    _count: int | None = None

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yield the batches of an epoch; a thread prepares some ahead.

        Raises:
            SmithError: The data cannot be read, is empty, has no labels or does not fit.
        """
        return _ahead(lambda: self._epoch(number))

    def batches_an_epoch(self) -> int:
        """Return how many batches an epoch has."""
        return math.ceil(self.count() / self.batch_size)

    def count(self) -> int:
        """Return the number of samples, which reads all of them the first time."""
        if self._count is None:
            self._hold()
        assert self._count is not None  # _hold() counts
        return self._count

    def _epoch(self, number: int) -> Iterator[Batch]:
        ordered = self._ordered(np.random.default_rng([self.seed, number]))
        if not self.augment:
            yield from ordered
            return

        def changed(index: int, batch: Batch) -> Batch:
            # Each batch has chances of its own, so that the workers' number changes nothing.
            rng = np.random.default_rng([self.seed, number, index])
            for change in self.augment:
                batch = change(batch, rng)
            return batch

        with ThreadPoolExecutor(self.workers) as pool:
            yield from _in_order(pool, changed, ordered, self.workers + 1)

    def _ordered(self, rng: np.random.Generator) -> Iterator[Batch]:
        if self._held is None and self._count is None:
            self._hold()
        if self.poisson:
            yield from self._by_chance(rng)
        elif self._held is not None:
            order = rng.permutation(len(self._held))
            for start in range(0, len(order), self.batch_size):
                yield self._held.take(order[start : start + self.batch_size])
        else:
            yield from self._windows(rng)

    def _windows(self, rng: np.random.Generator) -> Iterator[Batch]:
        window: list[Batch] = []
        size = 0
        for batch in self._read():
            window.append(batch)
            size += _nbytes(batch)
            if size >= self.memory:
                yield from self._from_window(window, rng)
                window, size = [], 0
        yield from self._from_window(window, rng)

    def _by_chance(self, rng: np.random.Generator) -> Iterator[Batch]:
        if self._held is None:
            raise SmithError(
                f"the data {self.source.name!r} does not fit in memory, as private training needs",
                "limit it: add limit=N to the data",
            )
        share = min(self.batch_size / len(self._held), 1.0)
        for _ in range(self.batches_an_epoch()):
            yield self._held.take(rng.random(len(self._held)) < share)

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


def _in_order(
    pool: ThreadPoolExecutor,
    change: Callable[[int, Batch], Batch],
    batches: Iterator[Batch],
    most: int,
) -> Iterator[Batch]:
    """Yield changed batches in the order they came, ``most`` of them in work at a time."""
    pending: deque[Future[Batch]] = deque()
    for index, batch in enumerate(batches):
        pending.append(pool.submit(change, index, batch))
        if len(pending) >= most:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


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
