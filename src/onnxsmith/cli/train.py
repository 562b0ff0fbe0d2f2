"""``onnxsmith train``: train or fine-tune a model on the plain runtime."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onnxsmith.cli.options import (
    RecordCommand,
    json_option,
    seed_option,
    target_option,
    threads_option,
)

if TYPE_CHECKING:
    from onnxsmith.artifact import Artifact
    from onnxsmith.pipeline.training.request import Epoch, TrainRequest, TrainResult


@click.command("train", cls=RecordCommand)
@click.argument("source", type=click.Path(path_type=Path), metavar="IN.onnx|NET.yaml")
@click.option(
    "-o",
    "--output",
    "target_file",
    type=click.Path(path_type=Path),
    required=True,
    metavar="OUT.onnx",
    help="The file to write.",
)
@click.option("--data", required=True, metavar="D", help="Labelled data to train on.")
@click.option("--eval-data", metavar="D", help="Held-out data, scored after each epoch.")
@click.option(
    "--loss",
    default="cross-entropy",
    show_default=True,
    metavar="L",
    help="What is made small: cross-entropy:smoothing=0.1, mse, ..., FILE.onnx or module:function.",
)
@click.option(
    "--optimizer",
    default="adam",
    show_default=True,
    metavar="O",
    help="sgd, momentum, nesterov, rmsprop, adagrad, adam, adamw:decay=0.1, lion or lamb.",
)
@click.option(
    "--lr", "rate", type=click.FloatRange(min=0), help="The learning rate; the optimizer's own."
)
@click.option(
    "--schedule",
    default="constant",
    show_default=True,
    metavar="S",
    help="constant, step, cosine:warm-up=100, one-cycle or plateau.",
)
@click.option("--epochs", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True)
@click.option(
    "--accumulate",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Batches whose gradients make one update.",
)
@click.option(
    "--parallel",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes that each compute the gradient of a batch; one update is made of all.",
)
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Where those processes run: here, or on a Ray cluster.",
)
@click.option(
    "--precision",
    type=click.Choice(["float16", "bfloat16"]),
    help="Compute products in half precision; parameters and losses stay float32.",
)
@click.option(
    "--loss-scale",
    metavar="X",
    help="Multiply the loss by a number, or by a dynamic one; float16: dynamic.",
)
@click.option(
    "--recompute",
    multiple=True,
    metavar="auto|PATTERN",
    help="Keep fewer activations, or those named, and compute the others again: less memory.",
)
@click.option("--clip", type=click.FloatRange(min=0), help="The greatest length of the gradient.")
@click.option(
    "--average",
    type=click.FloatRange(min=0, max=1, max_open=True),
    help="Write a moving average of the parameters; how much of it stays, such as 0.999.",
)
@click.option("--freeze", multiple=True, metavar="PATTERN", help="Parameters to leave as they are.")
@click.option("--only", multiple=True, metavar="PATTERN", help="The only parameters to train.")
@click.option("--no-decay", multiple=True, metavar="PATTERN", help="Parameters that do not decay.")
@click.option(
    "--lora",
    metavar="OPTIONS",
    help="Train adapters beside weights and merge them: rank=8:alpha=16:target='*attn*'.",
)
@click.option(
    "--adapter",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.npz",
    help="Write the adapters of --lora here as well.",
)
@click.option(
    "--qat",
    is_flag=True,
    help="Train the model as it computes in int8, its scales as well, and write that one.",
)
@click.option("--keep-zeros", is_flag=True, help="Parameters that are zero stay zero.")
@click.option(
    "--batch-norm",
    type=click.Choice(["train", "frozen"]),
    default="train",
    show_default=True,
    help="Normalize by each batch, or by what the model remembers.",
)
@click.option(
    "--augment",
    metavar="OPTIONS",
    help="Change images by chance: flip=0.5:crop=2:rotate=10:color=0.2:cutout=4.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Threads that change batches ahead of the training.",
)
@click.option(
    "--private",
    metavar="OPTIONS",
    help="Differential privacy of each sample: noise=1.1:clip=1:delta=1e-5.",
)
@click.option("--mixup", type=click.FloatRange(min=0, min_open=True), help="Blend samples.")
@click.option(
    "--patience",
    type=click.IntRange(min=1),
    help="Stop after so many epochs without a better score, and write the best.",
)
@click.option("--metric", "metrics", multiple=True, metavar="M", help="What is scored.")
@click.option("--output-name", "output", metavar="NAME", help="The model's output that is learned.")
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Keep the state after each epoch here.",
)
@click.option("--resume", is_flag=True, help="Go on from the checkpoint, if there is one.")
@click.option(
    "--log",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.csv",
    help="Write a row an epoch.",
)
@click.option(
    "--tensorboard",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write TensorBoard's event files here.",
)
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.html",
    help="Write a report with the learning curves.",
)
@target_option
@threads_option
@seed_option
@json_option
def command(values: Mapping[str, Any]) -> None:
    """Train IN.onnx, or a network described in YAML, on labelled data; write OUT.onnx.

    Backward pass and optimizer are ordinary ONNX operators: what runs the model trains it.
    """
    from onnxsmith.cli.progress import TrainingBar
    from onnxsmith.errors import UsageError
    from onnxsmith.pipeline.training.request import TrainRequest
    from onnxsmith.pipeline.training.train import train
    from onnxsmith.storage.atomic import check_writable
    from onnxsmith.target import find_target

    target_file, as_json = values["target_file"], values["as_json"]
    adapter = values["adapter"]
    if adapter is not None and values["lora"] is None:
        raise UsageError("--adapter needs adapters to write", "give --lora rank=8")
    for path in (target_file, values["log"], values["report"], adapter):
        if path is not None:
            check_writable(path)
    artifact = _load(values["source"], values["seed"])
    known = {field.name for field in dataclasses.fields(TrainRequest)}
    chosen = {name: value for name, value in values.items() if name in known}
    request = TrainRequest(**chosen, target=find_target(values["target_name"]))
    if as_json:
        result = train(artifact, request)
    else:
        epochs = request.epochs
        with TrainingBar(epochs) as bar:
            result = train(artifact, request, lambda row: _show(row, epochs), bar.show)
    _finish(result, target_file, adapter, as_json)
    if values["report"] is not None:
        _write_report(values["report"], values["source"], target_file, artifact, request, result)


def _write_report(
    report: Path,
    source: Path,
    output: Path,
    artifact: Artifact,
    request: TrainRequest,
    result: TrainResult,
) -> None:
    from onnxsmith.pipeline.report.html import to_html
    from onnxsmith.pipeline.training.report import training_report
    from onnxsmith.storage.atomic import write_text

    made = training_report(source.name, output.name, artifact, request, result)
    write_text(report, to_html(made))


def _load(source: Path, seed: int) -> Artifact:
    """Return the model of a file: ONNX as it is, a network in YAML with its initial weights."""
    from onnxsmith.artifact import Artifact

    if source.suffix.lower() not in (".yaml", ".yml"):
        return Artifact.load(source)
    from onnxsmith.pipeline.frontends.convert import convert

    return convert(source, seed=seed).artifact


def _finish(result: TrainResult, output: Path, adapter: Path | None, as_json: bool) -> None:
    from onnxsmith.cli.output import print_json, print_line

    result.artifact.save(output)
    if adapter is not None and result.adapter is not None:
        result.adapter.save(adapter)
    if as_json:
        print_json(result.to_json())
        return
    print_line(f"trained {result.parameters:,} parameters, wrote {output}")


def _show(row: Epoch, epochs: int) -> None:
    from onnxsmith.cli.output import print_line

    scores = "".join(f"  {name} {value:.4f}" for name, value in row.metrics.items())
    epsilon = "" if row.epsilon is None else f"  epsilon {row.epsilon:.3f}"
    print_line(
        f"epoch {row.number}/{epochs}  loss {row.loss:.4f}{scores}{epsilon}  "
        f"{row.updates} updates  {row.seconds:.1f} s"
    )
