"""Activations, softmax in all its names, normalizations and outputs with a loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from onnxsmith.errors import SmithError

Array = np.ndarray[Any, Any]


def softmax(x: Array, axis: int) -> Array:
    e = np.exp(x.astype(np.float64) - x.max(axis, keepdims=True))
    return np.asarray(e / e.sum(axis, keepdims=True))


@pytest.fixture
def x(rng: np.random.Generator) -> Array:
    return rng.normal(size=(2, 4, 3, 5)).astype(np.float32)


@pytest.mark.parametrize("op", ["Activation", "_npx_activation"])
def test_activations(mxnet: Any, close: Any, x: Array, op: str) -> None:
    wide = x.astype(np.float64)
    for kind, expected in {
        "relu": np.maximum(wide, 0),
        "sigmoid": 1 / (1 + np.exp(-wide)),
        "tanh": np.tanh(wide),
        "softrelu": np.log1p(np.exp(wide)),
        "softsign": wide / (1 + np.abs(wide)),
        "log_sigmoid": -np.log1p(np.exp(-wide)),
    }.items():
        close(mxnet.op(op, {"act_type": kind}, x), expected, 2e-6)
    with pytest.raises(SmithError, match=rf"'it' \({op}\): the activation 'swish2' cannot be"):
        mxnet.op(op, {"act_type": "swish2"}, x)


@pytest.mark.parametrize("op", ["LeakyReLU", "_npx_leaky_relu"])
@pytest.mark.parametrize("opset", [13, 20])
def test_leaky_activations(mxnet: Any, close: Any, x: Array, op: str, opset: int) -> None:
    t = torch.from_numpy(x)
    for settings, expected in (
        ({}, functional.leaky_relu(t, 0.25)),
        ({"act_type": "leaky", "slope": 0.1}, functional.leaky_relu(t, 0.1)),
        ({"act_type": "elu", "slope": 0.3}, functional.elu(t, 0.3)),
        ({"act_type": "selu"}, functional.selu(t)),
        ({"act_type": "gelu"}, functional.gelu(t)),
        ({"act_type": "rrelu"}, functional.leaky_relu(t, (0.125 + 0.334) / 2)),
        (
            {"act_type": "rrelu", "lower_bound": 0.1, "upper_bound": 0.2},
            functional.leaky_relu(t, 0.15),
        ),
    ):
        close(mxnet.op(op, settings, x, opset=opset), expected.numpy())


def test_learned_slopes(mxnet: Any, close: Any, x: Array) -> None:
    for gamma in (np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.6])):
        gamma = gamma.astype(np.float32)
        expected = functional.prelu(torch.from_numpy(x), torch.from_numpy(gamma)).numpy()
        close(mxnet.op("LeakyReLU", {"act_type": "prelu"}, x, weights=[gamma]), expected)
        flat = x[:, :, 0, 0].copy()
        found = mxnet.op("LeakyReLU", {"act_type": "prelu"}, flat, weights=[gamma])
        close(found, expected[:, :, 0, 0])


def test_hard_sigmoid(mxnet: Any, close: Any, x: Array) -> None:
    close(mxnet.op("hard_sigmoid", {}, x), (0.2 * x + 0.5).clip(0, 1))
    found = mxnet.op("hard_sigmoid", {"alpha": 0.5, "beta": 0.1}, x)
    close(found, (0.5 * x + 0.1).clip(0, 1))


@pytest.mark.parametrize("prefix", ["", "_npx_"])
def test_softmax(mxnet: Any, close: Any, x: Array, prefix: str) -> None:
    for axis in (-1, 1):
        close(mxnet.op(f"{prefix}softmax", {"axis": axis}, x), softmax(x, axis))
        found = mxnet.op(f"{prefix}log_softmax", {"axis": axis}, x)
        close(found, np.log(softmax(x, axis)))
    found = mxnet.op(f"{prefix}softmax", {"temperature": 2.5}, x)
    close(found, softmax(x / np.float32(2.5), -1))


def test_softmin(mxnet: Any, close: Any, x: Array) -> None:
    close(mxnet.op("softmin", {"axis": 2}, x), softmax(-x, 2))


def test_softmax_over_the_first_so_many(mxnet: Any, close: Any) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    length = np.array([[1, 2, 4], [3, 4, 2]], np.int32)
    expected = np.zeros(x.shape)
    for i, j in np.ndindex(2, 3):
        expected[i, j, : length[i, j]] = softmax(x[i, j, : length[i, j]], 0)
    settings = {"use_length": True, "axis": -1}
    close(mxnet.op("softmax", settings, x, length), expected)
    middle = np.array([[1, 2, 3, 3], [3, 1, 2, 1]], np.int32)
    expected = np.zeros(x.shape)
    for i, j in np.ndindex(2, 4):
        expected[i, : middle[i, j], j] = softmax(x[i, : middle[i, j], j], 0)
    close(mxnet.op("softmax", {"use_length": True, "axis": 1}, x, middle), expected)


def test_softmax_as_an_activation(mxnet: Any, close: Any, x: Array) -> None:
    close(mxnet.op("SoftmaxActivation", {"mode": "channel"}, x), softmax(x, 1))
    close(mxnet.op("SoftmaxActivation", {}, x), softmax(x, -1))


@pytest.mark.parametrize("op", ["SoftmaxOutput", "Softmax"])
def test_outputs_with_a_softmax(mxnet: Any, close: Any, x: Array, op: str) -> None:
    flat = softmax(x.reshape(2, -1), 1).reshape(x.shape)
    for settings, expected in (
        ({}, flat),
        ({"multi_output": True}, softmax(x, 1)),
        ({"preserve_shape": True}, softmax(x, -1)),
    ):
        path = mxnet.write(
            [
                ("null", "data", {}, []),
                ("null", "softmax_label", {}, []),
                (op, "softmax", settings, [0, 1]),
            ],
            [2],
            {},
        )
        found = mxnet.run(path, {"data": x}, batch=True)
        assert list(found) == ["softmax_output"]  # the label is no input
        close(found["softmax_output"], expected)
    close(mxnet.op(op, {}, x[:, :, 0, 0].copy()), softmax(x[:, :, 0, 0], 1))


@pytest.mark.parametrize(
    "op",
    [
        "LogisticRegressionOutput",
        "LinearRegressionOutput",
        "MAERegressionOutput",
        "SVMOutput",
    ],
)
def test_outputs_with_another_loss(mxnet: Any, close: Any, x: Array, op: str) -> None:
    path = mxnet.write(
        [("null", "x", {}, []), ("null", "label", {}, []), (op, "it", {}, [0, 1])], [2], {}
    )
    expected = 1 / (1 + np.exp(-x)) if op.startswith("Logistic") else x
    close(mxnet.run(path, {"x": x})["it_output"], expected)


BATCH_NORMS = "BatchNorm BatchNorm_v1 CuDNNBatchNorm _contrib_SyncBatchNorm _npx_batch_norm"


@pytest.mark.parametrize("op", [*BATCH_NORMS.split(), "_contrib_BatchNormWithReLU"])
def test_batch_norms(mxnet: Any, close: Any, rng: np.random.Generator, x: Array, op: str) -> None:
    gamma, beta, mean = (rng.normal(size=4).astype(np.float32) for _ in range(3))
    variance = rng.uniform(0.5, 2, 4).astype(np.float32)
    weights = [gamma, beta, mean, variance]

    def expected(scale: Array, eps: float) -> Array:
        a, b, c, d = (w.astype(np.float64).reshape(1, 4, 1, 1) for w in (scale, *weights[1:]))
        y = (x - c) / np.sqrt(d + eps) * a + b
        return np.maximum(y, 0) if op.endswith("ReLU") else y

    close(
        mxnet.op(op, {"fix_gamma": False, "eps": 0.01}, x, weights=weights), expected(gamma, 0.01)
    )
    close(mxnet.op(op, {}, x, weights=weights), expected(np.ones(4), 1e-3))  # MXNet's defaults
    if not op.endswith("ReLU"):
        last = x.transpose(0, 2, 3, 1).copy()
        found = mxnet.op(op, {"axis": -1, "fix_gamma": "0"}, last, weights=weights)
        close(found, expected(gamma, 1e-3).transpose(0, 2, 3, 1))


def test_batch_norm_in_half_precision(mxnet: Any, rng: np.random.Generator, x: Array) -> None:
    weights = [rng.uniform(0.5, 2, 4).astype(np.float32) for _ in range(4)]
    half = x.astype(np.float16)
    found = mxnet.op("BatchNorm", {"fix_gamma": False}, half, weights=weights)
    a, b, c, d = (w.reshape(1, 4, 1, 1) for w in weights)
    assert found.dtype == np.float16
    expected = (half.astype(np.float32) - c) / np.sqrt(d + 1e-3) * a + b
    np.testing.assert_allclose(found, expected, atol=4e-3)


def test_statistics_that_the_graph_leaves_out(
    mxnet: Any, close: Any, rng: np.random.Generator, x: Array
) -> None:
    """Before 0.9 the file did not list auxiliary states."""
    names = ("gamma", "beta", "moving_mean", "moving_var")
    weights = {f"bn_{name}": rng.uniform(0.5, 2, 4).astype(np.float32) for name in names}
    nodes = [
        ("null", "data", {}, []),
        ("null", "bn_gamma", {}, []),
        ("null", "bn_beta", {}, []),
        ("BatchNorm", "bn", {"fix_gamma": False, "eps": 0.1}, [0, 1, 2]),
    ]
    path = mxnet.write(nodes, [3], weights, version=None, key="param")
    a, b, c, d = (w.reshape(1, 4, 1, 1) for w in weights.values())
    found = mxnet.run(path, {"data": x}, batch=True)
    close(found["bn_output"], (x - c) / np.sqrt(d + 0.1) * a + b)


def test_instance_norm(mxnet: Any, close: Any, rng: np.random.Generator, x: Array) -> None:
    weights = [rng.normal(size=4).astype(np.float32) for _ in range(2)]
    expected = functional.instance_norm(
        torch.from_numpy(x),
        weight=torch.from_numpy(weights[0]),
        bias=torch.from_numpy(weights[1]),
        eps=0.01,
    )
    close(mxnet.op("InstanceNorm", {"eps": 0.01}, x, weights=weights), expected.numpy())


@pytest.mark.parametrize("op", ["LayerNorm", "_npx_layer_norm"])
@pytest.mark.parametrize("opset", [13, 20])
@pytest.mark.parametrize("axis", [-1, 1])
def test_layer_norm(
    mxnet: Any, close: Any, rng: np.random.Generator, x: Array, op: str, opset: int, axis: int
) -> None:
    size = x.shape[axis]
    gamma, beta = (rng.normal(size=size).astype(np.float32) for _ in range(2))
    shape = [1] * 4
    shape[axis] = size
    mean, variance = x.mean(axis, keepdims=True), x.var(axis, keepdims=True)
    expected = (x - mean) / np.sqrt(variance + 0.02) * gamma.reshape(shape) + beta.reshape(shape)
    settings = {"axis": axis, "eps": 0.02}
    close(mxnet.op(op, settings, x, weights=[gamma, beta], opset=opset), expected)


@pytest.mark.parametrize("by", ["channel", "group"])
def test_group_norm(mxnet: Any, close: Any, rng: np.random.Generator, x: Array, by: str) -> None:
    count = 4 if by == "channel" else 2
    gamma, beta = (rng.normal(size=count).astype(np.float32) for _ in range(2))
    wide = [np.repeat(array, 4 // count) for array in (gamma, beta)]
    expected = functional.group_norm(torch.from_numpy(x), 2, *map(torch.from_numpy, wide), 0.02)
    settings = {"num_groups": 2, "eps": 0.02}
    close(mxnet.op("GroupNorm", settings, x, weights=[gamma, beta]), expected.numpy())
    with pytest.raises(SmithError, match=r"\(GroupNorm\): 4 channels do not divide into 3 groups"):
        mxnet.op("GroupNorm", {"num_groups": 3}, x, weights=[gamma, beta])


@pytest.mark.parametrize(
    ("mode", "axes"), [("instance", (1, 2, 3)), ("channel", (1,)), ("spatial", (2, 3))]
)
def test_unit_length(mxnet: Any, close: Any, x: Array, mode: str, axes: tuple[int, ...]) -> None:
    expected = x / np.sqrt((x.astype(np.float64) ** 2).sum(axes, keepdims=True) + 0.5)
    close(mxnet.op("L2Normalization", {"mode": mode, "eps": 0.5}, x), expected)


def test_local_response(mxnet: Any, close: Any, rng: np.random.Generator) -> None:
    x = rng.normal(size=(2, 7, 3, 3)).astype(np.float32)
    settings = {"nsize": 3, "alpha": 0.3, "beta": 0.6, "knorm": 1.5}
    expected = functional.local_response_norm(torch.from_numpy(x), 3, 0.3, 0.6, 1.5).numpy()
    close(mxnet.op("LRN", settings, x), expected)
    defaults = functional.local_response_norm(torch.from_numpy(x), 5, 1e-4, 0.75, 2.0).numpy()
    close(mxnet.op("LRN", {"nsize": 5}, x), defaults)
    with pytest.raises(SmithError, match=r"the node 'it' \(LRN\): nsize=4 is even"):
        mxnet.op("LRN", {"nsize": 4}, x)


@pytest.mark.parametrize("op", ["BatchNorm", "LayerNorm", "GroupNorm"])
def test_statistics_as_outputs_are_refused(mxnet: Any, x: Array, op: str) -> None:
    count = 4 if op == "BatchNorm" else 2
    ones = [np.ones(5 if op == "LayerNorm" else 4, np.float32)] * count
    with pytest.raises(SmithError, match=rf"'it' \({op}\): {op} with its mean and .* as outputs"):
        mxnet.outputs(op, {}, x, weights=ones, count=2)


def test_channels_that_do_not_fit(mxnet: Any, x: Array) -> None:
    five = [np.ones(5, np.float32)] * 4
    with pytest.raises(SmithError, match=r"\(BatchNorm\) takes 5 channels, but gets 4"):
        mxnet.op("BatchNorm", {}, x, weights=five)
