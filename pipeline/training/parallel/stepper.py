"""Steps whose gradients are computed by several processes and updated by one."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from onnxsmith.pipeline.training.graphs import GradientGraph
from onnxsmith.pipeline.training.parallel.replica import Part, Setup, Workers
from onnxsmith.pipeline.training.stepper import StepOptions, Stepper
from onnxsmith.runtime.memory import Array


class ParallelStepper(Stepper):
    """A stepper that computes one part of each batch and lets workers compute the others.

    The gradients are averaged, weighted by samples, between the gradient's and the update's
    session. What the model remembers of a batch is averaged likewise.

    Args:
        graph: The gradients.
        parameters: The content of what is trained, all of one element type.
        remembered: The content of what the model remembers, such as running means.
        options: How steps are made.
        count: How many parts there are.
        start: Makes the workers of the other parts.
    """

    def __init__(
        self,
        graph: GradientGraph,
        parameters: Mapping[str, Array],
        remembered: Mapping[str, Array],
        options: StepOptions,
        count: int,
        start: Callable[[Sequence[Setup]], Workers],
    ) -> None:
        threads = options.threads or max((os.cpu_count() or count) // count, 1)
        super().__init__(graph, parameters, remembered, replace(options, threads=threads))
        model = graph.artifact.to_proto().SerializeToString()
        bare = replace(graph, artifact=None)  # type: ignore[arg-type]  # it travels as bytes
        self._count = count
        self._workers = start(
            [
                Setup(model, bare, parameters, remembered, options.target, threads, rank)
                for rank in range(1, count)
            ]
        )
        self._renewed: list[int | None] = [None] * (count - 1)

    def __exit__(self, *_: object) -> None:
        self._workers.close()
        super().__exit__()

    def renew(self, seed: int) -> None:
        """Seed random operators anew, differently in each process."""
        super().renew(seed)
        self._renewed = [seed] * (self._count - 1)

    def gradient(self, inputs: Mapping[str, Array], labels: Array) -> float:
        """Compute the gradients of a batch, where they lie, and return its loss."""
        bounds = np.linspace(0, len(labels), self._count + 1).round().astype(int)
        parts = [slice(a, b) for a, b in itertools.pairwise(bounds) if b > a]
        vector, memories = self.vectors["parameter"].read(), self.memories()
        for index, part in enumerate(parts[1:]):
            chosen = {name: array[part] for name, array in inputs.items()}
            seed, self._renewed[index] = self._renewed[index], None
            self._workers.send(index, Part(chosen, labels[part], vector, memories, seed))
        own = {name: array[parts[0]] for name, array in inputs.items()}
        share = len(labels[parts[0]]) / len(labels)
        loss = share * super().gradient(own, labels[parts[0]])
        total = self.vectors["gradient"].read() * self.layout.dtype.type(share)
        kept = {name: share * array for name, array in self.memories().items()}
        for index in range(len(parts) - 1):
            answer = self._workers.receive(index)
            share = answer.samples / len(labels)
            loss += share * answer.loss
            total += self.layout.dtype.type(share) * answer.gradient
            for name, array in answer.remembered.items():
                kept[name] = kept[name] + share * array
        self.vectors["gradient"].write(total)
        self.remember(kept)
        return loss
