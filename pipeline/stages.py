"""The stages of a run: each turns models into a model or into figures."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onnxsmith.artifact import Artifact, file_digest
from onnxsmith.passes.manager import PipelineResult
from onnxsmith.pipeline.data import content_digest, open_data, refuse_shared
from onnxsmith.pipeline.evaluation import evaluate
from onnxsmith.pipeline.frontends.convert import convert
from onnxsmith.pipeline.optimize import OptimizeRequest, optimize
from onnxsmith.pipeline.quantization.request import QuantizeRequest
from onnxsmith.pipeline.quantization.run import quantize
from onnxsmith.pipeline.recipe import Recipe
from onnxsmith.pipeline.report import collect
from onnxsmith.pipeline.report.model import Amount, Report, Stage
from onnxsmith.pipeline.training.request import TrainRequest
from onnxsmith.pipeline.training.train import train
from onnxsmith.runtime.bench import bench
from onnxsmith.runtime.session import Session
from onnxsmith.spec import ValueSpec
from onnxsmith.target import find_target

MODEL = "model.onnx"
"""The file in a stage's folder that holds the model it made."""


@dataclass(frozen=True)
class StageContext:
    """What a stage may use.

    Attributes:
        recipe: The whole recipe.
        folder: Where the stage writes; it becomes visible only when the stage is done.
        kept: A folder for what a stage that is killed goes on from; it is removed when it is done.
        models: The models of earlier stages, by the stage's name, in order.
        trust: Whether sources that run code when they are loaded may be loaded.
    """

    recipe: Recipe
    folder: Path
    kept: Path
    models: Mapping[str, Path]
    trust: bool = False

    def latest(self) -> Artifact:
        """Return the model of the last stage that made one."""
        return Artifact.load(list(self.models.values())[-1])


@dataclass(frozen=True)
class StagePlan:
    """A stage to run.

    Attributes:
        name: What it is called in the folder and the report.
        options: Its part of the recipe: what its result depends on.
        reads: Digests of what else it reads: the source and the data.
        function: Does the work, writes a model if it makes one, returns its part of the report.
    """

    name: str
    options: Mapping[str, Any]
    reads: tuple[str, ...]
    function: Callable[[StageContext], Report]


def plan(recipe: Recipe) -> list[StagePlan]:
    """Return the stages of a recipe in order.

    Raises:
        SmithError: The data cannot be read, or evaluation data shares a sample with the other.
    """
    data = _data_digest(recipe.data)
    held_out = _data_digest(recipe.eval_data)
    if recipe.data and recipe.eval_data:
        refuse_shared(open_data(recipe.data), open_data(recipe.eval_data))
    common = {"target": recipe.target, "seed": recipe.seed, "threads": recipe.threads}
    source = _source_digest(recipe.source.path), _source_digest(recipe.source.weights or "")
    stages = [StagePlan("convert", {**common, **recipe.source.model_dump()}, source, _convert)]
    if recipe.optimize:
        options = {**common, "data": recipe.data, **recipe.optimize.model_dump()}
        stages.append(StagePlan("optimize", options, (data,), _optimize))
    if recipe.train:
        options = {**common, "data": recipe.data, "eval": recipe.eval_data}
        options |= recipe.train.model_dump()
        place = 1 if recipe.train.after == "convert" else len(stages)
        stages.insert(place, StagePlan("train", options, (data, held_out), _train))
    if recipe.quantize:
        options = {**common, "data": recipe.data, "eval": recipe.eval_data}
        options |= recipe.quantize.model_dump()
        stages.append(StagePlan("quantize", options, (data, held_out), _quantize))
    if recipe.evaluate:
        options = {**common, "data": recipe.eval_data, **recipe.evaluate.model_dump()}
        stages.append(StagePlan("evaluate", options, (held_out,), _evaluate))
    if recipe.bench:
        options = {**common, **recipe.bench.model_dump()}
        stages.append(StagePlan("bench", options, (), _bench))
    return stages


def _convert(context: StageContext) -> Report:
    recipe = context.recipe
    source = recipe.source
    result = convert(
        source.path,
        framework=source.framework,
        weights=source.weights,
        part=source.part,
        inputs=tuple(ValueSpec.parse(text) for text in source.inputs),
        dims=source.dims,
        opset=source.opset,
        target=find_target(recipe.target),
        reference=source.reference,
        rename=source.rename,
        preprocess=source.preprocess,
        domains=source.domains,
        repair=source.repair,
        verify=source.verify,
        trust=context.trust,
        seed=recipe.seed,
    )
    size = _save(result.artifact, context.folder)
    info = collect.model_info(
        source_name(source.path), result.artifact, framework=result.frontend, size_bytes=size
    )
    name = f"{result.frontend} source"
    parity = (collect.parity(name, "converted", result.parity),) if result.parity else ()
    stage = Stage(
        "convert", facts=collect.facts({"frontend": result.frontend}), warnings=result.warnings
    )
    return Report("", sources=(info,), stages=(stage,), parity=parity)


def _optimize(context: StageContext) -> Report:
    recipe = context.recipe
    options = recipe.optimize
    assert options is not None  # plan() made this stage from it
    result = optimize(
        context.latest(),
        OptimizeRequest(
            passes=options.passes,
            preset=options.preset,
            target=find_target(recipe.target),
            verify=options.verify,
            data=recipe.data,
            gate=not options.allow_slower and options.passes is None,
            threads=recipe.threads,
            seed=recipe.seed,
        ),
    )
    _save(result.artifact, context.folder)
    warnings = (*result.dropped_in_words(), *result.warnings)
    before = VARIANTS[list(context.models)[-1]]
    return _passes_report("optimize", before, "optimized", result.pipeline, warnings)


def _train(context: StageContext) -> Report:
    recipe = context.recipe
    options = recipe.train
    assert options is not None  # plan() made this stage from it
    assert recipe.data is not None  # the recipe's own check
    values = options.model_dump(exclude={"after", "lr", "output_name"})
    request = TrainRequest(
        recipe.data,
        recipe.eval_data,
        **values,
        rate=options.lr,
        output=options.output_name,
        checkpoint=context.kept,
        resume=True,
        seed=recipe.seed,
        target=find_target(recipe.target),
        threads=recipe.threads,
    )
    result = train(context.latest(), request)
    _save(result.artifact, context.folder)
    facts = collect.facts({"epochs": len(result.epochs), "parameters": result.parameters})
    made = collect.training(result, options.loss, options.optimizer)
    return Report("", stages=(Stage("train", facts=facts),), trainings=(made,))


def _quantize(context: StageContext) -> Report:
    recipe = context.recipe
    options = recipe.quantize
    assert options is not None  # plan() made this stage from it
    result = quantize(
        context.latest(),
        QuantizeRequest(
            mode=options.mode,
            data=recipe.data,
            eval_data=recipe.eval_data,
            metric=options.metric,
            max_drop=options.max_drop,
            exclude=options.exclude,
            only=options.only,
            allow_poor_data=options.allow_poor_data,
            per_channel=options.per_channel,
            reduce_range=options.reduce_range,
            method=options.method,
            samples=options.samples,
            activations=options.activations,
            wide=options.wide,
            weights=options.weights,
            symmetric=options.symmetric,
            scope=options.scope,
            qoperator=options.qoperator,
            both_activations=options.both_activations,
            bits=options.bits,
            block_size=options.block_size,
            algorithm=options.algorithm,
            form=options.form,
            accuracy_level=options.accuracy_level,
            prepare=options.prepare,
            sensitivity=options.sensitivity,
            budget=(options.candidates, options.seconds),
            prefer=options.prefer,
            target=find_target(recipe.target),
            threads=recipe.threads,
            seed=recipe.seed,
        ),
    )
    _save(result.artifact, context.folder)
    budget = "" if options.max_drop is None else f"{options.metric} within {options.max_drop}"
    report = _passes_report(
        "quantize", "float", "quantized", result.pipeline, result.warnings, budget or "reported"
    )
    searches = () if result.search is None else (result.search,)
    return replace(
        report,
        searches=searches,
        sensitivity=result.layers,
        sensitivity_note=result.layers_note,
    )


def _evaluate(context: StageContext) -> Report:
    recipe = context.recipe
    options = recipe.evaluate
    assert options is not None  # plan() made this stage from it
    assert recipe.eval_data is not None  # the recipe's own check
    scores = []
    for name, path in context.models.items():
        artifact = Artifact.load(path)
        data = open_data(recipe.eval_data, artifact.spec)
        with Session(artifact, find_target(recipe.target), threads=recipe.threads) as session:
            found = evaluate(session, data, options.metrics or None, options.batch_size)
        scores.append(collect.scores(VARIANTS[name], found))
    return Report("", stages=(Stage("evaluate"),), scores=tuple(scores))


def _bench(context: StageContext) -> Report:
    recipe = context.recipe
    options = recipe.bench
    assert options is not None  # plan() made this stage from it
    models = since_training(context.models)
    result = bench(
        tuple(models.values()),
        names=tuple(VARIANTS[name] for name in models),
        target=find_target(recipe.target),
        threads=recipe.threads,
        dims=options.dims,
        rounds=options.rounds,
        runs=options.runs,
        seed=recipe.seed,
    )
    sizes = tuple(Amount(VARIANTS[n], _file_size(path)) for n, path in models.items())
    return Report(
        "",
        stages=(Stage("bench"),),
        latency=tuple(collect.latency(m) for m in result.measurements),
        speedups=tuple(collect.speedup(c) for c in result.comparisons),
        sizes=sizes,
        memory=collect.memory(result.measurements),
    )


VARIANTS = {
    "convert": "converted",
    "train": "trained",
    "optimize": "optimized",
    "quantize": "quantized",
}
"""Stage to what the report calls the model it made."""


def since_training(models: Mapping[str, Path]) -> dict[str, Path]:
    """Return the models that may replace one another: from the trained one on, if there is one."""
    names = list(models)
    first = names.index("train") if "train" in names else 0
    return {name: models[name] for name in names[first:]}


def _passes_report(
    name: str,
    reference: str,
    candidate: str,
    result: PipelineResult,
    warnings: tuple[str, ...],
    budget: str = "",
) -> Report:
    stage = collect.stage(name, result, warnings=warnings)
    parity = collect.parity(
        reference, candidate, result.differences, unverified=result.unverified, budget=budget
    )
    return Report("", stages=(stage,), parity=(parity,) if result.verified else ())


def source_name(source: str) -> str:
    """Return what to call a source in a report, without the folders of the user's machine."""
    return source.rpartition(":")[2] if ":" in source else Path(source).name


def _save(artifact: Artifact, folder: Path) -> int:
    artifact.save(folder / MODEL)
    return _file_size(folder / MODEL)


def _file_size(path: Path) -> int:
    """Return the bytes of a model file and of the data files beside it."""
    return sum(file.stat().st_size for file in (path, *path.parent.glob(f"{path.stem}.*.data")))


def _data_digest(text: str | None) -> str:
    return content_digest(open_data(text)) if text else ""


def _source_digest(source: str) -> str:
    """Return a digest of the files that a source names.

    Of a callable that is its module's file: a change in what the module imports is not seen, and
    neither is one in a built-in or compiled module.
    """
    path = Path(source)
    if source and path.is_file():
        return file_digest(path)
    if source and path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return " ".join(f"{file.relative_to(path)}={file_digest(file)}" for file in files)
    module, colon, _ = source.partition(":")
    if not colon:
        return ""
    local = Path(*module.split(".")).with_suffix(".py")
    if local.is_file():
        return file_digest(local)
    if module.partition(".")[0] == "onnxsmith":
        found = importlib.util.find_spec(module)
        return file_digest(found.origin) if found and found.origin else ""
    return ""
