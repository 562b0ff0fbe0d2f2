"""Models that were optimized have the gradients that they had before, and train as before."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from tests.passes.autodiff.checking import close, evaluator, in_double
from tests.passes.fusion.test_decompose import FUSED, WEIGHTS, run, text_of
from tests.pipeline.training.test_train import REQUEST, network

from onnxsmith.artifact import Artifact
from onnxsmith.passes.autodiff.gradients import gradients
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.observers import census
from onnxsmith.passes.pipeline import PassPipeline
from onnxsmith.passes.table import PRESETS
from onnxsmith.pipeline.training.train import train
from onnxsmith.runtime.session import Session
from onnxsmith.target import TARGETS

Array = np.ndarray
Load = Callable[..., Artifact]
CONTRIBUTED = [(opset, body) for opset, body in FUSED if "com.microsoft" in body]
STEP = 1e-5


def feeds_of(artifact: Artifact, seed: int = 3) -> dict[str, Array]:
    """Return values away from where activations have corners, of two samples."""
    rng = np.random.default_rng(seed)
    sizes = {v.name: [2 if s == "N" else s for s in v.shape or ()] for v in artifact.spec.inputs}
    return {n: (rng.normal(size=s) * 0.7).astype(np.float32) for n, s in sizes.items()}


def names_of(artifact: Artifact) -> list[str]:
    held = artifact.model.graph.initializers
    weights = [n for n, v in held.items() if v.dtype is not None and v.dtype.is_floating_point()]
    return [
        *(v.name for v in artifact.spec.inputs),
        *(n for n in weights if n not in ("cos", "sin")),
    ]


def check_slopes(plain: Artifact, found: dict[str, Array], feeds: dict[str, Array]) -> None:
    """Compare gradients with central differences in float64 along random directions."""
    proto = in_double(plain.to_proto())
    held = {t.name: t for t in proto.graph.initializer}
    rng = np.random.default_rng(5)
    for name, gradient in found.items():
        for _ in range(2):
            way = rng.normal(size=gradient.shape)
            ends = []
            for sign in (STEP, -STEP):
                moved = in_double(plain.to_proto())
                wide = {n: a.astype(np.float64) for n, a in feeds.items()}
                if name in wide:
                    wide[name] = wide[name] + sign * way
                else:
                    index = list(held).index(name)
                    array = onnx.numpy_helper.to_array(held[name]) + sign * way
                    moved.graph.initializer[index].CopyFrom(
                        onnx.numpy_helper.from_array(array, name)
                    )
                ends.append(evaluator(moved)(wide)["y"].sum())
            expected = (ends[0] - ends[1]) / (2 * STEP)
            scale = np.abs(gradient * way).sum()
            assert abs((gradient * way).sum() - expected) <= 3e-5 * max(scale, 1e-3), name


@pytest.mark.parametrize(("opset", "body"), CONTRIBUTED)
def test_gradients_of_fused_operators(opset: int, body: str, load_text: Load) -> None:
    fused = load_text(text_of(body), WEIGHTS, opset=opset)
    feeds, names = feeds_of(fused), names_of(fused)
    with Session(gradients(fused, "y", names), optimize=False) as session:
        results = session.run(feeds)
    check_slopes(run(fused), {name: results[f"{name}_gradient"] for name in names}, feeds)


def optimized(artifact: Artifact) -> Artifact:
    """Return a model with all fusions into the runtime's own operators."""
    model = artifact.model.clone()
    for pass_ in PassPipeline.parse(PRESETS["cuda"]).passes:
        model = pass_.apply(model, PassContext(target=TARGETS["cuda"])).model
    return Artifact(model)


def test_what_optimize_fuses_has_the_gradients_it_had(load_text: Load) -> None:
    seen: set[str] = set()
    for opset, body in CONTRIBUTED:
        plain = run(load_text(text_of(body), WEIGHTS, opset=opset))
        fused = optimized(plain)
        kinds = {kind for kind in census(fused.model) if kind.startswith("com.microsoft")}
        if not kinds:
            continue
        seen |= kinds
        feeds = feeds_of(plain)
        inputs = [value.name for value in plain.spec.inputs]
        results = []
        for artifact in (plain, fused):
            with Session(gradients(artifact, "y", inputs), optimize=False) as session:
                results.append(session.run(feeds))
        for name in inputs:
            key = f"{name}_gradient"
            close(results[1][key], results[0][key], 2e-5, f"{body}: {name}")
    kinds = "Attention BiasGelu FastGelu MultiHeadAttention QuickGelu SkipLayerNormalization"
    assert seen >= {f"com.microsoft.{kind}" for kind in kinds.split()}


EMBEDDING = (
    "e = Gather(w, x) f = Gather(t, count) a = Add(e, f)"
    "l = LayerNormalization <epsilon = 0.01> (a, g, b) y = ReduceMean <keepdims = 0> (l, one)"
)


def test_embeddings_that_optimize_fuses_train_as_before(load_text: Load, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.normal(size=(9, 8)), "t": rng.normal(size=(7, 8)), "g": np.ones(8),
        "b": np.zeros(8),
    }  # fmt: skip
    held = {name: array.astype(np.float32) for name, array in weights.items()}
    held |= {"count": np.arange(5)[None], "one": np.array([1])}
    plain = load_text(f"m (int64[N,5] x) => (float[N,8] y) {{ {EMBEDDING} }}", held, opset=20)
    fused = optimized(plain)
    assert "com.microsoft.EmbedLayerNormalization" in census(fused.model)
    np.savez(tmp_path / "d.npz", x=rng.integers(0, 9, (60, 5)), label=rng.integers(0, 8, 60))
    request = dataclasses.replace(
        REQUEST, data=f"npz:{tmp_path / 'd.npz'}", eval_data=None, metrics=()
    )
    losses = [[e.loss for e in train(a, request).epochs] for a in (plain, fused)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    assert losses[0][-1] < losses[0][0]


def test_a_model_that_the_runtime_optimized_trains_as_before(tmp_path: Path) -> None:
    """It holds FusedConv and FusedGemm where it was a Relu's."""
    text = (
        "h = Conv <pads = [1, 1, 1, 1]> (x, k, b) r = Relu(h)"
        "p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r) f = Flatten(p)"
        "u = Gemm <transB = 1> (f, c, d) v = LeakyRelu <alpha = 0.2> (u) y = Gemm(v, e, z)"
    )
    sizes = {
        "k": (8, 1, 3, 3), "b": (8,), "c": (24, 128), "d": (24,), "e": (24, 10), "z": (10,)
    }  # fmt: skip
    plain = network(text, sizes, "n, 1, 8, 8")
    path = tmp_path / "runtime.onnx"
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 4
    bytes_ = plain.to_proto().SerializeToString()
    ort.InferenceSession(bytes_, options, providers=["CPUExecutionProvider"])
    fused = Artifact.load(path)
    found = set(census(fused.model))
    assert {"com.microsoft.FusedConv", "com.microsoft.FusedGemm"} <= found
    request = dataclasses.replace(REQUEST, epochs=2)
    losses = [[e.loss for e in train(a, request).epochs] for a in (plain, fused)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
