"""``onnxsmith bench``: measure models against each other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from onnxsmith.cli.options import (
    dim_option,
    json_option,
    providers_options,
    seed_option,
    target_option,
    threads_option,
)

if TYPE_CHECKING:
    from onnxsmith.runtime.bench import BenchResult
    from onnxsmith.runtime.measurement import Measurement


@click.command("bench")
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    metavar="N",
    help="Turns of each model; to compare, at least 3.",
)
@click.option(
    "--runs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Timed runs in a turn. Default: a quarter of a second, 10 to 500 runs.",
)
@click.option(
    "--warmup",
    type=click.IntRange(min=0),
    default=3,
    show_default=True,
    metavar="N",
    help="Runs before the timed ones in each turn.",
)
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    metavar="N",
    help="Size of the inputs' first axis where the model leaves it free.",
)
@dim_option
@click.option("--inputs", metavar="X.npz", help="Inputs for all models. Default: made up.")
@click.option(
    "--isolate/--in-process",
    default=True,
    help="Each turn in a process of its own (default), or all in this one.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=600.0,
    show_default=True,
    metavar="S",
    help="Seconds after which an isolated turn is given up.",
)
@target_option
@threads_option
@providers_options
@seed_option
@json_option
def command(
    models: tuple[Path, ...],
    rounds: int,
    runs: int | None,
    warmup: int,
    batch: int | None,
    dims: tuple[str, ...],
    inputs: str | None,
    isolate: bool,
    timeout: float,
    target_name: str,
    threads: int | None,
    providers: tuple[str, ...] | None,
    require_provider: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """Measure models against each other; each further one is compared with the first.

    A comparison is the ratio of the median latencies with a 95 % confidence interval; where the
    interval holds 1, there is no change to speak of.
    """
    from onnxsmith.runtime.bench import bench
    from onnxsmith.spec import parse_dims
    from onnxsmith.target import find_target

    feeds = None
    if inputs is not None:
        from onnxsmith.pipeline.data.archive import load_archive

        feeds = load_archive(inputs)
    result = bench(
        models,
        target=find_target(target_name),
        threads=threads,
        providers=providers,
        require_provider=require_provider,
        dims=parse_dims(dims),
        batch=batch,
        rounds=rounds,
        runs=runs,
        warmup=warmup,
        isolate=isolate,
        feeds=feeds,
        seed=seed,
        timeout_s=timeout,
    )
    if as_json:
        from onnxsmith.cli.output import print_json

        print_json(result.to_json())
    else:
        _show(result)


def _show(result: BenchResult) -> None:
    from onnxsmith.cli.output import print_line, print_table

    columns = ("model", "p50 ms", "p90 ms", "p99 ms", "items/s", "load ms", "MB", "runs")
    print_table("Latency", columns, [_row(m) for m in result.measurements])
    for comparison in result.comparisons:
        style = {"faster": "green", "slower": "red"}.get(comparison.verdict, "")
        print_line(comparison.sentence(), style)
    machine = result.environment
    used = ", ".join(result.measurements[0].providers)
    print_line(
        f"{used} on {machine.cores} cores of {machine.cpu}, {_conditions(result.settings)}", "dim"
    )


def _row(measurement: Measurement) -> tuple[str, ...]:
    memory = measurement.peak_memory_bytes
    return (
        measurement.name,
        _figure(measurement.p50_ms),
        _figure(measurement.p90_ms),
        _figure(measurement.p99_ms),
        _figure(measurement.throughput),
        _figure(measurement.load_ms or 0.0),
        "" if memory is None else f"{memory / 1e6:.0f}",
        str(len(measurement.samples_ms)),
    )


def _figure(value: float) -> str:
    """Return three significant digits, and all digits before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _conditions(settings: Mapping[str, object]) -> str:
    threads = settings["threads"]
    where = "a process for each turn" if settings["isolated"] else "all in one process"
    return f"{settings['rounds']} rounds, {threads or 'default'} threads, {where}"
