"""Is a fused operator faster than what it stands for?

Prints, for each fusion, the latency of the fused graph against that of the plain one on ONNX
Runtime's CPU provider, with all of the runtime's own optimizations on, alternated in processes of
their own: the ratio is that of the plain one's time to the fused one's, above 1 where the fusion is
faster. Presets take their fusions from such tables. Run:

    python benchmarks/fusions.py [NAME ...]
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.observers import census
from onnxsmith.passes.pipeline import PassPipeline
from onnxsmith.pipeline.gate import measure_change
from onnxsmith.target import TARGETS

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)
TOKENS, WIDTH, HEADS, SIZE = 128, 768, 12, 64


@dataclass(frozen=True)
class Case:
    """A plain graph, the passes that fuse it, and what they leave."""

    text: str
    passes: str
    fused: str
    opset: int = 20


def _weights() -> dict[str, Array]:
    half = RNG.standard_normal((1, 1, TOKENS, SIZE // 2)).astype(np.float32)
    return {
        "w": RNG.standard_normal((WIDTH, WIDTH)).astype(np.float32) / 28,
        "v": RNG.standard_normal((WIDTH, WIDTH)).astype(np.float32) / 28,
        "u": RNG.standard_normal((WIDTH, WIDTH)).astype(np.float32) / 28,
        "kw": RNG.standard_normal((WIDTH, WIDTH // 4)).astype(np.float32) / 28,
        "vw": RNG.standard_normal((WIDTH, WIDTH // 4)).astype(np.float32) / 28,
        "g": RNG.uniform(0.5, 2, WIDTH).astype(np.float32),
        "b": RNG.standard_normal(WIDTH).astype(np.float32),
        "cos": np.concatenate([np.cos(half)] * 2, axis=-1),
        "sin": np.concatenate([np.sin(half)] * 2, axis=-1),
        "heads": np.array([0, 0, HEADS, SIZE]),
        "few": np.array([0, 0, HEADS // 4, SIZE]),
        "wide": np.array([1, 1, 4, 1, 1]),
        "joined": np.array([0, HEADS, TOKENS, SIZE]),
        "flat": np.array([0, 0, WIDTH]),
        "a": np.array([0]),
        "h": np.array([SIZE // 2]),
        "e": np.array([SIZE]),
        "l": np.array([3]),
        "two": np.array([2]),
        "scale": np.array(SIZE**-0.5, np.float32),
        "half": np.array(0.5, np.float32),
        "one": np.array(1, np.float32),
        "root": np.array(2**0.5, np.float32),
        "square": np.array(2, np.float32),
        "small": np.array(1e-5, np.float32),
        "last": np.array([-1]),
        "images": np.array([1, 96, 32, 32]),
        "groups": np.array([0, 32, -1]),
        "ones": np.ones(32, np.float32),
        "zeros": np.zeros(32, np.float32),
        "each": RNG.uniform(0.5, 2, (96, 1, 1)).astype(np.float32),
        "whole": np.array([1, TOKENS, WIDTH]),
    }


def _split(name: str, target: str = "heads") -> str:
    return f"{name}r = Reshape({name}, {target}) {name}t = Transpose<perm = [0, 2, 1, 3]>({name}r)"


_CORE = (
    "qs = Mul(qt, scale) kk = Transpose<perm = [0, 1, 3, 2]>(kt) s = MatMul(qs, kk) "
    "m = Add(s, z) p = Softmax(m) o = MatMul(p, vt) ot = Transpose<perm = [0, 2, 1, 3]>(o) "
    "y = Reshape(ot, flat)"
)
_GROUPED = "".join(
    f" {n}u = Unsqueeze({n}t0, two) {n}e = Expand({n}u, wide) {n}t = Reshape({n}e, joined)"
    for n in ("k", "v")
)
_PRODUCTS = "q = MatMul(x, w) k = MatMul(x, v) v0 = MatMul(x, u)"
_ATTENTION = f"{_PRODUCTS} {_split('q')} {_split('k')} {_split('v0')} {_CORE}".replace(
    "vt)", "v0t)"
)
_ROTARY = (
    f"f = Tanh(x) {_split('f')} fu = Slice(ft, a, h, l) fv = Slice(ft, h, e, l) fn = Neg(fv) "
    "fc = Concat<axis = -1>(fn, fu) fp = Mul(ft, cos) fq = Mul(fc, sin) o = Add(fp, fq) "
    "ot = Transpose<perm = [0, 2, 1, 3]>(o) y = Reshape(ot, flat)"
)
_RMS = (
    "s = Mul(x, x) m = ReduceMean(s, last) n = Add(m, small) r = Sqrt(n) i = Reciprocal(r) "
    "d = Mul(x, i) y = Mul(d, g)"
)
_SWISH = "s = Sigmoid(x) y = Mul(x, s)"
_GELU = "d = Div(x, root) r = Erf(d) a1 = Add(r, one) m = Mul(x, a1) y = Mul(m, half)"
_GROUP = (
    "i = Reshape(x, images) r = Reshape(i, groups) n = InstanceNormalization(r, ones, zeros) "
    "k = Reshape(n, images) m = Mul(k, each) o = Add(m, each) y = Reshape(o, whole)"
)
_SKIP = "t = Add(x, x1) y = LayerNormalization(t, g, b)"


def _graph(body: str, more: str = "") -> str:
    given = f"float[1,{TOKENS},{WIDTH}] x{more}"
    return f"g ({given}) => (float[1,{TOKENS},{WIDTH}] y) {{ {body} }}"


_MASK = f", float[1,1,{TOKENS},{TOKENS}] z"
_GROUPS = (
    f"q = MatMul(x, w) k = MatMul(x, kw) v1 = MatMul(x, vw) {_split('q')} "
    f"kr = Reshape(k, few) kt0 = Transpose<perm = [0, 2, 1, 3]>(kr) "
    f"vr = Reshape(v1, few) vt0 = Transpose<perm = [0, 2, 1, 3]>(vr){_GROUPED} {_CORE}"
)
CASES = {
    "Attention, packed (com.microsoft)": Case(
        _graph(_ATTENTION, _MASK), "fuse-attention", "com.microsoft.Attention"
    ),
    "Attention (standard)": Case(
        _graph(_ATTENTION, _MASK), "fuse-standard-attention", "Attention", 23
    ),
    "Attention, grouped (com.microsoft)": Case(
        _graph(_GROUPS, _MASK), "fuse-attention", "com.microsoft.MultiHeadAttention"
    ),
    "Attention, grouped (standard)": Case(
        _graph(_GROUPS, _MASK), "fuse-standard-attention", "Attention", 23
    ),
    "RotaryEmbedding (com.microsoft)": Case(
        _graph(_ROTARY), "fuse-rotary-embedding", "com.microsoft.RotaryEmbedding"
    ),
    "RotaryEmbedding (standard)": Case(
        _graph(_ROTARY), "fuse-rotary-embedding", "RotaryEmbedding", 23
    ),
    "RMSNormalization (standard)": Case(_graph(_RMS), "fuse-rms-norm", "RMSNormalization", 23),
    "SimplifiedLayerNormalization": Case(
        _graph(_RMS), "fuse-rms-norm", "SimplifiedLayerNormalization"
    ),
    "QuickGelu (com.microsoft)": Case(_graph(_SWISH), "fuse-swish", "com.microsoft.QuickGelu"),
    "GroupNormalization (standard)": Case(
        _graph(_GROUP), "fuse-group-norm", "GroupNormalization", 21
    ),
    "Gelu (standard)": Case(_graph(_GELU), "fuse-gelu", "Gelu"),
    "SkipLayerNormalization (com.microsoft)": Case(
        _graph(_SKIP, f", float[1,{TOKENS},{WIDTH}] x1"),
        "fuse-skip-layer-norm",
        "com.microsoft.SkipLayerNormalization",
    ),
}


def load(case: Case) -> Artifact:
    """Build the plain graph."""
    header = f'<ir_version: 10, opset_import: ["" : {case.opset}]>'
    model = onnx.parser.parse_model(f"{header} {case.text}")
    for name, array in _weights().items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    artifact = Artifact(ir.from_proto(model))
    return _run(artifact, "infer-shapes,remove-unused-nodes")


def _run(artifact: Artifact, passes: str) -> Artifact:
    model = artifact.model.clone()
    for pass_ in PassPipeline.parse(passes).passes:
        model = pass_.apply(model, PassContext()).model
    return Artifact(model)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    names = parser.parse_args().names
    print("| fusion | plain nodes | fused nodes | plain to fused |\n|---|---|---|---|")
    for name, case in CASES.items():
        if names and not any(chosen in name for chosen in names):
            continue
        plain = load(case)
        fused = _run(plain, f"infer-shapes,{case.passes},merge-views,remove-unused-nodes")
        if case.fused not in census(fused.model):
            raise SystemExit(f"{name}: not fused: {census(fused.model)}")
        change = measure_change(plain, fused, TARGETS["cpu"], threads=2)
        counts = [sum(census(artifact.model).values()) for artifact in (plain, fused)]
        print(f"| {name} | {counts[0]} | {counts[1]} | {change.words} |", flush=True)


if __name__ == "__main__":
    main()
