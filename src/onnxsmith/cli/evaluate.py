"""``onnxsmith evaluate``: score one or two models on labelled data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onnxsmith.cli.options import json_option, providers_options, target_option, threads_option
from onnxsmith.errors import UsageError

if TYPE_CHECKING:
    from onnxsmith.pipeline.evaluation import Evaluation

_LARGEST_MATRIX = 20


@click.command("evaluate")
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--data", required=True, metavar="D", help="Labelled data, e.g. digits?split=test.")
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="M",
    help="A metric, e.g. accuracy or top-k:k=3; may be repeated. Default: by task.",
)
@click.option("--output", metavar="NAME", help="The model output to score.")
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    metavar="N",
    help="Samples a run, where the model does not fix it.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Score at most N samples.")
@target_option
@threads_option
@providers_options
@json_option
def command(
    models: tuple[Path, ...],
    data: str,
    metrics: tuple[str, ...],
    output: str | None,
    batch_size: int,
    limit: int | None,
    target_name: str,
    threads: int | None,
    providers: tuple[str, ...] | None,
    require_provider: str | None,
    as_json: bool,
) -> None:
    """Score one or two models on labelled data.

    Data that comes in splits is read from its test split, unless the query names another.
    """
    from onnxsmith.artifact import Artifact
    from onnxsmith.cli.output import print_json
    from onnxsmith.pipeline.data import open_data
    from onnxsmith.pipeline.evaluation import evaluate, make_metric
    from onnxsmith.runtime.session import Session
    from onnxsmith.target import find_target

    if len(models) > 2:
        raise UsageError(f"{len(models)} models are given", "give one model, or two to compare")
    for metric in metrics:
        make_metric(metric)
    target = find_target(target_name)
    results: list[Evaluation] = []
    description: dict[str, Any] = {}
    for path in models:
        artifact = Artifact.load(path)
        source = open_data(data, artifact.spec, default_split="test")
        description = source.describe()
        with Session(
            artifact,
            target,
            threads=threads,
            providers=providers,
            require_provider=require_provider,
        ) as session:
            results.append(
                evaluate(session, source, metrics or None, batch_size, limit, output=output)
            )
    names = [str(path) for path in models]
    if as_json:
        print_json(_as_json(names, results, description))
    else:
        _print(names, results, description)


def _as_json(
    names: list[str], results: list[Evaluation], description: dict[str, Any]
) -> dict[str, Any]:
    told: dict[str, Any] = {
        "data": description,
        "models": [
            {"model": name, **result.to_json()} for name, result in zip(names, results, strict=True)
        ],
    }
    if len(results) == 2:
        told["difference"] = _differences(*results)
    return told


def _differences(first: Evaluation, second: Evaluation) -> dict[str, float | None]:
    """Return second minus first for each metric both have; None where it is not finite."""
    pairs = {
        name: second.metrics[name] - value
        for name, value in first.metrics.items()
        if name in second.metrics
    }
    # An infinity minus itself is NaN, which differs from itself.
    return {name: value if value - value == 0 else None for name, value in pairs.items()}


def _print(names: list[str], results: list[Evaluation], description: dict[str, Any]) -> None:
    from onnxsmith.cli.output import print_line, print_table

    split = description["options"].get("split")
    where = f"{description['name']}, split {split}" if split else str(description["name"])
    first = results[0]
    print_line(f"{first.samples} samples of {where}; output {first.output!r}")
    if len(results) == 1:
        rows = [(name, _figure(name, value)) for name, value in first.metrics.items()]
        print_table("", ("metric", names[0]), rows)
    else:
        print_table("", ("metric", *names, "difference"), _compared(*results))
    for name, result in zip(names, results, strict=True):
        _print_confusion(name, result)


def _compared(first: Evaluation, second: Evaluation) -> list[tuple[str, str, str, str]]:
    differences = _differences(first, second)
    return [
        (
            name,
            _figure(name, first.metrics[name]),
            _figure(name, second.metrics[name]),
            _change(name, differences[name]),
        )
        for name in differences
    ]


def _print_confusion(name: str, result: Evaluation) -> None:
    from onnxsmith.cli.output import print_line, print_table

    if result.confusion is None or result.classes is None:
        return
    if len(result.classes) > _LARGEST_MATRIX:
        print_line(f"{len(result.classes)} classes: see --json for the confusion matrix")
        return
    rows = [
        (label, *map(str, counts))
        for label, counts in zip(result.classes, result.confusion.tolist(), strict=True)
    ]
    print_line(f"{name}: a row a true class, a column a predicted one")
    print_table("", ("", *result.classes), rows)


def _is_rate(name: str) -> bool:
    from onnxsmith.pipeline.evaluation import make_metric

    return make_metric(name).is_rate


def _figure(name: str, value: float) -> str:
    return f"{100 * value:.2f} %" if _is_rate(name) else f"{value:.6g}"


def _change(name: str, value: float | None) -> str:
    if value is None:
        return "?"
    return f"{100 * value:+.2f} points" if _is_rate(name) else f"{value:+.4g}"
