"""Choose where gradients are computed."""

from __future__ import annotations

from collections.abc import Mapping

from onnxsmith.errors import UsageError
from onnxsmith.pipeline.training.graphs import GradientGraph
from onnxsmith.pipeline.training.request import TrainRequest
from onnxsmith.pipeline.training.stepper import StepOptions, Stepper
from onnxsmith.runtime.memory import Array


def make_stepper(
    request: TrainRequest,
    graph: GradientGraph,
    parameters: Mapping[str, Array],
    remembered: Mapping[str, Array],
    options: StepOptions,
) -> Stepper:
    """Return what makes steps: in this process, or with others.

    Raises:
        SmithError: The other processes cannot be started.
        UsageError: Private training is asked to run on several, which clip each for themselves.
    """
    if request.parallel == 1:
        return Stepper(graph, parameters, remembered, options)
    if request.private is not None:
        raise UsageError("--private runs in one process", "leave --parallel away")
    from onnxsmith.pipeline.training.parallel.stepper import ParallelStepper

    if request.engine == "ray":
        from onnxsmith.pipeline.training.parallel.ray_workers import RayWorkers

        return ParallelStepper(graph, parameters, remembered, options, request.parallel, RayWorkers)
    from onnxsmith.pipeline.training.parallel.local import LocalWorkers

    return ParallelStepper(graph, parameters, remembered, options, request.parallel, LocalWorkers)
