"""Replicas in processes of this machine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.training.parallel.replica import (
    Answer,
    Part,
    Setup,
    read_message,
    write_message,
)

_WORKER = "onnxsmith.pipeline.training.parallel.worker"


class LocalWorkers:
    """Processes that are talked to over pipes.

    Args:
        setups: One a process.
    """

    def __init__(self, setups: Sequence[Setup]) -> None:
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-P", "-m", _WORKER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # an interrupt is for the process that updates
            )
            for _ in setups
        ]
        for index, setup in enumerate(setups):
            self._write(index, setup)

    def send(self, index: int, part: Part) -> None:
        """Hand a replica a part of a batch."""
        self._write(index, part)

    def receive(self, index: int) -> Answer:
        """Wait for what a replica found.

        Raises:
            SmithError: It failed, or its process is gone.
        """
        stream = self._processes[index].stdout
        assert stream is not None  # it was asked for
        message = read_message(stream)
        if isinstance(message, SmithError):
            raise message
        assert isinstance(message, Answer)
        return message

    def close(self) -> None:
        """Close the pipes, on which the processes end."""
        for process in self._processes:
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    try:
                        stream.close()
                    except BrokenPipeError:
                        continue  # it is gone already
        for process in self._processes:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _write(self, index: int, message: object) -> None:
        stream = self._processes[index].stdin
        assert stream is not None  # it was asked for
        try:
            write_message(stream, message)
        except BrokenPipeError as error:
            raise SmithError(
                "a process of the training run ended", "see whether memory ran out"
            ) from error
