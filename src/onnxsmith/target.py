"""Targets: what a deployment can run, as data."""

from __future__ import annotations

from dataclasses import dataclass

from onnxsmith.errors import UsageError
from onnxsmith.plugins import suggestion


@dataclass(frozen=True)
class Target:
    """One place a model is deployed to.

    Attributes:
        name: The name on the command line.
        providers: ONNX Runtime execution providers in order of preference.
        max_opset: Newest ai.onnx opset that the target's runtime loads.
        max_ir_version: Newest IR version that it loads.
        precisions: Element types with fast kernels there.
        preset: The pass preset made for it.
    """

    name: str
    providers: tuple[str, ...]
    max_opset: int
    max_ir_version: int
    precisions: tuple[str, ...]
    preset: str


_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"

# Opset 26 and IR 13 are the newest that onnxruntime-gpu 1.31.1 loads; the edge runtimes
# (onnxruntime-web 1.30, react-native 1.24) lag behind and load opset 21 and IR 10.
TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("cpu", (_CPU,), 26, 13, ("float32", "int8"), "cpu"),
        Target(
            "cuda",
            (_CUDA, _CPU),
            26,
            13,
            ("float32", "float16", "bfloat16", "float8", "int8"),
            "cuda",
        ),
        Target(
            "tensorrt",
            ("TensorrtExecutionProvider", _CUDA, _CPU),
            26,
            13,
            ("float32", "float16", "bfloat16", "float8", "int8"),
            "tensorrt",
        ),
        Target("edge-cpu", (_CPU,), 21, 10, ("float32", "int8"), "edge"),
        Target("edge-web", (_CPU,), 21, 10, ("float32", "int8"), "edge"),
        Target("server", (_CUDA, _CPU), 26, 13, ("float32", "float16", "int8"), "cpu"),
    )
}


def find_target(name: str) -> Target:
    """Return the target called ``name``.

    Raises:
        UsageError: There is none.
    """
    if name not in TARGETS:
        raise UsageError(f"unknown target {name!r}", suggestion(name, list(TARGETS)))
    return TARGETS[name]
