"""Export a model of transformers, and run it for comparison."""

from __future__ import annotations

import contextlib
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
from onnxsmith.pipeline.frontends.huggingface.load import attention, quiet
from onnxsmith.pipeline.frontends.huggingface.plans import Plan, plan_export
from onnxsmith.pipeline.frontends.torch.inputs import to_numpy
from onnxsmith.pipeline.loading import describe, user_code

# Attention written out first: smaller graphs, and finite where a mask hides everything.
_RUNGS = ("eager", "sdpa")
_SPACE = ("height", "width")
# Beyond this, weights go to a file of their own: embedding would hold them several times.
_EXTERNAL_BYTES = 512 * 1024**2


class ModelSource:
    """A model of transformers with a plan of its export.

    Args:
        model: The model, in evaluation mode.
        request: The part, inputs and sizes asked for.
        metadata: What the ONNX file will say about tokenizer, preprocessing and labels.
        left_out: Outputs that have no weights.

    Raises:
        SmithError: The model is of a kind that is not covered; see ``plan_export``.
    """

    def __init__(
        self,
        model: Any,
        request: ConvertRequest,
        metadata: Mapping[str, str],
        left_out: tuple[str, ...] = (),
    ) -> None:
        self.model = model
        self.request = request
        self.metadata = dict(metadata)
        self.left_out = left_out
        self.implementation = _RUNGS[0]
        with attention(model, self.implementation):
            self.plan = plan_export(model, request, left_out)

    def export(self, folder: Path) -> Export:
        """Export through torch; see ``Source.export``."""
        program = self._climb()
        path = folder / "model.onnx"
        size = sum(tensor.nbytes for tensor in self.model.state_dict().values())
        program.save(path, external_data=size > _EXTERNAL_BYTES)
        details = {
            "route": f"dynamo, {self.implementation} attention",
            "architecture": type(self.model).__name__,
            "versions": {name: version(name) for name in ("transformers", "torch", "onnxscript")},
        }
        feeds = examples(self.plan.feeds, self.plan.sizes, self.request.seed)
        return Export(path, feeds, details, self._warnings(), metadata=self.metadata)

    def reference(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the model itself; see ``Source.reference``."""
        tensors = to_tensors({f.spec.name: feeds[f.spec.name] for f in self.plan.feeds})
        shapes = ", ".join(str(list(tensor.shape)) for tensor in tensors[:3])
        with user_code(f"running the model on inputs of shape {shapes}"), self._running():
            found = self.plan.module(*tensors)
        return {n: to_numpy(t) for n, t in zip(self.plan.outputs, found, strict=True)}

    def _climb(self) -> Any:
        """Return the program of the first way of exporting that works.

        Raises:
            SmithError: None does.
        """
        failures: list[BaseException] = []
        plans = [self.plan]
        if any(name in self.plan.dims for name in _SPACE):
            plans.append(self.plan.fixed(_SPACE))
        for plan in plans:
            for implementation in _RUNGS:
                self.plan, self.implementation = plan, implementation
                try:
                    return self._program()
                except Exception as error:  # noqa: BLE001 - torch.export has no common base
                    failures.append(error)
        cause = failures[0]
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise SmithError(
            f"torch cannot export {type(self.model).__name__}: {describe(cause)}",
            "fix a dimension that the model's code binds with --input NAME:DTYPE[D,...]",
        ) from failures[0]

    def _program(self) -> Any:
        arrays = examples(self.plan.feeds, self.plan.sizes, self.request.seed)
        tensors = to_tensors(arrays)
        with self._running():
            program: Any = torch.onnx.export(
                self.plan.module,
                tensors,
                input_names=list(arrays),
                output_names=list(self.plan.outputs),
                dynamic_shapes=_open(self.plan),
                opset_version=self.request.opset,
                dynamo=True,
                verbose=False,
            )
        shapes = {feed.spec.name: feed.spec.shape or () for feed in self.plan.feeds}
        name_dimensions(program.model, shapes, self.plan.shapes)
        return program

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        with quiet(), attention(self.model, self.implementation):
            yield

    def _warnings(self) -> tuple[str, ...]:
        return tuple(
            f"output {name!r} is left out: the folder has no weights for it"
            for name in self.left_out
        )


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
