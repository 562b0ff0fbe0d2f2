"""Each layer computes what torch's does with the same weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.layers.description import Network, build
from onnxsmith.pipeline.frontends.layers.initializers import initial
from onnxsmith.runtime.session import Session

RNG = np.random.default_rng(3)
Weights = dict[str, torch.Tensor]
IMAGES, ROWS = "x:float32[batch,4,9,7]", "x:float32[batch,6]"
SEQUENCES, IDS = "x:float32[batch,length,6]", "x:int64[batch,length]"


def network(source: str, *layers: dict[str, Any], seed: int = 0) -> Artifact:
    return build(Network.model_validate({"inputs": [source], "layers": layers}), seed=seed)


def weights(artifact: Artifact) -> Weights:
    """The weights, replaced by others that no mean, bias or scale is the same in."""
    held = artifact.model.graph.initializers
    return {
        name: torch.from_numpy(value.const_value.numpy().copy()) for name, value in held.items()
    }


def shaken(artifact: Artifact) -> Artifact:
    """Weights of ones and zeros would hide what is done with them."""
    import onnx_ir as ir

    rng = np.random.default_rng(1)
    for name, value in artifact.model.graph.initializers.items():
        array = value.const_value.numpy()
        if "." in name and array.dtype == np.float32:
            moved = array + rng.uniform(0.1, 0.5, array.shape).astype(np.float32)
            value.const_value = ir.Tensor(moved, name=name)
    return artifact


def heads(x: torch.Tensor, count: int) -> torch.Tensor:
    return x.reshape(*x.shape[:2], count, -1).transpose(1, 2)


def attention(x: torch.Tensor, w: Weights) -> torch.Tensor:
    q, k, v = (x @ w[f"l.{n}.weight"] + w[f"l.{n}.bias"] for n in ("query", "key", "value"))
    mixed = functional.scaled_dot_product_attention(
        heads(q, 3), heads(k, 3), heads(v, 3), is_causal=True
    )
    joined = mixed.transpose(1, 2).reshape(x.shape)
    return joined @ w["l.output.weight"] + w["l.output.bias"]


def lstm(x: torch.Tensor, w: Weights) -> tuple[torch.Tensor, torch.Tensor]:
    """Torch orders the gates input, forget, cell, output; ONNX input, output, forget, cell."""
    cell = torch.nn.LSTM(6, 5, batch_first=True, bidirectional=True)
    order = np.concatenate([np.arange(5) + 5 * gate for gate in (0, 2, 3, 1)])
    for way, tail in enumerate(("", "_reverse")):
        parts = {
            "weight_ih": w["l.weight"][way], "weight_hh": w["l.recurrence"][way],
            "bias_ih": w["l.bias"][way, :20], "bias_hh": w["l.bias"][way, 20:],
        }  # fmt: skip
        for name, value in parts.items():
            getattr(cell, f"{name}_l0{tail}").data = value[order]
    every, (last, _) = cell(x)
    return every, torch.cat([last[0], last[1]], 1)


CASES: dict[str, tuple[str, dict[str, Any], Callable[[torch.Tensor, Weights], torch.Tensor]]] = {
    "dense": (
        ROWS, {"type": "dense", "units": 3, "activation": "gelu"},
        lambda x, w: functional.gelu(x @ w["l.weight"] + w["l.bias"]),
    ),
    "dense over sequences": (
        SEQUENCES, {"type": "dense", "units": 3, "activation": "silu"},
        lambda x, w: functional.silu(x @ w["l.weight"] + w["l.bias"]),
    ),
    "dense without bias": (
        ROWS, {"type": "dense", "units": 3, "bias": False, "activation": "leaky-relu"},
        lambda x, w: functional.leaky_relu(x @ w["l.weight"]),
    ),
    "conv": (
        IMAGES, {"type": "conv", "filters": 6, "kernel": [3, 2], "stride": [2, 1], "padding": 1,
                 "dilation": [1, 2], "groups": 2},
        lambda x, w: functional.conv2d(x, w["l.weight"], w["l.bias"], (2, 1), 1, (1, 2), 2),
    ),
    "conv of the same size": (
        IMAGES, {"type": "conv", "filters": 6, "kernel": 4, "padding": "same"},
        lambda x, w: functional.conv2d(functional.pad(x, (1, 2, 1, 2)), w["l.weight"], w["l.bias"]),
    ),
    "conv in steps of the same size": (
        IMAGES, {"type": "conv", "filters": 2, "kernel": 3, "stride": 2, "padding": "same"},
        lambda x, w: functional.conv2d(x, w["l.weight"], w["l.bias"], 2, padding=1),
    ),
    "max pool": (
        IMAGES, {"type": "pool", "kernel": 3, "stride": 2, "padding": 1},
        lambda x, w: functional.max_pool2d(x, 3, 2, 1),
    ),
    "average pool": (
        IMAGES, {"type": "pool", "mode": "average", "padding": 1},
        lambda x, w: functional.avg_pool2d(x, 2, 2, 1, count_include_pad=False),
    ),
    "global average": (
        IMAGES, {"type": "pool", "mode": "global-average"}, lambda x, w: x.mean((2, 3)),
    ),
    "global max": (IMAGES, {"type": "pool", "mode": "global-max"}, lambda x, w: x.amax((2, 3))),
    "batch norm": (
        IMAGES, {"type": "norm", "epsilon": 0.1},
        lambda x, w: functional.batch_norm(
            x, w["l.mean"], w["l.variance"], w["l.scale"], w["l.bias"], eps=0.1
        ),
    ),
    "layer norm": (
        SEQUENCES, {"type": "norm", "mode": "layer", "epsilon": 0.1},
        lambda x, w: functional.layer_norm(x, (6,), w["l.scale"], w["l.bias"], 0.1),
    ),
    "embedding": (
        IDS, {"type": "embedding", "vocabulary": 9, "units": 5, "positions": 8},
        lambda x, w: w["l.weight"][x] + w["l.positions"][: x.shape[1]],
    ),
    "attention": (SEQUENCES, {"type": "attention", "heads": 3, "causal": True}, attention),
    "lstm": (
        SEQUENCES, {"type": "lstm", "units": 5, "bidirectional": True, "returns": "sequence"},
        lambda x, w: lstm(x, w)[0],
    ),
    "last of lstm": (
        SEQUENCES, {"type": "lstm", "units": 5, "bidirectional": True}, lambda x, w: lstm(x, w)[1],
    ),
    "flatten": (IMAGES, {"type": "flatten"}, lambda x, w: x.flatten(1)),
    "mean": (SEQUENCES, {"type": "mean"}, lambda x, w: x.mean(1)),
    "dropout": (ROWS, {"type": "dropout"}, lambda x, w: x),
    "log-softmax": (
        ROWS, {"type": "activation", "function": "log-softmax"}, lambda x, w: x.log_softmax(-1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_layer_computes_what_torch_does(case: str) -> None:
    source, layer, expected = CASES[case]
    artifact = shaken(network(source, {**layer, "name": "l"}))
    spec = artifact.spec.inputs[0]
    size = spec.concrete({"batch": 3, "length": 5}, 1)
    x = RNG.normal(size=size).astype(np.float32)
    if spec.dtype == "int64":
        x = RNG.integers(0, 9, size)
    with Session(artifact, optimize=False) as session:
        (found,) = session.run({"x": x}).values()
    with torch.no_grad():
        wanted = expected(torch.from_numpy(x), weights(artifact)).numpy()
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-6)
    declared = artifact.spec.outputs[0].shape
    assert declared is not None
    assert [s for s in declared if isinstance(s, int)] == [
        have for have, s in zip(found.shape, declared, strict=True) if isinstance(s, int)
    ]


def test_layers_are_joined_by_name() -> None:
    artifact = shaken(
        network(
            ROWS,
            {"type": "dense", "units": 6, "name": "a"},
            {"type": "activation", "function": "relu", "name": "b"},
            {"type": "add", "inputs": ["a", "x"], "name": "c"},
            {"type": "concatenate", "inputs": ["c", "b", "x"]},
        )
    )
    x = RNG.normal(size=(2, 6)).astype(np.float32)
    with Session(artifact) as session:
        found = session.run({"x": x})["output"]
    w = weights(artifact)
    a = x @ w["a.weight"].numpy() + w["a.bias"].numpy()
    wanted = np.concatenate([a + x, np.maximum(a, 0), x], 1)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_only_weights_can_be_trained() -> None:
    from onnxsmith.pipeline.training.graphs import float_parameters

    artifact = network("x:float32[batch,4,6]", {"type": "attention", "causal": True, "name": "l"})
    names = {f"l.{n}.{w}" for n in ("query", "key", "value", "output") for w in ("weight", "bias")}
    assert set(float_parameters(artifact.model)) == names


@pytest.mark.parametrize(
    ("kind", "limit", "deviation"),
    [
        ("glorot", np.sqrt(6 / 500), np.sqrt(2 / 500)),
        ("glorot-normal", None, np.sqrt(2 / 500)),
        ("he", np.sqrt(6 / 200), np.sqrt(2 / 200)),
        ("he-normal", None, np.sqrt(2 / 200)),
        ("uniform", 0.05, 0.05 / np.sqrt(3)),
        ("normal", None, 0.05),
    ],
)
def test_initial_weights_have_their_spread(
    kind: Any, limit: float | None, deviation: float
) -> None:
    array = initial(kind, (200, 300), (200, 300), np.random.default_rng(0))
    assert array.dtype == np.float32
    assert abs(array.std() / deviation - 1) < 0.01
    assert abs(array.mean()) < deviation / 50
    if limit is not None:
        assert 0.999 * limit < np.abs(array).max() <= limit


def test_fans_of_a_convolution_count_its_window_and_groups() -> None:
    layer = {"type": "conv", "filters": 400, "kernel": 3, "groups": 4, "initializer": "he"}
    made = network("x:float32[batch,40,9,9]", {**layer, "name": "l"})
    limit = np.sqrt(6 / (10 * 9))
    assert 0.999 * limit < float(weights(made)["l.weight"].abs().max()) <= limit
    made = network("x:float32[batch,40,9,9]", {**layer, "initializer": "glorot", "name": "l"})
    limit = np.sqrt(6 / (10 * 9 + 100 * 9))
    assert 0.999 * limit < float(weights(made)["l.weight"].abs().max()) <= limit


def test_a_seed_decides_the_weights_and_the_forget_gate_begins_open() -> None:
    layer = {"type": "lstm", "units": 2, "name": "l"}
    first, again, other = (
        weights(network(SEQUENCES, layer, layer | {"name": "m", "units": 3, "type": "lstm"}
                        | {"inputs": ["x"]}, seed=seed))
        for seed in (5, 5, 6)
    )  # fmt: skip
    assert all((first[name] == again[name]).all() for name in first)
    assert (first["l.weight"] != other["l.weight"]).any()
    np.testing.assert_array_equal(first["l.bias"][0], [0] * 4 + [1, 1] + [0] * 10)


BAD = {
    "dense after images": ([IMAGES], [{"type": "dense", "units": 3}], r"'dense1', dense\) takes"),
    "conv on rows": ([ROWS], [{"type": "conv", "filters": 3}], r"takes images .* \[batch, 6\]"),
    "ids that are floats": (
        [ROWS], [{"type": "embedding", "vocabulary": 2, "units": 2}], "takes int64 ids",
    ),
    "heads": ([SEQUENCES], [{"type": "attention", "heads": 4}], "4 heads for 6 features"),
    "groups": ([IMAGES], [{"type": "conv", "filters": 4, "groups": 3}], "3 groups for 4 channels"),
    "kernel": ([IMAGES], [{"type": "conv", "filters": 4, "kernel": 20}], "windows of 20 elements"),
    "kernel list": ([IMAGES], [{"type": "pool", "kernel": [2]}], "2 dimensions to slide over"),
    "unknown layer": ([ROWS], [{"type": "flatten", "inputs": ["y"]}], "reads 'y'"),
    "same name": (
        [ROWS], [{"type": "flatten", "name": "x"}], "the name of another layer or input",
    ),
    "add of one": ([ROWS], [{"type": "add"}], "takes 2 inputs, not 1"),
    "add of two shapes": (
        [ROWS, "z:float32[batch,5]"], [{"type": "add", "inputs": ["x", "z"]}], r"adds \[batch, 6\]",
    ),
    "open size": (["x:float32[batch,n]"], [{"type": "dense", "units": 2}], "the open size 'n'"),
    "scalar input": (["x:float32[batch]"], [{"type": "flatten"}], "has no features"),
    "text input": (["x:string[batch,2]"], [{"type": "flatten"}], "is of string"),
    "huge": ([ROWS], [{"type": "dense", "units": 10**12}], "6,000,000,000,000 numbers"),
    "nothing": ([ROWS], [{"type": "activation", "function": "none"}], "change nothing"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_named_with_its_layer(case: str) -> None:
    inputs, layers, words = BAD[case]
    described = Network.model_validate({"inputs": inputs, "layers": layers})
    with pytest.raises(SmithError, match=words):
        build(described)
