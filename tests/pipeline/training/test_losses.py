"""Losses against their formulas in numpy."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch

from onnxsmith.artifact import Artifact
from onnxsmith.errors import UsageError
from onnxsmith.passes.autodiff.writer import Writer
from onnxsmith.pipeline.training.losses.table import LOSSES, make_loss
from onnxsmith.runtime.session import Session

RNG = np.random.default_rng(11)
SCORES = RNG.normal(size=(5, 4)).astype(np.float32)
CLASSES = np.array([0, 3, 1, 1, 2])
VALUES = RNG.normal(size=(5, 4)).astype(np.float32)


def loss_of(text: str, scores: np.ndarray, target: np.ndarray, before: str | None = None) -> float:
    graph = ir.Graph([], [], nodes=[], opset_imports={"": 18}, name="g")
    w, loss = Writer(graph, 18, "t"), make_loss(text)
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(scores.shape))
    output = w.op(before, x) if before else x
    output.shape = x.shape
    graph.extend(w.nodes)
    w.nodes.clear()
    read = loss.scores_of(output)
    kind = loss.target(read)
    t = ir.Value(name="t", type=ir.TensorType(kind.dtype), shape=kind.shape)
    graph.inputs.extend([x, t])
    result = loss.write(w, read, t)
    result.shape = ir.Shape([])
    graph.extend(w.nodes)
    graph.outputs.append(result)
    with Session(Artifact(ir.Model(graph, ir_version=10))) as session:
        (value,) = session.run({"x": scores, "t": target}).values()
    return float(value)


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def reference(text: str) -> tuple[np.ndarray, float]:
    logs = log_softmax(SCORES)
    own = logs[np.arange(5), CLASSES]
    away = (SCORES - VALUES).astype(np.float64)
    soft = np.exp(log_softmax(VALUES))
    bits = (VALUES > 0).astype(np.float32)
    decisions = 1 / (1 + np.exp(-SCORES.astype(np.float64)))
    weights = np.array([1, 2, 0.5, 3])[CLASSES]
    size = np.abs(away)
    return {
        "cross-entropy": (CLASSES, -own.mean()),
        "cross-entropy:smoothing=0.2": (CLASSES, -(0.8 * own + 0.2 * logs.mean(-1)).mean()),
        "cross-entropy:weights=1+2+0.5+3": (CLASSES, -(weights * own).sum() / weights.sum()),
        "cross-entropy:weights=1+2+0.5+3:ignore=1:smoothing=0.2": (CLASSES, _torch(1)),
        "cross-entropy:smoothing=0.2:ignore=-7": (np.where(CLASSES == 1, -7, CLASSES), _torch(-7)),
        "cross-entropy:ignore=1": (CLASSES, -own[CLASSES != 1].mean()),
        "cross-entropy:labels=soft": (soft.astype(np.float32), -(soft * logs).sum(-1).mean()),
        "binary-cross-entropy": (
            bits,
            -(bits * np.log(decisions) + (1 - bits) * np.log(1 - decisions)).mean(),
        ),
        "binary-cross-entropy:positive=3": (
            bits,
            -(3 * bits * np.log(decisions) + (1 - bits) * np.log(1 - decisions)).mean(),
        ),
        "mse": (VALUES, (away**2).mean()),
        "mae": (VALUES, size.mean()),
        "huber:delta=0.7": (
            VALUES,
            np.where(size <= 0.7, away**2 / 2, 0.7 * (size - 0.35)).mean(),
        ),
        "focal": (CLASSES, -((1 - np.exp(own)) ** 2 * own).mean()),
        "distillation:temperature=2": (VALUES, _distilled(2.0)),
        "contrastive": (CLASSES, _contrastive(1.0)),
        "triplet": (CLASSES, _triplet(0.2)),
    }[text]


def _torch(ignored: int) -> float:
    """Cross-entropy of torch, with weights where a class is ignored."""
    classes = np.where(CLASSES == 1, ignored, CLASSES)
    weights = torch.tensor([1, 2, 0.5, 3], dtype=torch.float64) if ignored == 1 else None
    return float(
        torch.nn.functional.cross_entropy(
            torch.from_numpy(SCORES).double(), torch.from_numpy(classes), weights,
            ignore_index=ignored, label_smoothing=0.2,
        )
    )  # fmt: skip


def _distilled(heat: float) -> float:
    true, own = log_softmax(VALUES / heat), log_softmax(SCORES / heat)
    return float(heat**2 * (np.exp(true) * (true - own)).sum(-1).mean())


def _distance(i: int, j: int) -> float:
    return float(np.linalg.norm(SCORES[i].astype(np.float64) - SCORES[j]))


def _contrastive(margin: float) -> float:
    pairs = [(i, j) for i in range(5) for j in range(5) if i != j]
    each = [
        _distance(i, j) ** 2
        if CLASSES[i] == CLASSES[j]
        else max(margin - _distance(i, j), 0.0) ** 2
        for i, j in pairs
    ]
    return sum(each) / len(each)


def _triplet(margin: float) -> float:
    each = [
        max(_distance(a, p) - _distance(a, n) + margin, 0.0)
        for a in range(5)
        for p in range(5)
        for n in range(5)
        if a != p and CLASSES[a] == CLASSES[p] and CLASSES[a] != CLASSES[n]
    ]
    return sum(each) / len(each)


@pytest.mark.parametrize(
    "text",
    [
        "cross-entropy", "cross-entropy:smoothing=0.2", "cross-entropy:weights=1+2+0.5+3",
        "cross-entropy:weights=1+2+0.5+3:ignore=1:smoothing=0.2",
        "cross-entropy:smoothing=0.2:ignore=-7", "cross-entropy:ignore=1",
        "cross-entropy:labels=soft", "binary-cross-entropy",
        "binary-cross-entropy:positive=3", "mse", "mae", "huber:delta=0.7", "focal",
        "distillation:temperature=2", "contrastive", "triplet",
    ],
)  # fmt: skip
def test_losses_are_their_formulas(text: str) -> None:
    target, expected = reference(text)
    assert loss_of(text, SCORES, target) == pytest.approx(expected, rel=2e-6)


def test_every_loss_is_tested_and_its_activation_is_seen_through() -> None:
    assert {name.partition(":")[0] for name in LOSSES} == {
        "cross-entropy", "binary-cross-entropy", "mse", "mae", "huber", "focal", "distillation",
        "contrastive", "triplet", "ctc",
    }  # fmt: skip
    plain = loss_of("cross-entropy", 40 * SCORES, CLASSES)
    assert loss_of("cross-entropy", 40 * SCORES, CLASSES, before="Softmax") == plain
    bits = (VALUES > 0).astype(np.float32)
    extreme = 1000 * SCORES
    assert np.isfinite(loss_of("binary-cross-entropy", extreme, bits, before="Sigmoid"))


@pytest.mark.parametrize(
    "text",
    ["cross-entopy", "cross-entropy:smoothing=2", "huber:delta=0", "mse:x=1", "focal:gamma=a"],
)
def test_wrong_names_and_options_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        make_loss(text)
