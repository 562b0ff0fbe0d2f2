"""Try channels last where the target has kernels for them."""

from __future__ import annotations

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import Pass
from onnxsmith.passes.layout.set_session import SetSession
from onnxsmith.passes.match import STANDARD
from onnxsmith.runtime.providers import CUDA
from onnxsmith.target import Target

_LAID_OUT = frozenset({"AveragePool", "Conv", "ConvTranspose", "GlobalAveragePool", "MaxPool"})


def layout_candidates(artifact: Artifact, target: Target) -> tuple[Pass, ...]:
    """Return passes that change how convolutions lie in memory, each to be measured.

    CUDA's provider can run convolutions with channels last, which tensor cores want. The CPU
    provider picks the layout of its own kernels, and so does TensorRT: there is nothing to try.
    """
    convolves = any(
        node.op_type in _LAID_OUT and node.domain in STANDARD
        for node in artifact.model.graph.all_nodes()
    )
    if not convolves or target.providers[0] != CUDA:
        return ()
    return (SetSession(nhwc="yes"),)
