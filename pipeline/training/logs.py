"""Logs of a training run: a CSV file, and event files for TensorBoard."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.training.history import write_csv
from onnxsmith.pipeline.training.request import Epoch
from onnxsmith.storage.atomic import write_error


class Logs:
    """Where rows of epochs go; a context manager.

    Args:
        table: A CSV file, written anew after each epoch.
        events: What writes event files.
    """

    def __init__(self, table: Path | None, events: EventWriter | None) -> None:
        self._table, self._events = table, events

    def __enter__(self) -> Logs:
        return self

    def __exit__(self, *_: object) -> None:
        if self._events is not None:
            self._events.close()

    def write(self, rows: Sequence[Epoch]) -> None:
        """Log the last of the rows.

        Raises:
            SmithError: A file cannot be written.
        """
        if self._table is not None:
            write_csv(self._table, rows)
        if self._events is not None:
            row = rows[-1]
            values = {"loss": row.loss, "rate": row.rate, **row.metrics}
            values |= {} if row.epsilon is None else {"epsilon": row.epsilon}
            self._events.add(values, row.number)


def open_logs(table: Path | None, folder: Path | None) -> Logs:
    """Open what was asked for.

    Args:
        table: A CSV file.
        folder: A folder for event files.

    Raises:
        SmithError: There is no package that writes event files, or the folder cannot be made.
    """
    return Logs(table, None if folder is None else _event_writer(folder))


class EventWriter:
    """Writes points to an event file, by the ``tensorboard`` package.

    Args:
        folder: Where the file goes; it is named after the time and the host.
    """

    def __init__(self, folder: Path) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._folder = folder
        self._writer: Any = EventFileWriter(str(folder))

    def add(self, values: dict[str, float], step: int) -> None:
        """Add a point to each named curve, and write them out."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        points = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        event = Event(wall_time=time.time(), step=step, summary=Summary(value=points))
        self._writer.add_event(event)
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


class _OtherEventWriter(EventWriter):
    """The same by the ``tensorboardX`` package."""

    def __init__(self, folder: Path) -> None:
        from tensorboardX import SummaryWriter

        self._folder = folder
        self._writer = SummaryWriter(str(folder))

    def add(self, values: dict[str, float], step: int) -> None:
        """Add a point to each named curve, and write them out."""
        for tag, value in values.items():
            self._writer.add_scalar(tag, value, step)
        self._writer.flush()


def _event_writer(folder: Path) -> EventWriter:
    writers = {"tensorboard": EventWriter, "tensorboardX": _OtherEventWriter}
    for package, writer in writers.items():
        if importlib.util.find_spec(package) is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                return writer(folder)
            except OSError as error:
                raise write_error(folder, error) from error
    raise SmithError(
        "event files need the package tensorboard, which is not installed",
        "pip install 'onnxsmith[tensorboard]', or give --log FILE.csv",
    )
