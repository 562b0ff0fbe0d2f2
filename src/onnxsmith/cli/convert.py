"""``onnxsmith convert``: make an ONNX model from any framework's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from onnxsmith.cli.batch import ConvertCommand
from onnxsmith.cli.options import (
    data_option,
    dim_option,
    env_dir_option,
    json_option,
    seed_option,
    target_option,
    tolerance_options,
)
from onnxsmith.cli.output import print_json, print_line, print_table, print_warning

if TYPE_CHECKING:
    from onnxsmith.numerics import Tolerance
    from onnxsmith.pipeline.frontends.convert import ConvertResult


@click.command(name="convert", cls=ConvertCommand)
@click.argument("source")
@click.option("-o", "--output", required=True, metavar="OUT.onnx", help="The file to write.")
@click.option("--from", "framework", metavar="FRAMEWORK", help="The frontend; else found out.")
@click.option("--weights", metavar="FILE", help="A second file that holds the weights.")
@click.option(
    "--part",
    metavar="NAME",
    help="Which model, where SOURCE holds several: a signature, encoder, decoder.",
)
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="NAME:DTYPE[D,D,...]",
    help="An input, e.g. 'x:float32[batch,3,224,224]'; named dimensions stay open.",
)
@click.option("--opset", type=int, metavar="N", help="The ai.onnx opset. Default: 20 at most.")
@click.option(
    "--rename",
    "renames",
    multiple=True,
    metavar="OLD=NEW",
    help="Rename an input, an output or a dimension; may be repeated.",
)
@click.option(
    "--preprocess",
    multiple=True,
    metavar="[INPUT?]KEY=VALUE&...",
    help="Build in scale, mean, std, layout, swap, dtype, e.g. 'scale=1/255&layout=NHWC'.",
)
@click.option("--reference", metavar="NPZ|DIR", help="Recorded inputs and outputs to compare with.")
@click.option("--repair", is_flag=True, help="Mend an invalid graph: order, names, shapes.")
@click.option(
    "--allow-domain", "domains", multiple=True, metavar="D", help="Let in custom operators of D."
)
@click.option("--no-verify", is_flag=True, help="Write without comparing with the source.")
@click.option("--trust", is_flag=True, help="Load files that run code when they are loaded.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=3600.0,
    show_default=True,
    metavar="S",
    help="Seconds that loading, exporting or one run of the source may take.",
)
@click.option(
    "--memory",
    type=click.FloatRange(min=0, min_open=True),
    metavar="GIB",
    help="Memory that the source's framework may take. Default: 90% of what is free.",
)
@target_option
@dim_option
@data_option
@seed_option
@tolerance_options
@env_dir_option
@json_option
def command(
    source: str,
    output: str,
    framework: str | None,
    weights: str | None,
    part: str | None,
    inputs: tuple[str, ...],
    opset: int | None,
    renames: tuple[str, ...],
    preprocess: tuple[str, ...],
    reference: str | None,
    repair: bool,
    domains: tuple[str, ...],
    no_verify: bool,
    trust: bool,
    timeout: float,
    memory: float | None,
    target_name: str,
    dims: tuple[str, ...],
    data: str | None,
    seed: int,
    rtol: float | None,
    atol: float | None,
    environments: Path | None,
    as_json: bool,
) -> None:
    """Make an ONNX model of SOURCE: a file or package.module:callable.

    The model is compared with its source before it is written; exit code 4 means that they
    differ and nothing was written. A callable is run, as are files with --trust.
    """
    from onnxsmith.pipeline.frontends.convert import convert
    from onnxsmith.pipeline.frontends.names import parse_renames
    from onnxsmith.pipeline.frontends.process import Limits
    from onnxsmith.spec import parse_dims
    from onnxsmith.storage.atomic import check_writable
    from onnxsmith.target import find_target

    check_writable(Path(output))
    result = convert(
        source,
        framework=framework,
        weights=weights,
        part=part,
        inputs=inputs,
        dims=parse_dims(dims),
        opset=opset,
        target=find_target(target_name),
        data=data,
        rename=parse_renames(renames),
        preprocess=preprocess,
        reference=reference,
        repair=repair,
        domains=domains,
        verify=not no_verify,
        tolerance=_tolerance(rtol, atol),
        trust=trust,
        seed=seed,
        limits=Limits(timeout, None if memory is None else int(memory * 2**30)),
        environments=environments,
    )
    result.artifact.save(output)
    for warning in result.warnings:
        print_warning(warning)
    _report(result, output, as_json=as_json)


def _tolerance(rtol: float | None, atol: float | None) -> Tolerance | None:
    """Return the tolerance asked for; what was left out is that of float32."""
    if rtol is None and atol is None:
        return None
    import numpy as np

    from onnxsmith.numerics import Tolerance, tolerance_for

    usual = tolerance_for(np.dtype(np.float32))
    return Tolerance(
        usual.rtol if rtol is None else rtol,
        usual.atol if atol is None else atol,
    )


def _report(result: ConvertResult, output: str, *, as_json: bool) -> None:
    spec = result.artifact.spec
    opset = result.artifact.model.opset_imports.get("")
    if as_json:
        print_json(
            {
                "frontend": result.frontend,
                "opset": opset,
                "ir_version": result.artifact.model.ir_version,
                "inputs": [str(value) for value in spec.inputs],
                "outputs": [str(value) for value in spec.outputs],
                "parity": [difference.to_json() for difference in result.parity],
                "warnings": list(result.warnings),
                "history": [step.to_json() for step in result.artifact.history],
            }
        )
        return
    print_line(f"{output}: from {result.frontend}, opset {opset}", "bold")
    rows = [("input", str(value)) for value in spec.inputs]
    print_table("", ("", "signature"), rows + [("output", str(value)) for value in spec.outputs])
    if result.parity:
        print_table(
            "parity with the source",
            ("output", "max abs", "max rel"),
            [(d.output, f"{d.max_abs:.1e}", f"{d.max_rel:.1e}") for d in result.parity],
        )
