"""Make an ONNX artifact from a model of any framework, clean and proven against its source."""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxsmith.artifact import Artifact, Step, file_digest
from onnxsmith.errors import RefusedError, SmithError, UsageError
from onnxsmith.numerics import Difference, Tolerance
from onnxsmith.pipeline.data import feeds, open_data
from onnxsmith.pipeline.frontends.after import Finish, check_opset
from onnxsmith.pipeline.frontends.base import ConvertRequest, Export, Frontend, Source
from onnxsmith.pipeline.frontends.interpreters import find_interpreter
from onnxsmith.pipeline.frontends.parity import (
    Parity,
    check_parity,
    check_stored,
    refuse_mismatch,
    symbol_sizes,
)
from onnxsmith.pipeline.frontends.preprocessing import Preprocessing, build_in
from onnxsmith.pipeline.frontends.process import Limits, WorkerSource
from onnxsmith.pipeline.frontends.repair import repair_shapes
from onnxsmith.pipeline.frontends.stored import load_stored
from onnxsmith.pipeline.frontends.table import (
    choose_for_object,
    choose_frontend,
    find_frontend,
)
from onnxsmith.spec import ModelSpec, ValueSpec, summands
from onnxsmith.target import TARGETS, Target

# torch's exporter is written for opset 18 to 20, and all current runtimes read it.
_DEFAULT_OPSET = 20
_DATA_SAMPLES = 4
# The other frontends know their parts, and refuse what is none.
_WITHOUT_PARTS = frozenset({"jax", "keras", "layers", "mxnet", "onnx", "paddle"})
_NOT_COMPARED = (
    "the model was seen to run, but not compared: {} models do not run here; "
    "give recorded outputs with --reference"
)


@dataclass(frozen=True)
class ConvertResult:
    """A model that came in.

    Attributes:
        artifact: The model; its weights may lie in a temporary folder that lives as long as they.
        parity: For each output the worst difference from the source over all probes; empty where
            there was nothing to compare or ``verify`` was off.
        frontend: The frontend's name.
        warnings: What the user should know, one line each.
    """

    artifact: Artifact
    parity: tuple[Difference, ...]
    frontend: str
    warnings: tuple[str, ...]


def convert(
    source: str | os.PathLike[str] | object,
    *,
    framework: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    part: str | None = None,
    inputs: Sequence[ValueSpec | str] = (),
    dims: Mapping[str, int] | None = None,
    opset: int | None = None,
    target: Target = TARGETS["cpu"],
    data: str | None = None,
    reference: str | os.PathLike[str] | None = None,
    rename: Mapping[str, str] | Sequence[tuple[str, str]] = (),
    preprocess: Sequence[Preprocessing | str] = (),
    domains: Sequence[str] = (),
    repair: bool = False,
    verify: bool = True,
    tolerance: Tolerance | None = None,
    trust: bool = False,
    seed: int = 0,
    limits: Limits | None = None,
    environments: str | os.PathLike[str] | None = None,
) -> ConvertResult:
    """Convert a model to ONNX, and check it against its source.

    Args:
        source: A file, ``package.module:callable``, or a live object (an nn.Module, a fitted
            estimator), which is exported in this process.
        framework: The frontend's name; found out where omitted.
        weights: A second file with the weights, where the frontend takes one.
        part: Which of the models that the source holds: a SavedModel's signature, the encoder or
            the decoder.
        inputs: The signature to export with: names, element types and shapes, whose symbolic
            dimensions stay open.
        dims: Sizes of those dimensions in the example that is exported.
        opset: The ai.onnx opset; by default one that the target reads.
        target: Bounds opset and IR version.
        data: A data source to probe with, beside made-up inputs.
        reference: Recorded inputs and outputs to compare with; see ``stored.load_stored``.
        rename: Old to new names of inputs, outputs and dimensions.
        preprocess: What becomes part of the graph in front of inputs, after the comparison.
        domains: Custom operator domains that are let in.
        repair: Whether to mend an invalid ONNX graph: order, names, contradicting shapes.
        verify: Whether to compare with the source's own outputs.
        tolerance: Instead of the element type's.
        trust: Whether files that run code when they are loaded may be loaded.
        seed: Seed of all randomness.
        limits: Time and memory of the worker process.
        environments: The folder of the environments that ``onnxsmith env create`` makes; this
            user's where omitted.

    Raises:
        UsageError: An option does not fit, or it is not clear which frontend is meant.
        RefusedError: The model does not compute what its source does.
        SmithError: The source cannot be loaded or exported.
    """
    if opset is not None:
        check_opset(opset, target)
    request = ConvertRequest(
        _text(source),
        None if weights is None else str(weights),
        tuple(ValueSpec.parse(i) if isinstance(i, str) else i for i in inputs),
        dict(dims or {}),
        opset or min(_DEFAULT_OPSET, target.max_opset),
        trust,
        seed,
        part,
    )
    renames = tuple(rename.items() if isinstance(rename, Mapping) else rename)
    finish = Finish(target, opset, request.inputs, renames, tuple(domains), repair)
    wanted = [Preprocessing.parse(p) if isinstance(p, str) else p for p in preprocess]
    live = not isinstance(source, (str, os.PathLike))
    frontend = _frontend(source, framework, part, live=live)
    folder = _Folder()
    value = source if live else None
    with _opened(frontend, request, value, folder, limits, environments) as opened:
        export = opened.export(folder.path / "model")
        artifact = Artifact.load(export.path)
        changed = finish.apply(artifact.model)
        _check_dims(request, artifact.spec, renames)
        artifact.model.metadata_props.update(export.metadata)
        artifact = artifact.with_step(_source_step(frontend, request, export, live=live))
        checks: list[Parity] = []
        if verify and reference is not None:
            stored = load_stored(str(reference), artifact.spec)
            checks.append(refuse_mismatch(check_stored(stored, artifact, tolerance)))
        if verify and (changed or not export.untouched):
            checks.append(_parity(opened, artifact, export, renames, data, tolerance, request))
        else:
            _given(data, artifact)  # wrong data is named even where there is nothing to compare
        for parity in checks:
            artifact = artifact.with_step(Step("parity", "parity", {}, parity.to_json()))
        if wanted:
            sizes = symbol_sizes(artifact, _renamed(export.examples, renames))
            artifact = build_in(artifact, wanted, {**sizes, **request.dims})
    folder.keep_for(artifact.model)
    notes = [*export.warnings, *(warning for parity in checks for warning in parity.warnings)]
    notes += _why_not_compared(export, verify, repair and not changed, reference, frontend)
    differences = tuple(difference for parity in checks for difference in parity.differences)
    return ConvertResult(artifact, differences, frontend.name, tuple(notes))


def _why_not_compared(
    export: Export, verify: bool, repaired: bool, reference: object, frontend: Frontend
) -> list[str]:
    if not verify:
        return ["the model was not compared with its source"]
    if repaired and export.untouched:
        return ["the mended graph was not compared: one that is not valid cannot run"]
    if not export.runnable and reference is None:
        return [_NOT_COMPARED.format(frontend.name)]
    return []


class _Folder:
    """A temporary folder that is removed when nothing holds it any more."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="onnxsmith-"))
        (self.path / "model").mkdir()
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def keep_for(self, model: ir.Model) -> None:
        """Let the folder live as long as any weight of the model that lies in it."""
        for value in model.graph.initializers.values():
            tensor = value.const_value
            if isinstance(tensor, ir.ExternalTensor):
                tensor.meta["onnxsmith.folder"] = self


def _text(source: str | os.PathLike[str] | object) -> str:
    if isinstance(source, str):
        return source
    return os.fspath(source) if isinstance(source, os.PathLike) else type(source).__name__


def _frontend(source: object, framework: str | None, part: str | None, *, live: bool) -> Frontend:
    if framework is not None:
        frontend = find_frontend(framework)
    else:
        frontend = choose_for_object(source) if live else choose_frontend(_text(source))
    if part is not None and frontend.name in _WITHOUT_PARTS:
        raise UsageError(f"models of {frontend.name} have no parts", "leave --part away")
    return frontend


@contextmanager
def _opened(
    frontend: Frontend,
    request: ConvertRequest,
    value: object,
    folder: _Folder,
    limits: Limits | None,
    environments: str | os.PathLike[str] | None,
) -> Iterator[Source]:
    """Open the source: a live one and what needs no framework here, others in a worker."""
    if value is not None:
        yield frontend.adopt(value, request)
        return
    _check_exists(request)
    if not frontend.isolated:
        yield frontend.open(request)
        return
    python = find_interpreter(frontend, None if environments is None else Path(environments))
    where = (python.path, python.warnings)
    with WorkerSource(frontend.name, folder.path, limits or Limits(), *where) as worker:
        worker.open(request)
        yield worker


def _check_exists(request: ConvertRequest) -> None:
    """Name a missing file before a framework is imported for it."""
    source = None if ":" in request.source else Path(request.source)
    weights = None if request.weights is None else Path(request.weights)
    for path in (source, weights):
        if path is None or path.exists():
            continue
        # Some frameworks save several files and take their common prefix for the name.
        if path is weights or not any(path.parent.glob(f"{glob.escape(path.name)}.*")):
            raise SmithError(f"there is no file {path}", "check the path")


def _source_step(
    frontend: Frontend, request: ConvertRequest, export: Export, *, live: bool
) -> Step:
    path = Path(request.source)
    is_file = not live and path.is_file()
    is_path = not live and path.exists()
    options: dict[str, Any] = {
        "source": path.absolute().name if is_path else request.source,
        "inputs": [str(spec) for spec in request.inputs],
        "dims": dict(request.dims),
        "opset": request.opset,
        "seed": request.seed,
    }
    result = dict(export.details)
    if is_file:
        result["digest"] = file_digest(path)
    if request.part is not None:
        options["part"] = request.part
    if request.weights is not None:
        result["weights_digest"] = file_digest(request.weights)
    return Step(frontend.name, "source", options, result)


def _check_dims(
    request: ConvertRequest, spec: ModelSpec, renames: tuple[tuple[str, str], ...]
) -> None:
    """Check that each size that was given is that of a dimension, by its old or its new name."""
    known = {
        part
        for value in (*request.inputs, *spec.inputs)
        for dim in value.shape or ()
        if isinstance(dim, str)
        for part in (dim, *summands(dim))
    }
    known.update(old for old, new in renames if new in known)
    for name in request.dims:
        if name not in known:
            raise UsageError(
                f"no input has a dimension called {name!r}",
                f"its dimensions: {', '.join(sorted(known)) or 'none, all are fixed'}",
            )


def _parity(
    source: Source,
    artifact: Artifact,
    export: Export,
    renames: tuple[tuple[str, str], ...],
    data: str | None,
    tolerance: Tolerance | None,
    request: ConvertRequest,
) -> Parity:
    originals: dict[str, str] = {}
    for old, new in renames:
        originals[new] = originals.pop(old, old)
    try:
        parity = check_parity(
            source if export.runnable else None,
            artifact,
            examples=_renamed(export.examples, renames),
            originals=originals,
            given=_given(data, artifact),
            tolerance=tolerance,
            dims=request.dims if not export.examples else {},
            seed=request.seed,
            rows=export.rows,
            steps=export.steps,
        )
        refuse_mismatch(parity)
    except RefusedError as error:  # what the frontend warned of may be why
        raise RefusedError(error.message, error.hint, "\n".join(export.warnings)) from error
    repair_shapes(artifact, parity)
    return parity


def _renamed(
    examples: Mapping[str, np.ndarray], renames: tuple[tuple[str, str], ...]
) -> dict[str, np.ndarray]:
    """Return the examples by the names that the inputs have now."""
    found = dict(examples)
    for old, new in renames:
        if old in found:
            found[new] = found.pop(old)
    return found


def _given(data: str | None, artifact: Artifact) -> tuple[dict[str, np.ndarray], ...]:
    if data is None:
        return ()
    first = next(feeds(open_data(data, artifact.spec), artifact.spec, _DATA_SAMPLES), None)
    return () if first is None else (first.inputs,)
