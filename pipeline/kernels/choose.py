"""Choose fused kernels by measurement, and make the choice last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import Pass
from onnxsmith.passes.cleanup.infer_shapes import InferShapes
from onnxsmith.passes.fusion.decompose import Decompose
from onnxsmith.passes.layout.set_session import SetSession
from onnxsmith.pipeline.kernels.cases import final_cases
from onnxsmith.pipeline.kernels.measure import Kernel, measure_kernels
from onnxsmith.pipeline.kernels.table import RUNTIME_FUSIONS
from onnxsmith.target import Target


@dataclass(frozen=True)
class KernelChoice:
    """What was measured, and the passes that keep a model from its slow fused kernels.

    Attributes:
        kernels: The fused operators that the model runs in the end, against their parts.
        passes: ``decompose`` (which needs types) for what the model holds itself, and
            ``set-session`` so that the runtime does not fuse it; none where every kernel pays.
    """

    kernels: tuple[Kernel, ...] = ()
    passes: tuple[Pass, ...] = ()


def choose_kernels(
    artifact: Artifact,
    target: Target,
    dims: Mapping[str, int] | None = None,
    threads: int | None = None,
) -> KernelChoice:
    """Measure the fused operators that the runtime ends up with, and avoid those that do not pay.

    Args:
        artifact: The model.
        target: Where it will run.
        dims: Sizes of symbolic dimensions; those not named are 1.
        threads: Threads within an operator; None leaves the choice to the runtime.

    Raises:
        SmithError: The model does not run on the target.
    """
    kernels = measure_kernels(final_cases(artifact, target, dims), target, threads)
    slow = sorted(kernel.op_type for kernel in kernels if not kernel.pays)
    if not slow:
        return KernelChoice(kernels)
    own = {node.op_type for node in artifact.model.graph.all_nodes()}
    held = tuple(op_type for op_type in slow if op_type in own)
    passes: list[Pass] = [InferShapes(), Decompose(held)] if held else []
    optimizers = [name for op_type in slow for name in RUNTIME_FUSIONS[op_type]]
    passes.append(SetSession(tuple(dict.fromkeys(optimizers))))
    return KernelChoice(kernels, tuple(passes))
