"""onnxsmith: models from any framework become checked, measured, shippable ONNX.

The names below are imported when they are first used: ``import onnxsmith`` loads neither numpy
nor the runtime.
"""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from onnxsmith.artifact import Artifact as Artifact
    from onnxsmith.artifact import Step as Step
    from onnxsmith.errors import SmithError as SmithError
    from onnxsmith.passes.autodiff.gradients import gradients as gradients
    from onnxsmith.passes.pipeline import PassPipeline as PassPipeline
    from onnxsmith.pipeline.data import open_data as open_data
    from onnxsmith.pipeline.evaluation import evaluate as evaluate
    from onnxsmith.pipeline.frontends.convert import convert as convert
    from onnxsmith.pipeline.optimize import OptimizeRequest as OptimizeRequest
    from onnxsmith.pipeline.optimize import optimize as optimize
    from onnxsmith.pipeline.quantization.request import QuantizeRequest as QuantizeRequest
    from onnxsmith.pipeline.quantization.run import quantize as quantize
    from onnxsmith.pipeline.recipe import Recipe as Recipe
    from onnxsmith.pipeline.recipe import load_recipe as load_recipe
    from onnxsmith.pipeline.run import run_recipe as run_recipe
    from onnxsmith.pipeline.training.request import TrainRequest as TrainRequest
    from onnxsmith.pipeline.training.train import train as train
    from onnxsmith.runtime.bench import bench as bench
    from onnxsmith.runtime.session import Session as Session
    from onnxsmith.spec import ModelSpec as ModelSpec
    from onnxsmith.spec import ValueSpec as ValueSpec
    from onnxsmith.target import TARGETS as TARGETS
    from onnxsmith.target import Target as Target

_PUBLIC = {
    "TrainRequest": "pipeline.training.request",
    "gradients": "passes.autodiff.gradients",
    "train": "pipeline.training.train",
    "Artifact": "artifact",
    "ModelSpec": "spec",
    "OptimizeRequest": "pipeline.optimize",
    "PassPipeline": "passes.pipeline",
    "QuantizeRequest": "pipeline.quantization.request",
    "Recipe": "pipeline.recipe",
    "Session": "runtime.session",
    "SmithError": "errors",
    "Step": "artifact",
    "TARGETS": "target",
    "Target": "target",
    "ValueSpec": "spec",
    "bench": "runtime.bench",
    "convert": "pipeline.frontends.convert",
    "evaluate": "pipeline.evaluation",
    "load_recipe": "pipeline.recipe",
    "open_data": "pipeline.data",
    "optimize": "pipeline.optimize",
    "quantize": "pipeline.quantization.run",
    "run_recipe": "pipeline.run",
}

__all__ = ["__version__", *_PUBLIC]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name == "__version__":  # asked for, not kept: workers run where onnxsmith is not installed
        return version("onnxsmith")
    if name in _PUBLIC:
        return getattr(importlib.import_module(f"onnxsmith.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module 'onnxsmith' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
