"""``onnxsmith infer``: run a model on inputs from a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onnxsmith.cli.options import json_option, providers_options, target_option, threads_option
from onnxsmith.errors import SmithError, UsageError

if TYPE_CHECKING:
    from onnxsmith.runtime.session import Session
    from onnxsmith.spec import ModelSpec


@click.command("infer")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--inputs", metavar="X.npz", help="One array for each input, as numpy.savez writes.")
@click.option("--data", metavar="D", help="A data source instead of --inputs; run in batches.")
@click.option(
    "-o",
    "--out",
    required=True,
    metavar="Y.npz",
    type=click.Path(path_type=Path),
    help="Where the outputs go, by name.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    metavar="N",
    help="Samples a run with --data, where the model does not fix it.",
)
@target_option
@threads_option
@providers_options
@json_option
def command(
    model: Path,
    inputs: str | None,
    data: str | None,
    out: Path,
    batch_size: int,
    target_name: str,
    threads: int | None,
    providers: tuple[str, ...] | None,
    require_provider: str | None,
    as_json: bool,
) -> None:
    """Run a model on inputs from a file and write its outputs."""
    from onnxsmith.artifact import Artifact
    from onnxsmith.runtime.session import Session
    from onnxsmith.target import find_target

    if (inputs is None) == (data is None):
        raise UsageError("give either --inputs or --data", "e.g. --inputs x.npz")
    target = find_target(target_name)
    artifact = Artifact.load(model)
    with Session(
        artifact, target, threads=threads, providers=providers, require_provider=require_provider
    ) as session:
        if inputs is not None:
            outputs = session.run(_read_inputs(inputs, artifact.spec))
        else:
            outputs = _run_batches(session, str(data), batch_size)
        used = list(session.providers)
    _write(out, outputs)
    _tell(out, outputs, used, as_json=as_json)


def _read_inputs(location: str, spec: ModelSpec) -> dict[str, Any]:
    """Read the feeds; floating-point and integer types are widened or narrowed where exact."""
    from onnxsmith.pipeline.data.archive import load_archive
    from onnxsmith.pipeline.data.dtypes import cast_exact

    arrays = load_archive(location)
    names = [value.name for value in spec.inputs]
    if len(names) == 1 and len(arrays) == 1:
        arrays = {names[0]: next(iter(arrays.values()))}
    missing = [name for name in names if name not in arrays]
    if missing:
        raise SmithError(
            f"{Path(location).name!r} has no array for the input {missing[0]!r}",
            f"its arrays: {', '.join(sorted(arrays)) or 'none'}; "
            f"the model's inputs: {', '.join(names)}",
        )
    unknown = [name for name in arrays if name not in names]
    if unknown:
        raise SmithError(
            f"the model has no input {unknown[0]!r}", f"its inputs: {', '.join(names)}"
        )
    return {
        value.name: cast_exact(arrays[value.name], value.dtype, f"the input {value.name!r}")
        for value in spec.inputs
    }


def _run_batches(session: Session, data: str, batch_size: int) -> dict[str, Any]:
    from onnxsmith.pipeline.data import feeds, open_data

    source = open_data(data, session.spec)
    parts: dict[str, list[Any]] = {}
    for feed in feeds(source, session.spec, batch_size):
        fed = len(next(iter(feed.inputs.values())))
        for name, value in session.run(feed.inputs).items():
            parts.setdefault(name, []).append(_rows(name, value, fed, feed.count))
    return {name: _joined(name, list(chunks)) for name, chunks in parts.items()}


def _rows(name: str, value: Any, fed: int, count: int) -> Any:
    import numpy as np

    if isinstance(value, np.ndarray) and value.shape[:1] == (fed,):
        return value[:count]
    if isinstance(value, np.ndarray) and fed == 1:
        return value[None]  # an output without a batch axis, of a model that takes one sample
    raise SmithError(
        f"the output {name!r} has no row for each sample", "run it with --inputs instead of --data"
    )


def _joined(name: str, parts: list[Any]) -> Any:
    import numpy as np

    try:
        return np.concatenate(parts)
    except ValueError as error:
        raise SmithError(
            f"the output {name!r} has another shape from batch to batch",
            "run it with --inputs instead of --data",
        ) from error


def _flat(outputs: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield plain arrays: text at a fixed width, because objects would have to be pickled."""
    import numpy as np

    for name, value in outputs.items():
        if not isinstance(value, np.ndarray):
            raise SmithError(
                f"the output {name!r} is a {type(value).__name__}, which .npz cannot hold",
                "convert the model so that its outputs are tensors",
            )
        yield name, value.astype(str) if value.dtype.kind == "O" else value


def _write(out: Path, outputs: Mapping[str, Any]) -> None:
    import zipfile

    from numpy.lib import format as npy_format

    from onnxsmith.storage.atomic import replacing

    arrays = dict(_flat(outputs))
    # numpy.savez would take an output called "file" for its own argument.
    with replacing(out) as file, zipfile.ZipFile(file, "w", allowZip64=True) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                npy_format.write_array(member, array, allow_pickle=False)


def _tell(out: Path, outputs: Mapping[str, Any], used: list[str], *, as_json: bool) -> None:
    from onnxsmith.cli.output import print_json, print_line

    if as_json:
        told = {
            name: {"dtype": str(value.dtype), "shape": list(value.shape)}
            for name, value in outputs.items()
        }
        print_json({"out": str(out), "outputs": told, "providers": used})
        return
    print_line(f"wrote {out}")
    for name, value in outputs.items():
        print_line(f"  {name}: {value.dtype}{list(value.shape)}")
