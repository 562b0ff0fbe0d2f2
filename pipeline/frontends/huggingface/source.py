"""Export a model of transformers, and run it for comparison."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.base import ConvertRequest, Export
from onnxsmith.pipeline.frontends.huggingface.dims import name_dimensions
from onnxsmith.pipeline.frontends.huggingface.feeds import examples, to_tensors
from onnxsmith.pipeline.frontends.huggingface.load import attention
from onnxsmith.pipeline.frontends.huggingface.plans import Plan, plan_export
from onnxsmith.pipeline.frontends.huggingface.proof import prove
from onnxsmith.pipeline.frontends.torch.inputs import to_numpy
from onnxsmith.pipeline.frontends.torch.routes import quiet, write_model
from onnxsmith.pipeline.loading import describe, user_code

# Attention written out first: smaller graphs, and finite where a mask hides everything.
_RUNGS = ("eager", "sdpa")
_SPACE = ("height", "width")
# What the translations of torch.export start from; older opsets are reached by conversion only.
_OLDEST_OPSET = 18


class ModelSource:
    """A model of transformers with a plan of its export.

    Args:
        model: The model, in evaluation mode.
        request: The part, inputs and sizes asked for.
        metadata: What the ONNX file will say about tokenizer, preprocessing and labels.
        left_out: Outputs that have no weights.
        digests: Of the files that the model came from.

    Raises:
        SmithError: The model is of a kind that is not covered; see ``plan_export``.
    """

    def __init__(
        self,
        model: Any,
        request: ConvertRequest,
        metadata: Mapping[str, str],
        left_out: tuple[str, ...] = (),
        digests: Mapping[str, str] | None = None,
    ) -> None:
        self.model = model
        self.request = request
        self.metadata = dict(metadata)
        self.left_out = left_out
        self.digests = dict(digests or {})
        self.implementation = _RUNGS[0]
        with attention(model, self.implementation):
            self.plan = plan_export(model, request, left_out)
        self.open_space = any(name in self.plan.dims for name in _SPACE)

    def export(self, folder: Path) -> Export:
        """Export through torch; see ``Source.export``."""
        path = self._climb(folder)
        details: dict[str, Any] = {
            "route": f"dynamo, {self.implementation} attention",
            "architecture": type(self.model).__name__,
            "versions": {name: version(name) for name in ("transformers", "torch", "onnxscript")},
        }
        if self.digests:
            details["digests"] = self.digests
        feeds = examples(self.plan.feeds, self.plan.sizes, self.request.seed)
        return Export(path, feeds, details, self._warnings(), metadata=self.metadata)

    def reference(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the model itself; see ``Source.reference``."""
        tensors = to_tensors({f.spec.name: feeds[f.spec.name] for f in self.plan.feeds})
        shapes = ", ".join(str(list(tensor.shape)) for tensor in tensors[:3])
        with user_code(f"running the model on inputs of shape {shapes}"), self._running():
            found = self.plan.module(*tensors)
        return {n: to_numpy(t) for n, t in zip(self.plan.outputs, found, strict=True)}

    def _climb(self, folder: Path) -> Path:
        """Write the model in the first way that exports and agrees with the source.

        Raises:
            SmithError: None does; the reason of the first.
        """
        rungs = [(self.plan, name) for name in _RUNGS]
        if self.open_space:
            rungs.insert(1, (self.plan.fixed(_SPACE), _RUNGS[0]))
        failures: list[SmithError] = []
        for number, (plan, implementation) in enumerate(rungs):
            self.plan, self.implementation = plan, implementation
            place = folder / f"route-{number}"
            place.mkdir()
            try:
                path = self._write(place)
                prove(path, plan, self.reference, self.request.seed)
            except SmithError as error:
                failures.append(error)
                shutil.rmtree(place)  # weights may be large
                continue
            return path
        raise failures[0]

    def _write(self, folder: Path) -> Path:
        arrays = examples(self.plan.feeds, self.plan.sizes, self.request.seed)
        shapes = {feed.spec.name: feed.spec.shape or () for feed in self.plan.feeds}
        try:
            with self._running():
                program: Any = torch.onnx.export(
                    self.plan.module,
                    to_tensors(arrays),
                    input_names=list(arrays),
                    output_names=list(self.plan.outputs),
                    dynamic_shapes=_open(self.plan),
                    opset_version=max(self.request.opset, _OLDEST_OPSET),
                    dynamo=True,
                    verbose=False,
                )
            name_dimensions(program.model, shapes, self.plan.shapes)
        except Exception as error:  # torch.export has no common base
            cause: BaseException = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            raise SmithError(
                f"torch cannot export {type(self.model).__name__}: {describe(cause)}",
                "fix a dimension that the model's code binds with --input NAME:DTYPE[D,...]",
            ) from error
        return write_model(program.model, tuple(arrays), folder)

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        with quiet(), attention(self.model, self.implementation):
            yield

    def _warnings(self) -> tuple[str, ...]:
        warnings = [
            f"output {name!r} is left out: the folder has no weights for it"
            for name in self.left_out
        ]
        if self.open_space and not any(name in self.plan.dims for name in _SPACE):
            height, width = (self.plan.sizes[name] for name in _SPACE)
            warnings.append(
                f"images are {height} high and {width} wide: torch exports the model at one size "
                "only; --dim height=H and --dim width=W choose another"
            )
        return tuple(warnings)


def _open(plan: Plan) -> tuple[Any, ...]:
    """Return torch.export's ``dynamic_shapes``: every dimension with a name stays open.

    Not by ``Dim`` names: a mask's length is a sum of two, which torch cannot be told.
    """
    dynamic = torch.export.Dim.DYNAMIC
    shapes = [
        {axis: dynamic for axis, dim in enumerate(feed.spec.shape or ()) if isinstance(dim, str)}
        for feed in plan.feeds
    ]
    return (tuple(shapes),)
