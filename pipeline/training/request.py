"""What a training run is asked for, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from onnxsmith.artifact import Artifact
from onnxsmith.passes.lora.adapter import Adapter
from onnxsmith.target import TARGETS, Target


@dataclass(frozen=True)
class TrainRequest:
    """How to train.

    Attributes:
        data: A labelled data source as text.
        eval_data: Held-out data, scored after each epoch.
        loss: A loss with its options, such as ``cross-entropy:smoothing=0.1``.
        optimizer: An optimizer with its options.
        rate: The learning rate; the optimizer's own where None.
        schedule: A schedule with its options.
        epochs: Times that all samples are seen.
        batch_size: Samples a gradient is computed of.
        accumulate: Batches whose gradients make one update.
        clip: The greatest length of the gradient.
        average: Export a moving average of the parameters: how much of it stays in each update.
        lora: Train adapters in the place of weights; ``rank=8:alpha=16:target=*attn*``.
        qat: Train the model as it computes once it is quantized, and give the quantized one.
        keep_zeros: Parameters that are zero at first stay zero.
        freeze: Patterns of parameters that stay as they are (``conv*``).
        only: Patterns of the parameters that are trained; all where empty.
        no_decay: Patterns of parameters that weight decay leaves alone.
        batch_norm: ``train`` uses each batch's statistics, ``frozen`` those that the model has.
        augment: Change images by chance: ``flip=0.5:crop=2:rotate=10:color=0.2:cutout=4``.
        workers: Threads that change batches ahead of the training.
        private: Cut and blur the gradient of each sample; ``noise=1.1:clip=1:delta=1e-5``.
        mixup: Blend samples and labels in pairs; the parameter of the beta distribution.
        patience: Stop after so many epochs without a better score, and keep the best.
        metrics: What is scored; the task's own where empty.
        output: The output that is learned; the first of floats where None.
        checkpoint: A folder that keeps the state after each epoch.
        resume: Go on from the checkpoint.
        log: A CSV file, written anew after each epoch.
        tensorboard: A folder that gets an event file with a point an epoch.
        parallel: Processes that each compute the gradient of ``batch_size`` samples.
        engine: Where they run: on this machine, or as actors of a Ray cluster.
        precision: Compute products in this type, parameters and losses in float32.
        loss_scale: What the loss is multiplied by: a number, or ``dynamic``, which float16 is
            trained with anyway.
        recompute: Compute activations again on the way back instead of keeping them: patterns of
            the values that are kept, or ``auto``. It changes no number.
        seed: Decides the order of samples and all that is random.
        target: Where to train.
        threads: Threads of the sessions.
    """

    data: str
    eval_data: str | None = None
    loss: str = "cross-entropy"
    optimizer: str = "adam"
    rate: float | None = None
    schedule: str = "constant"
    epochs: int = 5
    batch_size: int = 32
    accumulate: int = 1
    clip: float | None = None
    average: float | None = None
    lora: str | None = None
    qat: bool = False
    keep_zeros: bool = False
    freeze: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    no_decay: tuple[str, ...] = ()
    batch_norm: Literal["train", "frozen"] = "train"
    augment: str | None = None
    workers: int = 1
    private: str | None = None
    mixup: float | None = None
    patience: int | None = None
    metrics: tuple[str, ...] = ()
    output: str | None = None
    checkpoint: Path | None = None
    resume: bool = False
    log: Path | None = None
    tensorboard: Path | None = None
    parallel: int = 1
    engine: Literal["local", "ray"] = "local"
    precision: Literal["float16", "bfloat16"] | None = None
    loss_scale: str | None = None
    recompute: tuple[str, ...] = ()
    seed: int = 0
    target: Target = TARGETS["cpu"]
    threads: int | None = None


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to.

    Attributes:
        number: From 1.
        loss: The mean over samples, as they were trained on.
        rate: The last learning rate.
        metrics: Scores on the held-out data.
        seconds: How long it took, scoring included.
        updates: Updates since the beginning.
        epsilon: What they guarantee where training is private.
    """

    number: int
    loss: float
    rate: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    updates: int = 0
    epsilon: float | None = None


@dataclass(frozen=True)
class TrainResult:
    """The trained artifact, in inference form, and how it went.

    Attributes:
        artifact: The model.
        epochs: One row an epoch.
        parameters: How many numbers were trained.
        samples: How many samples an epoch has.
        adapter: The adapter that was trained and merged, None where there is none.
    """

    artifact: Artifact
    epochs: tuple[Epoch, ...]
    parameters: int
    samples: int
    adapter: Adapter | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return {
            "parameters": self.parameters,
            "samples": self.samples,
            "epochs": [asdict(epoch) for epoch in self.epochs],
        }
