"""A bar that shows how far a run is, on a terminal alone."""

from __future__ import annotations

import time

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from onnxsmith.cli.output import console

_EVERY = 0.1


class TrainingBar:
    """The samples of an epoch; a context manager. Where no terminal is, nothing is shown.

    Args:
        epochs: How many there will be.
    """

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs
        self._next = 0.0
        columns = (
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.4f}"),
            TimeRemainingColumn(),
        )
        self._progress = Progress(
            *columns, console=console, transient=True, disable=not console.is_terminal
        )
        self._task = self._progress.add_task("", total=None, epoch=1, epochs=epochs, loss=0.0)

    def __enter__(self) -> TrainingBar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, epoch: int, done: int, total: int, loss: float) -> None:
        """Show where the run is, a few times a second.

        Args:
            epoch: From 1.
            done: Samples of it that were trained on.
            total: Samples it has.
            loss: Of the last batch.
        """
        now = time.monotonic()
        if self._progress.disable or (now < self._next and done < total):
            return
        self._next = now + _EVERY
        self._progress.update(self._task, completed=done, total=total, epoch=epoch, loss=loss)
