"""Run a recipe: stages with content-hashed results in one folder, then the report."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import onnxsmith
from onnxsmith.artifact import Artifact, file_digest
from onnxsmith.errors import SmithError
from onnxsmith.pipeline.data import open_data
from onnxsmith.pipeline.recipe import Recipe
from onnxsmith.pipeline.report import Report, collect, write
from onnxsmith.pipeline.report.model import Dataset, Fact
from onnxsmith.pipeline.stages import (
    MODEL,
    VARIANTS,
    StageContext,
    StagePlan,
    plan,
    since_training,
    source_name,
)
from onnxsmith.runtime.environment import describe_environment
from onnxsmith.storage.atomic import write_error, write_text

Progress = Callable[[str, str, float], None]
"""Called with a stage's name, how it ended (``done`` or ``cached``), and its seconds."""

_RECORD = "stage.json"


@dataclass(frozen=True)
class RunResult:
    """Where a run left its results."""

    report: Report
    html: Path
    model: Path


def run_recipe(
    recipe: Recipe,
    out: Path,
    *,
    resume: bool = False,
    trust: bool = False,
    progress: Progress | None = None,
) -> RunResult:
    """Run all stages of ``recipe`` and write model and report into ``out``.

    A stage's folder is named by the hash of everything its result depends on, and is renamed into
    place when the stage is done: a failed or killed stage leaves nothing that could be taken for
    a result.

    Args:
        recipe: What to do.
        out: The run's folder.
        resume: Take over finished stages that are in ``out`` already.
        trust: Whether sources that run code when they are loaded may be loaded. A recipe cannot
            say so itself: it may come from somebody else.
        progress: Is told of each stage.

    Raises:
        SmithError: A stage fails, or ``out`` holds another run and ``resume`` is False.
    """
    stages_folder = out / "stages"
    _prepare(out, stages_folder, resume=resume)
    models: dict[str, Path] = {}
    parts: list[Report] = []
    key = _digest({"version": onnxsmith.__version__})
    for stage in plan(recipe):
        key = _digest({"before": key, "options": stage.options, "reads": stage.reads})
        folder = stages_folder / f"{len(parts) + 1}-{stage.name}-{key[:16]}"
        began = time.perf_counter()
        cached = (folder / _RECORD).is_file()
        if not cached:
            _run_stage(stage, recipe, folder, models, trust=trust)
        part = Report.load(folder / _RECORD)
        seconds = time.perf_counter() - began
        if cached:
            part = replace(part, stages=tuple(replace(s, status="cached") for s in part.stages))
        if (folder / MODEL).is_file():
            models[stage.name] = folder / MODEL
        parts.append(part)
        if progress:
            progress(stage.name, "cached" if cached else "done", seconds)
    return _finish(recipe, out, parts, models)


def _prepare(out: Path, stages_folder: Path, *, resume: bool) -> None:
    try:
        if not resume and out.is_dir() and any(out.iterdir()):
            raise SmithError(
                f"{out} is not empty", "add --resume to go on there, or choose another --out"
            )
        stages_folder.mkdir(parents=True, exist_ok=True)
        for leftover in stages_folder.glob(".*.tmp"):
            shutil.rmtree(leftover)
    except OSError as error:
        raise write_error(out, error) from error


def _run_stage(
    stage: StagePlan, recipe: Recipe, folder: Path, models: dict[str, Path], *, trust: bool
) -> None:
    partial = folder.parent / f".{folder.name}.tmp"
    try:
        partial.mkdir()
        began = time.perf_counter()
        kept = folder.parent / f".{folder.name}.kept"
        report = stage.function(StageContext(recipe, partial, kept, dict(models), trust))
        seconds = time.perf_counter() - began
        report = replace(report, stages=tuple(replace(s, seconds=seconds) for s in report.stages))
        write_text(partial / _RECORD, json.dumps(report.to_json(), allow_nan=False))
        os.replace(partial, folder)
        shutil.rmtree(kept, ignore_errors=True)
    except OSError as error:
        raise write_error(folder, error) from error
    except SmithError as error:
        message = f"stage {stage.name}: {error.message}"
        raise type(error)(message, error.hint, error.output) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _finish(
    recipe: Recipe, out: Path, parts: Sequence[Report], models: dict[str, Path]
) -> RunResult:
    last, model = list(models.items())[-1]
    artifact = Artifact.load(model)
    artifact.save(out / MODEL)
    report = replace(
        _merge(recipe.name, parts),
        baseline=VARIANTS[next(iter(since_training(models)))],
        candidate=VARIANTS[last],
        datasets=_datasets(recipe),
        products=(
            collect.model_info(
                VARIANTS[last],
                artifact,
                digest=file_digest(out / MODEL),
                size_bytes=(out / MODEL).stat().st_size,
            ),
        ),
        history=collect.history(artifact.history),
        provenance=_provenance(recipe),
        environment=collect.environment(describe_environment()),
    )
    html, _ = write(report, out)
    return RunResult(report, html, out / MODEL)


def _merge(title: str, parts: Sequence[Report]) -> Report:
    """Concatenate the parts' sections."""
    merged: dict[str, Any] = {
        field.name: tuple(item for part in parts for item in getattr(part, field.name))
        for field in fields(Report)
        if isinstance(getattr(parts[0], field.name), tuple)
    }
    return Report(title, **merged)


def _datasets(recipe: Recipe) -> tuple[Dataset, ...]:
    role = "training, probes and calibration" if recipe.train else "probes and calibration"
    uses = ((recipe.data, role), (recipe.eval_data, "evaluation"))
    return tuple(collect.dataset(open_data(text), role) for text, role in uses if text)


def _provenance(recipe: Recipe) -> tuple[Fact, ...]:
    """Return the recipe's fields; files by name only, for reports are passed around."""
    values = recipe.model_dump(exclude_none=True)
    values["source"]["path"] = source_name(recipe.source.path)
    if recipe.source.weights:
        values["source"]["weights"] = source_name(recipe.source.weights)
    for key in ("data", "eval_data"):
        if key in values:
            values[key] = open_data(values[key]).name
    return collect.facts({"onnxsmith": onnxsmith.__version__, **values})


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
