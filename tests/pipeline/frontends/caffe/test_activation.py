"""Layers that work on each value by itself, against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxsmith.errors import SmithError

X = np.linspace(-3, 3, 2 * 4 * 3 * 5).reshape(2, 4, 3, 5)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize(
    ("kind", "settings", "expected"),
    [
        ("ReLU", "", np.maximum(X, 0)),
        ("ReLU", "relu_param { negative_slope: 0.1 }", np.where(X > 0, X, 0.1 * X)),
        ("ReLU6", "", X.clip(0, 6)),
        ("ELU", "", np.where(X > 0, X, np.expm1(X))),
        ("ELU", "elu_param { alpha: 0.3 }", np.where(X > 0, X, 0.3 * np.expm1(X))),
        ("Sigmoid", "", sigmoid(X)),
        ("TanH", "", np.tanh(X)),
        ("AbsVal", "", np.abs(X)),
        ("BNLL", "", np.log1p(np.exp(X))),
        ("Clip", "clip_param { min: -1 max: 0.5 }", X.clip(-1, 0.5)),
        ("Swish", "", X * sigmoid(X)),
        ("Swish", "swish_param { beta: 2 }", X * sigmoid(2 * X)),
        ("Power", "power_param { scale: 2 shift: 7 power: 3 }", (7 + 2 * X) ** 3),
        ("Power", "power_param { scale: -0.5 }", -0.5 * X),
        ("Power", "power_param { shift: 0.5 }", X + 0.5),
        ("Power", "power_param { power: 2 }", X**2),
        ("Power", "power_param { power: 0 }", np.ones_like(X)),
        ("Power", "power_param { scale: 0 shift: 3 power: 2 }", np.full_like(X, 9)),
        ("Exp", "", np.exp(X)),
        ("Exp", "exp_param { base: 2 scale: 0.5 shift: 1 }", 2 ** (1 + 0.5 * X)),
        ("Exp", "exp_param { scale: 0.5 shift: -1 }", np.exp(0.5 * X - 1)),
        ("Log", "log_param { shift: 4 }", np.log(4 + X)),
        ("Log", "log_param { base: 10 scale: 2 shift: 7 }", np.log10(7 + 2 * X)),
        ("Threshold", "", (X > 0).astype(float)),
        ("Threshold", "threshold_param { threshold: 0.7 }", (X > 0.7).astype(float)),
        ("Dropout", "dropout_param { dropout_ratio: 0.9 }", X),
        ("Power", "", X),
    ],
)
def test_layers_without_weights(caffe: Any, kind: str, settings: str, expected: Any) -> None:
    found = caffe.layer(kind, settings, [], X)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-6)


def test_prelu_a_channel_and_shared(caffe: Any, rng: Any) -> None:
    slope = rng.normal(size=4)
    expected = np.where(X > 0, X, slope[:, None, None] * X)
    np.testing.assert_allclose(caffe.layer("PReLU", "", [slope], X), expected, rtol=1e-6)
    found = caffe.layer("PReLU", "prelu_param { channel_shared: true }", [slope[:1]], X)
    np.testing.assert_allclose(found, np.where(X > 0, X, slope[0] * X), rtol=1e-6)
    flat = X.reshape(2, 60)
    slope = rng.normal(size=60)
    expected = np.where(flat > 0, flat, slope * flat)
    np.testing.assert_allclose(caffe.layer("PReLU", "", [slope], flat), expected, rtol=1e-6)


def test_a_constant_power_ignores_even_nan(caffe: Any) -> None:
    found = caffe.layer("Power", "power_param { power: 0 }", [], np.full((1, 2), np.nan))
    assert (found == 1).all()


@pytest.mark.parametrize(
    ("kind", "settings", "nodes"),
    [
        ("ReLU", "", ["Relu"]),
        ("BNLL", "", ["Softplus"]),
        ("Power", "power_param { scale: 2 }", ["Mul"]),
        ("Exp", "", ["Exp"]),
        ("Log", "", ["Log"]),
        ("Swish", "", ["Sigmoid", "Mul"]),
    ],
)
def test_no_more_nodes_than_needed(caffe: Any, kind: str, settings: str, nodes: Any) -> None:
    text = f"""input: "x" input_dim: 1 input_dim: 2 input_dim: 3 input_dim: 4
    layer {{ name: "it" type: "{kind}" bottom: "x" top: "y" {settings} }}"""
    graph = caffe.artifact(text).model.graph
    assert [node.op_type for node in graph] == nodes
    assert graph[-1].name == "it"


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("Exp", "exp_param { base: -3 }", "its base is -3"),
        ("Log", "log_param { base: 1 }", "no logarithm to base 1"),
        ("Exp", "exp_param { base: 1e30 shift: 1e30 }", "beyond float32"),
        ("Power", "power_param { scale: 0 shift: -1 power: 0.5 }", "is no number"),
        ("Clip", "clip_param { min: 1 }", "no min or no max"),
        ("ReLU", "relu_param { negative_slope: inf }", "a finite number"),
    ],
)
def test_refusals(caffe: Any, kind: str, settings: str, message: str) -> None:
    with pytest.raises(SmithError, match=message):
        caffe.layer(kind, settings, [], X)
