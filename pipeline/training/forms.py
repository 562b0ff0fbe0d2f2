"""What a model looks like while it is trained, and what it is again afterwards."""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import onnx_ir as ir

from onnxsmith.artifact import Artifact
from onnxsmith.errors import UsageError
from onnxsmith.options import from_texts, split_options
from onnxsmith.passes.autodiff.training_form import inference_form
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.layout.free_batch import FreeBatch
from onnxsmith.passes.lora.adapter import FIRST, SECOND, Adapter
from onnxsmith.passes.lora.insert import LoraOptions, insert_adapters
from onnxsmith.pipeline.data.feeding import fixed_batch
from onnxsmith.pipeline.training.request import TrainRequest
from onnxsmith.pipeline.training.selection import chosen_parameters
from onnxsmith.runtime.memory import Array
from onnxsmith.storage.save import tensor_chunks


@dataclass(frozen=True)
class Form(abc.ABC):
    """How a model is trained.

    Attributes:
        source: The model as it came.
        artifact: The model whose initializers are trained.
        names: Those that are.
        no_decay: Those of them that weight decay leaves alone in any case.
        frozen_statistics: Whether batch normalization has to keep what it remembers.
    """

    source: Artifact
    artifact: Artifact
    names: tuple[str, ...]
    no_decay: frozenset[str] = frozenset()
    frozen_statistics: bool = False

    @abc.abstractmethod
    def export(self, weights: Mapping[str, Array]) -> Artifact:
        """Return the model in inference form with trained weights."""


class PlainForm(Form):
    """The model's own initializers are trained."""

    def export(self, weights: Mapping[str, Array]) -> Artifact:
        """Return the model in inference form with trained weights."""
        return with_weights(self.source, weights)


@dataclass(frozen=True)
class LoraForm(Form):
    """Adapters are trained in the place of the weights they stand beside.

    Attributes:
        scale: The factor of the adapters.
        adapted: The weights that have adapters.
    """

    scale: float = 1.0
    adapted: tuple[str, ...] = ()

    @classmethod
    def of(cls, artifact: Artifact, options: LoraOptions, seed: int) -> LoraForm:
        """Insert the adapters.

        Raises:
            SmithError: No weight is matched.
        """
        work = artifact.clone()
        adapted = insert_adapters(work.model, options, seed)
        names = tuple(f"{name}.{word}" for name in adapted for word in (FIRST, SECOND))
        return cls(
            artifact,
            work,
            names,
            frozen_statistics=True,
            scale=options.scale,
            adapted=tuple(adapted),
        )

    def adapter(self, weights: Mapping[str, Array]) -> Adapter:
        """Return the adapter alone."""
        held = self.artifact.model.graph.initializers

        def factor(name: str) -> Array:
            return weights[name] if name in weights else content(held[name])

        return Adapter(
            self.scale,
            {n: (factor(f"{n}.{FIRST}"), factor(f"{n}.{SECOND}")) for n in self.adapted},
        )

    def export(self, weights: Mapping[str, Array]) -> Artifact:
        """Return the model with the adapters merged into its weights."""
        made = with_weights(self.source, {})
        self.adapter(weights).merge(made.model)
        return made


def make_form(artifact: Artifact, request: TrainRequest) -> Form:
    """Return the form that a request asks for.

    Raises:
        SmithError: A pattern matches nothing, or nothing is left to train.
        UsageError: Options contradict each other.
    """
    if request.lora is None:
        names = chosen_parameters(artifact, request)
        return PlainForm(artifact, artifact, tuple(names))
    if request.freeze or request.only or request.keep_zeros:
        raise UsageError(
            "--lora trains adapters, not the model's own parameters",
            "leave --freeze, --only and --keep-zeros away; --lora target=PATTERN chooses weights",
        )
    options = parse_lora(request.lora)
    return LoraForm.of(artifact, options, request.seed)


def parse_lora(text: str) -> LoraOptions:
    """Read ``rank=8:alpha=16:target=*query*+*value*``.

    Raises:
        UsageError: An option is unknown, or a value does not fit.
    """
    _, texts = split_options("adapter", f"lora:{text}")
    return cast(LoraOptions, from_texts(LoraOptions, "--lora", texts))


def training_copy(artifact: Artifact) -> Artifact:
    """Return a copy that takes batches of any size: the last of an epoch may be a smaller one.

    Initializers that old models list as inputs as well are constants here.
    """
    work = artifact.clone()
    graph = work.model.graph
    graph.inputs[:] = [v for v in graph.inputs if v.name not in graph.initializers]
    work.model.ir_version = max(work.model.ir_version, 4)  # before it, they had to be inputs
    fixed = fixed_batch(artifact.spec)
    if fixed is None:
        return work
    return Artifact(FreeBatch().apply(work.model, PassContext()).model)


def content(value: ir.Value) -> Array:
    """Return an initializer's content."""
    assert value.const_value is not None  # initializers have contents
    return value.const_value.numpy()


def with_weights(artifact: Artifact, weights: Mapping[str, Array]) -> Artifact:
    """Return the model in inference form with other weights."""
    made = artifact.clone()
    for name, array in weights.items():
        made.model.graph.initializers[name].const_value = ir.Tensor(array, name=name)
    inference_form(made.model)
    return made


def fingerprint(artifact: Artifact) -> str:
    """Return a digest of a model's operators and weights, by which a checkpoint knows it."""
    digest = hashlib.sha256()
    for node in artifact.model.graph:
        digest.update(f"{node.domain}:{node.op_type}".encode())
    for name, value in artifact.model.graph.initializers.items():
        digest.update((name or "").encode())
        if value.const_value is not None:
            for chunk in tensor_chunks(value.const_value):
                digest.update(chunk)
    return digest.hexdigest()[:16]


def class_count(artifact: Artifact, output: str) -> int | None:
    """Return how many classes an output of scores has, None where that is not known."""
    shape = artifact.spec.output(output).shape
    if not shape or len(shape) < 2:
        return None
    size = shape[-1] if len(shape) <= 3 else shape[1]
    return size if isinstance(size, int) else None
