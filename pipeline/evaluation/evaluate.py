"""Score a model on labelled data, batch by batch."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.pipeline.data.base import DataSource
from onnxsmith.pipeline.data.feeding import Feed, feeds
from onnxsmith.pipeline.evaluation.base import Array, Metric, Task
from onnxsmith.pipeline.evaluation.confusion import ConfusionCounts
from onnxsmith.pipeline.evaluation.predict import predictions
from onnxsmith.pipeline.evaluation.reading import Reading, choose_reading
from onnxsmith.pipeline.evaluation.result import ClassScore, Evaluation
from onnxsmith.pipeline.evaluation.table import DEFAULTS, make_metric
from onnxsmith.spec import ModelSpec

_MOST_CLASSES = 1000


class Runner(Protocol):
    """What is needed of a session."""

    @property
    def spec(self) -> ModelSpec:
        """The model's signature."""

    def run(
        self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None
    ) -> dict[str, Array]:
        """Return the outputs by name."""


def evaluate(
    session: Runner,
    data: DataSource,
    metrics: Sequence[str] | None = None,
    batch_size: int = 64,
    limit: int | None = None,
    *,
    output: str | None = None,
) -> Evaluation:
    """Score a model.

    Args:
        session: The model, ready to run.
        data: Labelled samples.
        metrics: Names from ``METRICS``, with options (``top-k:k=3``); None chooses by task.
        batch_size: Samples a run, where the model does not fix it.
        limit: At most this many samples.
        output: The output to score, where it cannot be told.

    Raises:
        SmithError: The data is empty, has no labels or does not fit; an output is not a number.
        UsageError: A metric or output is unknown, or does not fit the task.
    """
    scorer = _Scorer(metrics, output, data.classes, batch_size)
    start = time.perf_counter()
    taken = 0
    for feed in feeds(data, session.spec, batch_size):
        count = feed.count if limit is None else min(feed.count, limit - taken)
        if count <= 0:
            break
        taken += count
        results = session.run(feed.inputs, scorer.needed())
        cut = {name: _rows(value, feed, count) for name, value in results.items()}
        scorer.take(cut, _labels(feed, count, data.name))
    scorer.flush()
    if not scorer.samples:
        raise SmithError(f"the data {data.name!r} has no samples", "give data with samples")
    return scorer.result(time.perf_counter() - start)


class _Scorer:
    """Holds the accumulators of one evaluation."""

    def __init__(
        self,
        metrics: Sequence[str] | None,
        output: str | None,
        classes: tuple[str, ...] | None,
        batch_size: int,
    ) -> None:
        self.samples = 0
        self._batch_size = batch_size
        self._held: list[tuple[Mapping[str, Any], Array]] = []
        self._metrics: dict[str, Metric] = {name: make_metric(name) for name in metrics or ()}
        self._output = output
        self._classes = classes
        self._reading: Reading | None = None
        self._counts = ConfusionCounts()

    def needed(self) -> list[str] | None:
        """Return the outputs to compute; None for all, before it is known which count."""
        if self._reading is None:
            return None
        names = [self._reading.output, self._reading.label_output]
        return [name for name in names if name is not None]

    def take(self, outputs: Mapping[str, Any], labels: Array) -> None:
        """Take in the outputs of one run; those of models fed one by one are scored together."""
        self._held.append((outputs, labels))
        if sum(len(held) for _, held in self._held) >= self._batch_size:
            self.flush()

    def flush(self) -> None:
        """Score what was taken in."""
        if self._held:
            labels = _joined([labels for _, labels in self._held])
            outputs = {
                name: _joined(parts)
                for name in self._held[0][0]
                if _joinable(parts := [outputs[name] for outputs, _ in self._held])
                or name in (self.needed() or ())
            }
            self._held = []
            self._update(outputs, labels)

    def _update(self, outputs: Mapping[str, Any], labels: Array) -> None:
        if self._reading is None:
            self._reading = self._choose(outputs, labels)
        if self._reading.task == "classification":
            labels = _plain_classes(labels)
        batch = predictions(
            self._reading, outputs, labels, first=self.samples, classes=self._classes
        )
        for metric in self._metrics.values():
            metric.update(batch)
        if batch.classes is not None:
            self._counts.update(batch.labels, batch.classes)
        self.samples += len(labels)

    def result(self, seconds: float) -> Evaluation:
        """Return the figures."""
        assert self._reading is not None  # there was at least one batch
        figures = {name: metric.result() for name, metric in self._metrics.items()}
        names, matrix = self._confusion()
        return Evaluation(
            figures,
            matrix,
            names,
            self._per_class(),
            self.samples,
            seconds,
            self._reading.task,
            self._reading.output,
        )

    def _choose(self, outputs: Mapping[str, Any], labels: Array) -> Reading:
        tasks: set[Task] = {metric.task for metric in self._metrics.values()}
        if len(tasks) > 1:
            raise UsageError(
                "the metrics score different things: classes and values",
                "name metrics of one kind, or evaluate twice",
            )
        task = next(iter(tasks), None)
        plain = labels if task == "regression" else _plain_classes(labels)
        reading = choose_reading(
            outputs, plain, output=self._output, task=task, classes=self._classes
        )
        if not self._metrics:
            self._metrics = {name: make_metric(name) for name in DEFAULTS[reading.task]}
        return reading

    def _confusion(self) -> tuple[tuple[str, ...] | None, Array | None]:
        labels = set(self._counts.labels())
        if labels and self._classes is not None:
            labels |= set(range(len(self._classes)))
        if not labels or len(labels) > _MOST_CLASSES:
            return None, None
        ordered = sorted(labels)
        return tuple(map(self._class_name, ordered)), self._counts.matrix(ordered)

    def _per_class(self) -> tuple[ClassScore, ...]:
        totals = self._counts.totals()
        rows = zip(
            totals.labels,
            totals.precision(),
            totals.recall(),
            totals.f1(),
            totals.support,
            strict=True,
        )
        return tuple(
            ClassScore(self._class_name(int(label)), float(p), float(r), float(f), int(n))
            for label, p, r, f, n in rows
        )

    def _class_name(self, label: int) -> str:
        named = self._classes is not None and 0 <= label < len(self._classes)
        return self._classes[label] if named and self._classes is not None else str(label)


def _labels(feed: Feed, count: int, name: str) -> Array:
    if feed.labels is None:
        raise SmithError(
            f"the data {name!r} has no labels to score against",
            "name them with label=COLUMN (csv, images) or label=ARRAY (npz)",
        )
    labels = feed.labels[:count]
    if labels.dtype.kind in "USO":
        raise SmithError(
            f"the labels of {name!r} are text", "give the number of each class, counted from 0"
        )
    if labels.dtype.kind in "iub":
        labels = labels.astype(np.int64)
    elif not np.isfinite(labels).all():
        raise SmithError(f"a label of {name!r} is not a number", "mend the data")
    return labels.reshape(len(labels)) if labels.shape[1:] == (1,) else labels


def _plain_classes(labels: Array) -> Array:
    """Return one-hot labels ``[n, C]`` as classes ``[n]``, others as they are."""
    if labels.ndim != 2 or labels.shape[1] < 2 or labels.dtype.kind not in "if":
        return labels
    if not (np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all()):
        return labels
    classes: Array = labels.argmax(axis=1)
    return classes


def _joinable(parts: list[Any]) -> bool:
    """Return whether the rows of several runs have one shape; auxiliary outputs may not."""
    return all(isinstance(part, list) for part in parts) or (
        len({np.shape(part)[1:] for part in parts}) == 1
        and all(np.ndim(part) > 0 for part in parts)
    )


def _joined(parts: list[Any]) -> Any:
    """Join rows of several runs; lists of maps stay lists."""
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], list):
        return [row for part in parts for row in part]
    try:
        return np.concatenate(parts)
    except ValueError as error:
        raise SmithError(
            "the model's output or the labels change their shape from batch to batch",
            "give samples of one size, e.g. images with resize=HxW",
        ) from error


def _rows(value: Any, feed: Feed, count: int) -> Any:
    """Return the rows of an output that belong to samples, without those that fill the batch."""
    if isinstance(value, list):
        return value[:count]
    array = np.asarray(value)
    fed = len(next(iter(feed.inputs.values())))
    if fed == 1 and (array.ndim == 0 or array.shape[0] != 1):
        array = array[None]  # a model without a batch axis in its output
    if array.shape[:1] != (fed,):
        # Said only if the output is used: auxiliary outputs may have any shape.
        return array
    return array[:count]
