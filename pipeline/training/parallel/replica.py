"""What computes the gradient of a part of a batch, in a process of its own."""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import IO, Protocol

import onnx

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.pipeline.training.graphs import GradientGraph
from onnxsmith.pipeline.training.optimizers.sgd import Sgd
from onnxsmith.pipeline.training.stepper import StepOptions, Stepper
from onnxsmith.runtime.memory import Array
from onnxsmith.target import Target

_HEAD = struct.Struct("<Q")


@dataclass(frozen=True)
class Setup:
    """What a replica is made of.

    Attributes:
        model: The graph of gradients, serialized.
        graph: Its names; the artifact in it is left out.
        parameters: Their content at first, which gives their shapes.
        remembered: What the model remembers of batches.
        target: Where it runs.
        threads: Threads of its session.
        rank: Which replica it is, from 1; the process that updates is 0.
    """

    model: bytes
    graph: GradientGraph
    parameters: Mapping[str, Array]
    remembered: Mapping[str, Array]
    target: Target
    threads: int | None
    rank: int


@dataclass(frozen=True)
class Part:
    """A part of a batch, with all that its gradient depends on.

    Attributes:
        inputs: By name.
        labels: As the loss takes them.
        parameters: The vector of all of them.
        remembered: Content by name.
        seed: What random operators are seeded with from now on; None where it is as before.
    """

    inputs: Mapping[str, Array]
    labels: Array
    parameters: Array
    remembered: Mapping[str, Array]
    seed: int | None = None


@dataclass(frozen=True)
class Answer:
    """The gradient of a part.

    Attributes:
        loss: The mean over its samples.
        gradient: The vector of all parameters' gradients.
        remembered: The next content by name.
        samples: How many samples it has.
    """

    loss: float
    gradient: Array
    remembered: Mapping[str, Array]
    samples: int


class Replica:
    """Computes gradients; holds no optimizer state.

    Args:
        setup: What it is made of.
    """

    def __init__(self, setup: Setup) -> None:
        artifact = Artifact.from_proto(onnx.load_from_string(setup.model))
        graph = replace(setup.graph, artifact=artifact)
        options = StepOptions(Sgd(), target=setup.target, threads=setup.threads)
        self._rank = setup.rank
        self._stepper = Stepper(graph, setup.parameters, setup.remembered, options)

    def answer(self, part: Part) -> Answer:
        """Return the gradient of a part of a batch."""
        if part.seed is not None:
            self._stepper.renew(part.seed + self._rank)
        self._stepper.take(part.parameters, part.remembered)
        loss = self._stepper.gradient(part.inputs, part.labels)
        gradient = self._stepper.vectors["gradient"].read()
        return Answer(loss, gradient, self._stepper.memories(), len(part.labels))


class Workers(Protocol):
    """Several replicas."""

    def send(self, index: int, part: Part) -> None:
        """Hand a replica a part of a batch, without waiting for it."""

    def receive(self, index: int) -> Answer:
        """Wait for what a replica found.

        Raises:
            SmithError: It failed, or its process is gone.
        """

    def close(self) -> None:
        """End the replicas."""


def write_message(stream: IO[bytes], message: object) -> None:
    """Write an object to a pipe between processes of one run."""
    data = pickle.dumps(message, protocol=5)
    stream.write(_HEAD.pack(len(data)))
    stream.write(data)
    stream.flush()


def read_message(stream: IO[bytes]) -> object:
    """Read an object that a process of the same run wrote.

    Raises:
        SmithError: The other side is gone.
    """
    head = stream.read(_HEAD.size)
    if len(head) < _HEAD.size:
        raise SmithError("a process of the training run ended", "see whether memory ran out")
    (size,) = _HEAD.unpack(head)
    data = stream.read(size)
    if len(data) < size:
        raise SmithError("a process of the training run ended", "see whether memory ran out")
    return pickle.load(io.BytesIO(data))  # our own process wrote it
