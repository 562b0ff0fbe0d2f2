"""``onnxsmith optimize``: rewrite a model with checked passes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from onnxsmith.cli.options import (
    data_option,
    dim_option,
    json_option,
    seed_option,
    strict_option,
    target_option,
    threads_option,
    tolerance_options,
)

if TYPE_CHECKING:
    from onnxsmith.pipeline.optimize import OptimizeResult


@click.command("optimize")
@click.argument("source", type=click.Path(path_type=Path), metavar="IN.onnx")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="OUT.onnx",
    help="The file to write.",
)
@click.option("--passes", "spec", metavar="SPEC", help="Passes, e.g. fold-constants,fuse-gemm.")
@click.option("--preset", metavar="P", help="safe, cpu, cuda, tensorrt or edge; default: target's.")
@target_option
@click.option(
    "--verify",
    type=click.Choice(["end", "each", "off"]),
    default="end",
    show_default=True,
    help="Check the result at the end, after each pass, or not.",
)
@data_option
@dim_option
@tolerance_options
@click.option("--repair", is_flag=True, help="Mend an invalid graph: names, imports, order.")
@click.option("--allow-slower", is_flag=True, help="Keep the result without measuring its speed.")
@click.option("--dump", type=click.Path(path_type=Path), metavar="DIR", help="Write each graph.")
@click.option("--external/--embed", default=None, help="Where weights go; default: as they were.")
@click.option("--shard-size", metavar="SIZE", help="Spread weights over files of e.g. 500MB.")
@threads_option
@seed_option
@strict_option
@json_option
def command(
    source: Path,
    output: Path,
    spec: str | None,
    preset: str | None,
    target_name: str,
    verify: str,
    data: str | None,
    dims: tuple[str, ...],
    rtol: float | None,
    atol: float | None,
    repair: bool,
    allow_slower: bool,
    dump: Path | None,
    external: bool | None,
    shard_size: str | None,
    threads: int | None,
    seed: int,
    strict: bool,
    as_json: bool,
) -> int:
    """Rewrite IN.onnx with passes, check the result, and write OUT.onnx.

    Passes that break the model are left out and named (exit code 3). Fusions of a
    preset that measure slower are left out and named as well.
    """
    from onnxsmith.cli.main import DONE, ROLLED_BACK
    from onnxsmith.cli.options import parse_size
    from onnxsmith.errors import UsageError
    from onnxsmith.numerics import override
    from onnxsmith.pipeline.optimize import OptimizeRequest, optimize
    from onnxsmith.pipeline.repair import load_artifact
    from onnxsmith.spec import parse_dims
    from onnxsmith.storage.atomic import check_writable
    from onnxsmith.target import find_target

    check_writable(output)
    shard_bytes = None if shard_size is None else parse_size(shard_size)
    if shard_bytes is not None and external is False:
        raise UsageError("--shard-size and --embed exclude each other", "give one of them")
    if spec is not None and preset is not None:
        raise UsageError("--passes and --preset exclude each other", "give one of them")
    artifact, repairs = load_artifact(source, repair=repair)
    result = optimize(
        artifact,
        OptimizeRequest(
            passes=spec,
            preset=preset,
            target=find_target(target_name),
            verify=verify,
            data=data,
            dims=parse_dims(dims),
            tolerance=override(rtol, atol),
            gate=not allow_slower and spec is None,
            dump=dump,
            threads=threads,
            seed=seed,
            progress=lambda words: click.echo(words, err=True),
        ),
    )
    result.artifact.save(output, external, shard_bytes)
    if not as_json:
        _show_repairs(repairs)
    _show(result, output, as_json=as_json)
    if any(d.cause != "slower" for d in result.dropped) or (strict and result.dropped):
        return ROLLED_BACK
    return DONE


def _show_repairs(repairs: tuple[str, ...]) -> None:
    from onnxsmith.cli.output import print_line

    for words in repairs:
        print_line(f"repaired: {words}")


def _show(result: OptimizeResult, output: Path, *, as_json: bool) -> None:
    from onnxsmith.cli.output import print_json, print_line, print_table, print_warning
    from onnxsmith.passes.observers import census
    from onnxsmith.runtime.census import changed_operators

    if as_json:
        print_json(result.to_json())
        return
    rows = [
        (r.pass_, r.nodes_before, r.nodes_after, f"{r.seconds * 1e3:.0f} ms")
        for r in result.pipeline.runs
        if r.modified
    ]
    if rows:
        print_table("", ("pass", "nodes before", "nodes after", "time"), rows)
    if result.runtime_census_before is not None and result.runtime_census_after is not None:
        changed = changed_operators(result.runtime_census_before, result.runtime_census_after)
        if changed:
            columns = ("operator that the runtime runs", "before", "after")
            print_table("", columns, [(name, *counts) for name, counts in changed.items()])
    if result.kernels:
        print_table(
            "",
            ("fused kernel", "places", "ms", "ms of its parts", "pays"),
            [
                (k.op_type, k.count, f"{k.fused_ms:.3g}", f"{k.plain_ms:.3g}", _yes(k.pays))
                for k in result.kernels
            ],
        )
    for warning in (*result.dropped_in_words(), *result.warnings):
        print_warning(warning)
    before = sum(result.pipeline.census_before.values())
    after = sum(census(result.artifact.model).values())
    print_line(f"{before} nodes -> {after} nodes, {result.check_in_words()}")
    if result.speed:
        print_line(result.speed)
    print_line(f"wrote {output}")


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"
