"""The recurrent operator against torch's cells, whose weights are the same ones by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from onnxsmith.errors import SmithError

Array = np.ndarray[Any, Any]
KINDS = {
    "lstm": torch.nn.LSTM,
    "gru": torch.nn.GRU,
    "rnn_tanh": torch.nn.RNN,
    "rnn_relu": torch.nn.RNN,
}
WIDTH, STATE, TIME, BATCH = 3, 4, 6, 2


def network(mode: str, layers: int, both: bool) -> torch.nn.RNNBase:
    torch.manual_seed(3)
    options = {"nonlinearity": mode[4:]} if mode.startswith("rnn") else {}
    return KINDS[mode](WIDTH, STATE, layers, bidirectional=both, **options)


def flat(net: torch.nn.RNNBase, layers: int, both: bool) -> list[Array]:
    """MXNet's order: all matrices, then all biases. Its gates come in torch's order."""
    ends = [f"l{layer}{way}" for layer in range(layers) for way in ("", "_reverse")[: 1 + both]]
    names = [f"weight_{part}_{end}" for end in ends for part in ("ih", "hh")]
    names += [f"bias_{part}_{end}" for end in ends for part in ("ih", "hh")]
    return [getattr(net, name).detach().numpy().reshape(-1) for name in names]


@pytest.fixture
def x(rng: np.random.Generator) -> Array:
    return rng.normal(size=(TIME, BATCH, WIDTH)).astype(np.float32)


@pytest.mark.parametrize("op", ["RNN", "_npx_rnn"])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("mode", KINDS)
def test_all_cells(
    mxnet: Any,
    close: Any,
    rng: np.random.Generator,
    x: Array,
    op: str,
    both: bool,
    layers: int,
    mode: str,
) -> None:
    net = network(mode, layers, both)
    count = layers * (1 + both)
    states = [
        rng.normal(size=(count, BATCH, STATE)).astype(np.float32)
        for _ in range(2 if mode == "lstm" else 1)
    ]
    nodes: list[Any] = [("null", "data", {}, []), ("null", "parameters", {}, [])]
    nodes += [("null", f"state{at}", {}, []) for at in range(len(states))]
    settings = {
        "mode": mode,
        "state_size": STATE,
        "num_layers": layers,
        "bidirectional": both,
        "state_outputs": True,
    }
    nodes.append((op, "rnn", settings, list(range(len(nodes)))))
    heads = [(len(nodes) - 1, number) for number in range(1 + len(states))]
    path = mxnet.write(nodes, heads, {"parameters": np.concatenate(flat(net, layers, both))})
    feeds = {"data": x, **{f"state{at}": state for at, state in enumerate(states)}}
    initial = [torch.from_numpy(state) for state in states]
    with torch.no_grad():
        y, last = net(torch.from_numpy(x), tuple(initial) if mode == "lstm" else initial[0])
    expected = [y, *(last if mode == "lstm" else [last])]
    found = mxnet.run(path, feeds)
    assert list(found) == ["rnn_output", "rnn_state_output", "rnn_statecell_output"][: len(heads)]
    for ours, theirs in zip(found.values(), expected, strict=True):
        close(ours, theirs.numpy())


def gluon(mode: str, net: torch.nn.RNNBase) -> tuple[list[Any], dict[str, Array]]:
    """The graph that Gluon exports: pieces joined, states of zeros whose batch is open."""
    pieces = flat(net, 1, False)
    nodes: list[Any] = [("null", "data", {}, [])]
    weights = {}
    for at, piece in enumerate(pieces):
        name = f"l0_{at}"
        weights[name] = piece.reshape(-1, 1)  # any shape: it is flattened
        nodes += [
            ("null", name, {}, []),
            ("Reshape", f"{name}_flat", {"shape": (-1,)}, [len(nodes)]),
        ]
    joined = [2 + 2 * at for at in range(len(pieces))]
    nodes.append(("_rnn_param_concat", "joined", {"dim": 0, "num_args": 4}, joined))
    at = len(nodes) - 1
    count = 2 if mode == "lstm" else 1
    nodes += [("_zeros", f"begin{n}", {"shape": (1, 0, STATE)}, []) for n in range(count)]
    settings = {"mode": mode, "state_size": STATE, "num_layers": 1, "p": 0.5}
    nodes.append(("RNN", "rnn", settings, [0, at, *range(at + 1, at + 1 + count)]))
    return nodes, weights


@pytest.mark.parametrize("mode", KINDS)
def test_gluon_s_form(mxnet: Any, close: Any, x: Array, mode: str) -> None:
    net = network(mode, 1, False)
    nodes, weights = gluon(mode, net)
    path = mxnet.write(nodes, [len(nodes) - 1], weights)
    result = mxnet.convert(path, inputs=["data:float32[time,batch,3]"])
    (value,) = result.artifact.spec.outputs
    assert str(value) == "rnn_output: float32[time,batch,4]"
    with torch.no_grad():
        expected = net(torch.from_numpy(x))[0].numpy()
    close(mxnet.run(path, {"data": x})["rnn_output"], expected)
    nodes_kept = {node.op_type for node in result.artifact.model.graph}
    assert "Expand" not in nodes_kept  # states of zeros are left out


def test_lengths(mxnet: Any, close: Any, x: Array) -> None:
    net = network("gru", 1, False)
    nodes = [
        ("null", "data", {}, []),
        ("null", "w", {}, []),
        ("_zeros", "begin", {"shape": (1, 0, STATE)}, []),
        ("null", "length", {}, []),
        (
            "RNN",
            "rnn",
            {"mode": "gru", "state_size": STATE, "num_layers": 1, "use_sequence_length": True},
            [0, 1, 2, 3],
        ),
    ]
    path = mxnet.write(nodes, [4], {"w": np.concatenate(flat(net, 1, False))})
    found = mxnet.run(path, {"data": x, "length": np.array([6, 3], np.int32)})["rnn_output"]
    with torch.no_grad():
        expected = net(torch.from_numpy(x))[0].numpy()
    close(found[:, 0], expected[:, 0])
    close(found[:3, 1], expected[:3, 1])
    assert not found[3:, 1].any()


@pytest.mark.parametrize(
    ("attrs", "size", "message"),
    [
        ({}, 97, "its 97 weights do not make 1 layers of 4 states"),
        ({"projection_size": 2}, 128, "an LSTM with a projection cannot be imported"),
        ({"lstm_state_clip_min": -1}, 128, "an LSTM that clips its state cannot be imported"),
        ({"mode": "qrnn"}, 128, "mode='qrnn' is none of lstm, gru"),
        ({"num_layers": 0}, 128, "num_layers=0 is not within"),
        ({}, 160, r"the node 'rnn' \(RNN\) takes a width of 4, but gets 3"),
    ],
)
def test_cells_that_are_refused(
    mxnet: Any, x: Array, attrs: dict[str, Any], size: int, message: str
) -> None:
    nodes = [
        ("null", "data", {}, []),
        ("null", "w", {}, []),
        ("_zeros", "a", {"shape": (1, 0, STATE)}, []),
        ("_zeros", "b", {"shape": (1, 0, STATE)}, []),
        ("RNN", "rnn", {"mode": "lstm", "state_size": STATE, **attrs}, [0, 1, 2, 3]),
    ]
    path = mxnet.write(nodes, [4], {"w": np.zeros(size, np.float32)})
    with pytest.raises(SmithError, match=message) as caught:
        mxnet.run(path, {"data": x})
    assert "'rnn'" in caught.value.message
