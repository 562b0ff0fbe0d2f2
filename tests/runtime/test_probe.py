"""Made-up inputs fit the signature and the way the model uses them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.runtime.probe import probe_inputs
from onnxsmith.runtime.session import Session

Load = Callable[..., Artifact]


def probe(artifact: Artifact, seed: int = 0, **dims: int) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    return probe_inputs(artifact.model, artifact.spec, dims, seed)


def test_shapes_and_types(load_text: Load) -> None:
    text = """g (float[N,3] a, int8[?,M] b, bool[2] c, string[N] d, float16 e, float[0,2] f)
              => (float[N,3] y) { y = Relu(a) }"""
    found = probe(load_text(text), N=5)
    assert {n: (v.shape, str(v.dtype)) for n, v in found.items()} == {
        "a": ((5, 3), "float32"),
        "b": ((2, 2), "int8"),
        "c": ((2,), "bool"),
        "d": ((5,), "object"),
        "e": ((), "float16"),
        "f": ((0, 2), "float32"),
    }
    assert set(np.unique(found["b"])) <= {0, 1}


def test_seeds_repeat_and_differ(load_text: Load) -> None:
    artifact = load_text("g (float[8,8] x) => (float[8,8] y) { y = Relu(x) }")
    np.testing.assert_array_equal(probe(artifact, 1)["x"], probe(artifact, 1)["x"])
    assert (probe(artifact, 1)["x"] != probe(artifact, 2)["x"]).all()


@pytest.mark.parametrize("dim", [-1, ""])
def test_dimensions_of_older_exporters_are_free(
    load_text: Load, dim: int | str, parse_model: Callable[..., object]
) -> None:
    artifact = load_text("g (float[N,2] x) => (float[N,2] y) { y = Relu(x) }")
    proto = artifact.to_proto()
    shape = proto.graph.input[0].type.tensor_type.shape.dim[0]
    if isinstance(dim, int):
        shape.dim_value = dim
    else:
        shape.dim_param = dim
    older = Artifact.from_proto(proto)
    assert older.spec.inputs[0].shape == (None, 2)
    assert probe(older)["x"].shape == (2, 2)
    with Session(older) as session:
        assert session.run({"x": np.ones((7, 2), np.float32)})["y"].shape == (7, 2)


def test_indices_stay_within_their_table(load_text: Load) -> None:
    text = """g (int32[N] x, int64[N] k) => (float[N,2] y, float[5,N] z) {
        c = Cast<to = 7>(x) u = Unsqueeze(c, axes) s = Squeeze(u, axes)
        y = Gather(table, s) z = Gather<axis = -1>(wide, k) }"""
    weights = {
        "axes": np.array([1]),
        "table": np.zeros((3, 2), np.float32),
        "wide": np.zeros((5, 4), np.float32),
    }
    artifact = load_text(text, weights)
    seen: dict[str, set[int]] = {"x": set(), "k": set()}
    for seed in range(30):
        for name, value in probe(artifact, seed, N=8).items():
            seen[name] |= set(value.tolist())
    assert seen == {"x": {0, 1, 2}, "k": {0, 1, 2, 3}}


def test_a_gather_with_an_impossible_axis_does_no_harm(load_text: Load) -> None:
    text = "g (int64[2] k) => (float[2] y) { y = Gather<axis = -7>(w, k) }"
    assert probe(load_text(text, {"w": np.zeros((3, 2), np.float32)}))["k"].shape == (2,)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("g (float[100000,100000] x) => (float[N,M] y) { y = Relu(x) }", "would have 1.0e"),
        ("g (seq(float[2]) x) => (seq(float[2]) y) { y = Identity(x) }", "cannot make up"),
    ],
)
def test_what_cannot_be_made_up(load_text: Load, text: str, reason: str) -> None:
    with pytest.raises(SmithError, match=reason) as caught:
        probe(load_text(text))
    assert "--d" in caught.value.hint


def test_an_unknown_rank_asks_for_data(load_text: Load) -> None:
    proto = load_text("g (float[2] x) => (float[2] y) { y = Relu(x) }").to_proto()
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(SmithError, match="shape of 'x' is unknown"):
        probe(Artifact.from_proto(proto))
