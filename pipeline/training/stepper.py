"""Run training steps: gradients, then an update in place, on memory that both share."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxsmith.errors import SmithError
from onnxsmith.passes.autodiff.training_form import seed_random
from onnxsmith.pipeline.training.graphs import (
    LOSS_SCALE,
    GradientGraph,
    norm_graph,
    sum_graph,
    update_graph,
)
from onnxsmith.pipeline.training.layout import Layout
from onnxsmith.pipeline.training.mixed import LossScale
from onnxsmith.pipeline.training.optimizers.base import Optimizer
from onnxsmith.runtime.memory import Array, Memory
from onnxsmith.runtime.session import Binding, Session
from onnxsmith.target import TARGETS, Target

_FEW_THREADS, _SMALL_VECTOR = 2, 2**20
_STRETCH = 2**18  # elements of each vector for a thread
_NOISE = 0x6E6F697365  # apart from all other chances of the same seed


@dataclass(frozen=True)
class Noise:
    """What is added to the sum of a batch's gradients.

    Attributes:
        deviation: Of each element.
        samples: How many samples the sum is divided by.
        seed: Of the noise; each update has its own.
    """

    deviation: float
    samples: int
    seed: int

    def drawn(self, layout: Layout, update: int) -> Array:
        """Return the noise of an update as a vector of the layout, whose gaps stay zero."""
        rng = np.random.default_rng([self.seed, update, _NOISE])
        return layout.pack(
            {name: rng.normal(0, self.deviation, s).astype(layout.dtype)
             for name, s in layout.shapes.items()}
        )  # fmt: skip


@dataclass(frozen=True)
class StepOptions:
    """How steps are made.

    Attributes:
        optimizer: What makes new parameters.
        clip: The greatest length of the gradient of all parameters; longer ones are cut.
        accumulates: Whether an update is made from the gradients of several batches.
        average: Keep a moving average of the parameters: how much of it stays in each update.
        keep_zeros: Parameters that are zero at first stay zero, as pruned ones have to.
        no_decay: The parameters that weight decay leaves alone.
        noise: What makes training private.
        loss_scale: What the loss is multiplied by; updates from gradients that are not finite are
            left out.
        target: Where the sessions run.
        threads: Threads of the sessions.
    """

    optimizer: Optimizer
    clip: float | None = None
    accumulates: bool = False
    average: float | None = None
    keep_zeros: bool = False
    no_decay: frozenset[str] = frozenset()
    noise: Noise | None = None
    loss_scale: LossScale | None = None
    target: Target = TARGETS["cpu"]
    threads: int | None = None

    @property
    def scales(self) -> bool:
        """Whether gradients have a factor before they make an update."""
        parts = (self.clip, self.noise, self.loss_scale)
        return self.accumulates or any(part is not None for part in parts)


class Stepper:
    """A model in training; a context manager.

    Parameters, gradients and optimizer states are one vector each, of the same layout, on the
    session's device. The gradient's session reads parameters and writes gradients where they lie,
    and the update's session writes parameters and states over the old ones: a copy of nothing.
    The two are apart because a single graph may write a parameter before all has read it.

    Args:
        graph: The gradients.
        parameters: The content of what is trained, all of one element type.
        remembered: The content of what the model remembers, such as running means.
        options: How steps are made.
    """

    def __init__(
        self,
        graph: GradientGraph,
        parameters: Mapping[str, Array],
        remembered: Mapping[str, Array],
        options: StepOptions,
    ) -> None:
        if len({array.dtype for array in parameters.values()}) != 1:
            raise SmithError(
                "the parameters are of several element types",
                "freeze those of all types but one, or convert the model first",
            )
        self.graph, self.options = graph, options
        self.layout = Layout.of(parameters)
        self.updates = 0
        device = "cuda" if "CUDA" in options.target.providers[0] else "cpu"
        size, dtype = self.layout.size, self.layout.dtype
        words = ["parameter", "gradient", *options.optimizer.states]
        words += ["average"] if options.average is not None else []
        words += ["mask"] if options.keep_zeros else []
        words += ["decays"] if self._grouped else []
        self.vectors = {word: Memory(size, dtype, device) for word in words}
        self.vectors["parameter"].write(self.layout.pack(parameters))
        if options.average is not None:
            self.vectors["average"].write(self.layout.pack(parameters))
        if options.keep_zeros:
            kept = {name: (array != 0).astype(dtype) for name, array in parameters.items()}
            self.vectors["mask"].write(self.layout.pack(kept))
        if self._grouped:
            decays = {
                name: np.full(array.shape, name not in options.no_decay, dtype)
                for name, array in parameters.items()
            }
            self.vectors["decays"].write(self.layout.pack(decays))
        self.remembered = {name: _held(array, device) for name, array in remembered.items()}
        self._scalars = {
            word: Memory(1, np.dtype(np.float32))
            for word in ("rate", "step", "scale", "norm", LOSS_SCALE)
        }
        self._loss = Memory(1, dtype)
        self._sum: Memory | None = None
        self._gradient = self._session(graph.artifact)
        self._binding = self._bind_gradient()
        self._updates = self._bind_updates()
        watched = options.clip is not None or options.loss_scale is not None
        self._norm = self._bind_norm() if watched else None

    def __enter__(self) -> Stepper:
        return self

    def __exit__(self, *_: object) -> None:
        self._gradient.close()
        for session, _binding in self._updates:
            session.close()

    def gradient(self, inputs: Mapping[str, Array], labels: Array) -> float:
        """Compute the gradients of a batch, where they lie, and return its loss."""
        for name, array in inputs.items():
            self._binding.set_input(name, array)
        self._binding.set_input(self.graph.labels, labels)
        if self.options.loss_scale is not None:
            self._scalars[LOSS_SCALE].write(np.array([self.options.loss_scale.value], np.float32))
        self._binding.run()
        return float(self._loss.read()[0])

    def no_gradient(self) -> None:
        """Take zero for the gradients: those of a batch without samples."""
        gradient = self.vectors["gradient"]
        gradient.write(np.zeros(gradient.size, gradient.dtype))

    def take(self, parameters: Array, remembered: Mapping[str, Array]) -> None:
        """Replace the vector of parameters, and what the model remembers."""
        self.vectors["parameter"].write(parameters)
        self.remember(remembered)

    def memories(self) -> dict[str, Array]:
        """Return copies of what the model remembers, by name."""
        return {name: memory.read().reshape(s) for name, (memory, s) in self.remembered.items()}

    def remember(self, content: Mapping[str, Array]) -> None:
        """Replace what the model remembers."""
        for name, array in content.items():
            self.remembered[name][0].write(array.ravel())

    def renew(self, seed: int) -> None:
        """Make the gradient's session anew, its random operators seeded by a number."""
        seed_random(self.graph.artifact.model, seed)
        self._gradient.close()
        self._gradient = self._session(self.graph.artifact)
        self._binding = self._bind_gradient()

    def accumulate(self) -> None:
        """Add the gradients to those of earlier batches, which :meth:`update` will use."""
        if self._sum is None:
            gradient = self.vectors["gradient"]
            self._sum = Memory(gradient.size, gradient.dtype, gradient.device)
            session = self._session(sum_graph(_ir_dtype(self.layout.dtype)))
            binding = session.bind()
            binding.set_view("total", self._sum.whole())
            binding.set_view("part", gradient.whole())
            binding.set_view("new_total", self._sum.whole(), output=True)
            self._adder = (session, binding)
        self._adder[1].run()

    def update(self, rate: float, batches: int = 1) -> None:
        """Make one update from the gradients.

        Args:
            rate: The learning rate.
            batches: How many batches were accumulated; their mean counts.
        """
        gradient = self.vectors["gradient"]
        if self._sum is not None:
            gradient.write(self._sum.read())
            self._sum.write(np.zeros(self._sum.size, self._sum.dtype))
        scale = 1.0 / batches
        if self.options.loss_scale is not None:
            scale /= self.options.loss_scale.value
        if self._norm is not None:
            self._norm[1].run()
            length = float(self._scalars["norm"].read()[0]) * scale
            if self.options.loss_scale is not None:
                if not math.isfinite(length):
                    self.options.loss_scale.overflowed()
                    return
                self.options.loss_scale.went_well()
            if self.options.clip is not None and length > self.options.clip:
                scale *= self.options.clip / length
        if self.options.noise is not None:
            noise = self.options.noise
            gradient.write(gradient.read() + noise.drawn(self.layout, self.updates))
            scale = 1.0 / noise.samples
        self.updates += 1
        for word, value in (("rate", rate), ("step", self.updates), ("scale", scale)):
            self._scalars[word].write(np.array([value], np.float32))
        for _session, binding in self._updates:
            binding.run()

    def weights(self, *, averaged: bool = False) -> dict[str, Array]:
        """Return copies of the parameters, or of their moving average, and what is remembered."""
        vector = self.vectors["average" if averaged else "parameter"].read()
        return {**self.layout.unpack(vector), **self.memories()}

    def state(self) -> dict[str, Array]:
        """Return copies of all that the next step depends on."""
        result = {
            f"vector:{word}": memory.read()
            for word, memory in self.vectors.items()
            if word != "gradient"
        }
        for name, (memory, _shape) in self.remembered.items():
            result[f"remembered:{name}"] = memory.read()
        result["updates"] = np.array(self.updates, np.int64)
        if self.options.loss_scale is not None:
            held = self.options.loss_scale
            result["loss_scale"] = np.array([held.value, held.good, held.skipped], np.float64)
        return result

    def restore(self, state: Mapping[str, Array]) -> None:
        """Put back what :meth:`state` returned.

        Raises:
            SmithError: The state is that of another model or optimizer.
        """
        expected = self.state()
        for name, array in expected.items():
            if name not in state or state[name].shape != array.shape:
                raise SmithError(
                    f"the checkpoint does not fit: {name!r} is missing or of another size",
                    "resume with the model, optimizer and options it was made with",
                )
        for word, memory in self.vectors.items():
            if word != "gradient":
                memory.write(state[f"vector:{word}"])
        for name, (memory, _shape) in self.remembered.items():
            memory.write(state[f"remembered:{name}"])
        self.updates = int(state["updates"])
        if self.options.loss_scale is not None:
            held, (value, good, skipped) = self.options.loss_scale, state["loss_scale"]
            held.value, held.good, held.skipped = float(value), int(good), int(skipped)

    def _session(self, artifact: Any) -> Session:
        # A plan of memory in advance takes half as much again, and saves less than two percent.
        return Session(artifact, self.options.target, threads=self.options.threads, lean=True)

    def _bind_gradient(self) -> Binding:
        binding = self._gradient.bind()
        spec = self.graph.artifact.spec
        inputs = {value.name for value in spec.inputs}
        if LOSS_SCALE in inputs:
            binding.set_view(LOSS_SCALE, self._scalars[LOSS_SCALE].view(0, ()))
        for name in self.layout.shapes:
            if name in inputs:
                view = self.layout.view(self.vectors["parameter"], name)
                binding.set_view(name, view)
        for name, output in self.graph.gradients.items():
            view = self.layout.view(self.vectors["gradient"], name)
            binding.set_view(output, view, output=True)
        for name, (memory, shape) in self.remembered.items():
            view = memory.view(0, shape)
            if name in inputs:
                binding.set_view(name, view)
            binding.set_view(self.graph.remembered[name], view, output=True)
        binding.set_view(self.graph.loss, self._loss.view(0, ()), output=True)
        return binding

    def _bind_updates(self) -> list[tuple[Session, Binding]]:
        """Updates of stretches of all parameters, or of each where the optimizer asks for that."""
        dtype = _ir_dtype(self.layout.dtype)
        options = self.options
        if options.optimizer.elementwise:
            session = self._update_session(dtype, ("size",))
            places, held = self._stretches(), self.vectors.items()
            parts = [{word: m.view(start, (count,)) for word, m in held} for start, count in places]
            return [(session, self._bind_update(session, views)) for views in parts]
        result = []
        for name, sizes in self.layout.shapes.items():
            session = self._update_session(dtype, sizes)
            views = {word: self.layout.view(memory, name) for word, memory in self.vectors.items()}
            result.append((session, self._bind_update(session, views)))
        return result

    def _update_session(self, dtype: ir.DataType, shape: Sequence[int | str]) -> Session:
        options = self.options
        return self._session(
            update_graph(
                options.optimizer,
                dtype,
                shape,
                scaled=options.scales,
                average=options.average,
                masked=options.keep_zeros,
                grouped=self._grouped,
                fused=self._fused,
            )
        )

    @property
    def _fused(self) -> bool:
        """Whether products and sums of the update are one operator, which one thread computes."""
        if self.vectors["parameter"].device != "cpu":
            return False
        return self._threads <= _FEW_THREADS or self.layout.size <= _SMALL_VECTOR

    @property
    def _threads(self) -> int:
        return self.options.threads or os.cpu_count() or 1

    def _stretches(self) -> list[tuple[int, int]]:
        """Return first elements and sizes of what is updated at a time.

        A processor's caches hold a stretch through all operators of an update: of 11 million
        parameters Adam took 23 ms as a whole, and takes 17 ms so, in less memory.
        """
        size = self.layout.size
        if self.vectors["parameter"].device != "cpu":
            return [(0, size)]
        step = _STRETCH * (1 if self._fused else self._threads)
        return [(start, min(step, size - start)) for start in range(0, size, step)]

    @property
    def _grouped(self) -> bool:
        return bool(self.options.no_decay) and self.options.optimizer.decay > 0

    def _bind_update(self, session: Session, views: Mapping[str, Any]) -> Binding:
        binding = session.bind()
        for value in session.spec.inputs:
            if value.name in self._scalars:
                binding.set_view(value.name, self._scalars[value.name].view(0, ()))
            else:
                binding.set_view(value.name, views[value.name])
        for value in session.spec.outputs:
            binding.set_view(value.name, views[value.name.removeprefix("new_")], output=True)
        return binding

    def _bind_norm(self) -> tuple[Session, Binding]:
        session = self._session(norm_graph(_ir_dtype(self.layout.dtype)))
        binding = session.bind()
        binding.set_view("vector", self.vectors["gradient"].whole())
        binding.set_view("norm", self._scalars["norm"].view(0, ()), output=True)
        return session, binding


def _held(array: Array, device: str) -> tuple[Memory, tuple[int, ...]]:
    memory = Memory(array.size, array.dtype, device)
    memory.write(array.ravel())
    return memory, array.shape


def _ir_dtype(dtype: np.dtype[Any]) -> ir.DataType:
    return ir.DataType.from_numpy(dtype)
