"""Train or fine-tune a model."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxsmith.artifact import Artifact, Step
from onnxsmith.errors import RefusedError, SmithError, UsageError
from onnxsmith.passes.autodiff.training_form import (
    seed_random,
    train_batch_norm,
    train_dropout,
)
from onnxsmith.pipeline.data import open_data, refuse_shared
from onnxsmith.pipeline.data.base import Batch, DataSource
from onnxsmith.pipeline.evaluation import evaluate
from onnxsmith.pipeline.training.augment import mixup
from onnxsmith.pipeline.training.batches import Augment, Shuffled
from onnxsmith.pipeline.training.checkpoint import Checkpoint
from onnxsmith.pipeline.training.faults import first_bad, fit_labels
from onnxsmith.pipeline.training.forms import (
    LoraForm,
    class_count,
    content,
    fingerprint,
    make_form,
    training_copy,
)
from onnxsmith.pipeline.training.graphs import GradientGraph, GradientOptions, gradient_graph
from onnxsmith.pipeline.training.images import ImageAugment
from onnxsmith.pipeline.training.logs import open_logs
from onnxsmith.pipeline.training.losses.graph import GraphLoss
from onnxsmith.pipeline.training.losses.table import make_loss
from onnxsmith.pipeline.training.optimizers.table import make_optimizer
from onnxsmith.pipeline.training.parallel.start import make_stepper
from onnxsmith.pipeline.training.privacy import PrivacyOptions
from onnxsmith.pipeline.training.qat import QuantizedForm
from onnxsmith.pipeline.training.request import Epoch, TrainRequest, TrainResult
from onnxsmith.pipeline.training.schedules import Plateau, make_schedule
from onnxsmith.pipeline.training.selection import check_request, loss_scale_of, matches
from onnxsmith.pipeline.training.stepper import Noise, StepOptions
from onnxsmith.runtime.memory import Array
from onnxsmith.runtime.session import Session

_SCORING_BATCH = 256
_SEEDS = 100_003


Observer = Callable[[Epoch], None]

Progress = Callable[[int, int, int, float], None]
"""Called after each batch with the epoch, the samples done and in all, and the batch's loss."""


def train(
    artifact: Artifact,
    request: TrainRequest,
    observe: Observer | None = None,
    progress: Progress | None = None,
) -> TrainResult:
    """Return the trained model; the input stays as it was.

    Args:
        artifact: A model of any opset, in inference or in training form.
        request: How to train.
        observe: Called after each epoch.
        progress: Called after each batch.

    Raises:
        SmithError: The data, the loss or a checkpoint does not fit, or a node cannot be
            differentiated.
        RefusedError: The loss became NaN or infinite; the last checkpoint stays.
        UsageError: An option is wrong.
    """
    run = _Run(artifact, request, progress or (lambda epoch, done, total, loss: None))
    return run.run(observe or (lambda epoch: None))


class _Run:
    """One training run."""

    def __init__(self, artifact: Artifact, request: TrainRequest, progress: Progress) -> None:
        check_request(request)
        self.artifact, self.request, self.progress = artifact, request, progress
        self.model = fingerprint(artifact)
        self.logs = open_logs(request.log, request.tensorboard)
        self.source = open_data(request.data, artifact.spec)
        self.held_out: DataSource | None = None
        if request.eval_data is not None:
            self.held_out = open_data(request.eval_data, artifact.spec)
            refuse_shared(self.source, self.held_out)
        self.optimizer = make_optimizer(request.optimizer)
        self.schedule = make_schedule(request.schedule)
        self.rate = self.optimizer.rate if request.rate is None else request.rate
        self.loss = make_loss(request.loss)
        self.privacy = PrivacyOptions.of(request)
        self.scale = loss_scale_of(request)
        if self.privacy is not None and not self.loss.separable:
            raise UsageError(
                f"the loss {request.loss!r} mixes samples, so that none is private",
                "choose one that is a mean over samples, such as cross-entropy",
            )
        self.form = (
            QuantizedForm.of(artifact, request) if request.qat else make_form(artifact, request)
        )
        self.trained = training_copy(self.form.artifact)
        self.graph, self.random, remembered = self._graph()
        held = self.form.artifact.model.graph.initializers
        weights = {name: content(held[name]) for name in self.graph.gradients}
        kept = {name: content(held[name]) for name in remembered}
        options = StepOptions(
            self.optimizer,
            clip=request.clip,
            accumulates=request.accumulate > 1,
            average=request.average,
            keep_zeros=request.keep_zeros,
            no_decay=self.form.no_decay | {n for n in weights if matches(n, request.no_decay)},
            noise=self._noise(),
            loss_scale=self.scale,
            target=request.target,
            threads=request.threads,
        )
        self.stepper = make_stepper(request, self.graph, weights, kept, options)
        self.labels = self.graph.artifact.spec.input(self.graph.labels)
        if request.mixup and self.labels.dtype == "int64":
            raise UsageError("mixup makes soft labels", "give --loss cross-entropy:labels=soft")
        self.batches = Shuffled(
            self.source,
            self.trained.spec,
            request.batch_size * request.parallel,
            request.seed,
            augment=self._changes(),
            workers=request.workers,
            poisson=self.privacy is not None,
        )
        self.rows: list[Epoch] = []
        self.best: tuple[float, dict[str, Array]] | None = None
        self.idle = self.plateaus = 0

    def run(self, observe: Observer) -> TrainResult:
        """Run the epochs that are left."""
        with self.stepper, self.logs:
            first = self._resume()
            size = self.batches.batch_size * self.request.accumulate
            per_epoch = math.ceil(self.batches.count() / size)
            for number in range(first, self.request.epochs):
                row = self._epoch(number, per_epoch * self.request.epochs)
                self.rows.append(row)
                self._watch(row)
                self._save(number + 1)
                self.logs.write(self.rows)
                observe(row)
                if self.request.patience is not None and self.idle >= self.request.patience:
                    break
            weights = (self.best[1] if self.best is not None else {}) or self._weights()
        made = self.form.export(weights)
        count = sum(int(np.prod(shape)) for shape in self.stepper.layout.shapes.values())
        found: dict[str, Any] = {"epochs": len(self.rows)}
        if self.privacy is not None and self.rows:
            found |= {"epsilon": self.rows[-1].epsilon, "delta": self.privacy.delta}
        step = Step("train", "train", self._about(), found)
        adapter = self.form.adapter(weights) if isinstance(self.form, LoraForm) else None
        return TrainResult(
            made.with_step(step), tuple(self.rows), count, self.batches.count(), adapter
        )

    def _changes(self) -> tuple[Augment, ...]:
        """Return what is done to batches before they are learned."""
        found: list[Augment] = []
        if self.request.augment is not None:
            found.append(ImageAugment.parse(self.request.augment))
        if self.request.mixup:
            classes = class_count(self.artifact, self.graph.output)
            found.append(mixup(self.request.mixup, classes))
        return tuple(found)

    def _graph(self) -> tuple[GradientGraph, bool, list[str]]:
        work = self.trained.clone()
        remembered: dict[str, ir.Value] = {}
        frozen = self.form.frozen_statistics or self.privacy is not None
        if self.request.batch_norm == "train" and not frozen:
            remembered = train_batch_norm(work.model)
        names = [name for name in self.form.names if name not in remembered]
        random = train_dropout(work.model) > 0 or seed_random(work.model, self.request.seed) > 0
        options = GradientOptions(
            None if self.privacy is None else self.privacy.clip,
            self.request.precision,
            self.scale is not None,
            self.request.recompute,
        )
        graph = gradient_graph(work, names, self.loss, self.request.output, remembered, options)
        return graph, random, list(remembered)

    def _epoch(self, number: int, updates: int) -> Epoch:
        start = time.perf_counter()
        if self.random:
            self.stepper.renew(self.request.seed * _SEEDS + number + 1)
        total, samples, held, rate = 0.0, 0, 0, self.rate
        for batch in self.batches.epoch(number):
            assert batch.labels is not None  # Shuffled refuses data without
            if not len(batch):  # private batches are drawn by chance
                self.stepper.no_gradient()
                self.stepper.update(self._rate(updates, number))
                continue
            labels = fit_labels(batch.labels, self.labels, self.graph.classes, self.graph.ignored)
            loss = self.stepper.gradient(batch.inputs, labels)
            if not math.isfinite(loss):
                self._refuse(batch, labels, number, loss)
            total, samples, held = total + loss * len(batch), samples + len(batch), held + 1
            self.progress(number + 1, samples, self.batches.count(), loss)
            if self.request.accumulate > 1:
                self.stepper.accumulate()
            if held == self.request.accumulate:
                rate = self._rate(updates, number)
                self.stepper.update(rate, held)
                held = 0
        if held:
            self.stepper.update(self._rate(updates, number), held)
        self._check_finite(number)
        metrics = self._score()
        seconds = time.perf_counter() - start
        done = self.stepper.updates
        loss = total / max(samples, 1)
        return Epoch(number + 1, loss, rate, metrics, seconds, done, self._epsilon())

    def _noise(self) -> Noise | None:
        if self.privacy is None:
            return None
        deviation = self.privacy.noise * self.privacy.clip
        return Noise(deviation, self.request.batch_size * self.request.parallel, self.request.seed)

    def _epsilon(self) -> float | None:
        if self.privacy is None:
            return None
        share = min(self.batches.batch_size / self.batches.count(), 1.0)
        return self.privacy.epsilon(share, self.stepper.updates)

    def _rate(self, updates: int, epoch: int) -> float:
        factor = self.schedule.at(self.stepper.updates, updates, epoch)
        if isinstance(self.schedule, Plateau):
            factor *= self.schedule.gamma**self.plateaus
        return self.rate * factor

    def _weights(self) -> dict[str, Array]:
        return self.stepper.weights(averaged=self.request.average is not None)

    def _score(self) -> dict[str, float]:
        if self.held_out is None:
            return {}
        made = self.form.export(self._weights())
        metrics = list(self.request.metrics) or None
        with Session(made, self.request.target, threads=self.request.threads) as session:
            result = evaluate(session, self.held_out, metrics, _SCORING_BATCH)
        return dict(result.metrics)

    def _watch(self, row: Epoch) -> None:
        """Keep the best parameters, and count epochs without a better score."""
        figure = -row.loss
        if row.metrics:
            name = next(iter(row.metrics))
            sign = -1 if name in ("mae", "mse", "rmse", "log-loss") else 1
            figure = sign * row.metrics[name]
        if self.best is None or figure > self.best[0]:
            # Without early stopping the last parameters are the result: none are kept.
            self.best = (figure, self._weights() if self.request.patience is not None else {})
            self.idle = 0
            return
        self.idle += 1
        if isinstance(self.schedule, Plateau) and self.idle >= self.schedule.patience:
            self.plateaus, self.idle = self.plateaus + 1, 0

    def _refuse(self, batch: Batch, labels: Array, number: int, loss: float) -> None:
        feeds = {**batch.inputs, self.graph.labels: labels}
        known = {value.name for value in self.graph.artifact.spec.inputs}
        feeds |= {n: a for n, a in self.stepper.weights().items() if n in known}
        place = first_bad(self.graph.artifact, feeds)
        where = f"; the first tensor that is not finite is {place!r}" if place else ""
        what = f"the loss became {loss} in epoch {number + 1}{where}"
        if place is not None and place in {*batch.inputs, self.graph.labels}:
            raise RefusedError(what, "the data holds it: clean them")
        raise self._refusal(what, number)

    def _check_finite(self, number: int) -> None:
        """Refuse parameters that the last update broke: they must not become a checkpoint."""
        for name, array in self.stepper.weights().items():
            if not np.isfinite(array).all():
                raise self._refusal(f"{name!r} is not finite after epoch {number + 1}", number)

    def _refusal(self, what: str, number: int) -> RefusedError:
        kept = self.request.checkpoint is not None and number > 0
        return RefusedError(
            what,
            "lower --lr, or give --clip 1"
            + ("; the checkpoint holds the last good epoch" if kept else ""),
        )

    def _about(self) -> dict[str, Any]:
        """What decides the run, for the history and for checkpoints."""
        request = self.request
        return {
            "model": self.model,
            "data": self.source.describe(),
            "loss": self.loss.name if isinstance(self.loss, GraphLoss) else request.loss,
            "optimizer": request.optimizer,
            "rate": self.rate,
            "schedule": request.schedule,
            "epochs": request.epochs,
            "batch_size": request.batch_size,
            "accumulate": request.accumulate,
            **({"parallel": request.parallel} if request.parallel > 1 else {}),
            "seed": request.seed,
            **({"augment": request.augment} if request.augment else {}),
            **({"mixup": request.mixup} if request.mixup else {}),
            **({"lora": request.lora} if request.lora else {}),
            **({"qat": True} if request.qat else {}),
            **({"precision": request.precision} if request.precision else {}),
            **({"loss_scale": request.loss_scale} if request.loss_scale else {}),
            **({"private": request.private} if request.private else {}),
            **({"clip": request.clip} if request.clip is not None else {}),
            **({"average": request.average} if request.average is not None else {}),
            **({"keep_zeros": True} if request.keep_zeros else {}),
            **({"no_decay": list(request.no_decay)} if request.no_decay else {}),
            **({"batch_norm": "frozen"} if request.batch_norm == "frozen" else {}),
            "trained": sorted(self.stepper.layout.shapes),
        }

    def _save(self, epochs: int) -> None:
        if self.request.checkpoint is None:
            return
        about = {
            "run": self._about(),
            "epochs": epochs,
            "rows": [asdict(row) for row in self.rows],
            "idle": self.idle,
            "plateaus": self.plateaus,
            "best": None if self.best is None else self.best[0],
        }
        arrays = self.stepper.state()
        if self.best is not None:
            arrays |= {f"best:{name}": array for name, array in self.best[1].items()}
        Checkpoint(arrays, about).save(self.request.checkpoint)

    def _resume(self) -> int:
        """Put back the checkpoint; return the epochs it has behind it."""
        if not self.request.resume or self.request.checkpoint is None:
            return 0
        found = Checkpoint.load(self.request.checkpoint)
        if found is None:
            return 0
        theirs, ours = dict(found.about.get("run", {})), self._about()
        for run in (theirs, ours):
            run.pop("epochs", None)  # more of them may be asked for
        wrong = [key for key in {**ours, **theirs} if theirs.get(key) != ours.get(key)]
        if wrong:
            raise SmithError(
                f"the checkpoint is of another run: {wrong[0]} differs",
                "resume with the options it was made with, or name another folder",
            )
        self.stepper.restore(found.arrays)
        self.rows = [Epoch(**row) for row in found.about["rows"]]
        self.idle, self.plateaus = found.about["idle"], found.about["plateaus"]
        if found.about["best"] is not None:
            best = {
                name.removeprefix("best:"): array
                for name, array in found.arrays.items()
                if name.startswith("best:")
            }
            self.best = (found.about["best"], best)
        return int(found.about["epochs"])
