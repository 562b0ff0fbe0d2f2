"""Fused operators that a choice can be made about, and what in the runtime makes them."""

from __future__ import annotations

RUNTIME_FUSIONS: dict[str, tuple[str, ...]] = {
    "BiasGelu": ("BiasGeluFusion",),
    "FastGelu": ("FastGeluFusion",),
    "Gelu": ("GeluFusionL1", "GeluFusionL2"),
    "LayerNormalization": ("LayerNormFusionL1", "LayerNormFusionL2"),
    "QuickGelu": ("QuickGeluFusion",),
    "SimplifiedLayerNormalization": ("SimplifiedLayerNormFusion",),
    "SkipLayerNormalization": ("SkipLayerNormFusion",),
    "SkipSimplifiedLayerNormalization": ("SkipLayerNormFusion",),
}
"""Operator to the runtime's optimizers that make it, as its session setting
``optimization.disable_specified_optimizers`` names them. All operators are known to
``decompose``, which writes what they stand for."""
