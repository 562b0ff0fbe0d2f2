"""Which operators the runtime ends up with, after its own optimizations."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx_ir as ir

from onnxsmith.artifact import Artifact
from onnxsmith.inspection.census import count_operators
from onnxsmith.runtime.session import Session
from onnxsmith.target import TARGETS, Target

FUSED_OPERATORS = frozenset(
    {
        "Attention",
        "BiasGelu",
        "BiasSoftmax",
        "DynamicQuantizeMatMul",
        "EmbedLayerNormalization",
        "FastGelu",
        "FusedConv",
        "FusedGemm",
        "FusedMatMul",
        "Gelu",
        "GroupQueryAttention",
        "LayerNormalization",
        "MatMulIntegerToFloat",
        "MultiHeadAttention",
        "NhwcFusedConv",
        "QLinearConv",
        "QuickGelu",
        "SimplifiedLayerNormalization",
        "SkipLayerNormalization",
        "SkipSimplifiedLayerNormalization",
    }
)
"""Operators that the runtime makes of several; with their domain left out."""


def runtime_census(
    artifact: Artifact,
    target: Target = TARGETS["cpu"],
    providers: Sequence[str] | None = None,
) -> dict[str, int]:
    """Count the operators of the graph that the runtime runs, at the level its sessions use.

    The runtime writes that graph to a temporary folder, weights included.

    Raises:
        SmithError: The runtime refuses the model, or a provider is not there.
    """
    with tempfile.TemporaryDirectory(prefix="onnxsmith-census-") as folder:
        path = Path(folder, "model.onnx")
        with Session(artifact, target, providers=providers, save_optimized=path):
            pass
        return count_operators(ir.load(path))


def lost_fusions(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Return the fused operators that became fewer, with both counts."""
    return {
        name: (count, after.get(name, 0))
        for name, count in sorted(before.items())
        if name.rpartition(".")[2] in FUSED_OPERATORS and after.get(name, 0) < count
    }


def changed_operators(
    before: Mapping[str, int], after: Mapping[str, int]
) -> dict[str, tuple[int, int]]:
    """Return the operators whose counts differ, with both counts."""
    return {
        name: (before.get(name, 0), after.get(name, 0))
        for name in sorted({*before, *after})
        if before.get(name, 0) != after.get(name, 0)
    }
