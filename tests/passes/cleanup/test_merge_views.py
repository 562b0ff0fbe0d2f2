# ruff: noqa: E501 - a graph is easier read in one line
"""Chains of reshapes and transposes become shorter, with equal numbers."""

from collections.abc import Callable

import numpy as np
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.passes.base import PassContext
from onnxsmith.passes.observers import census
from onnxsmith.passes.pipeline import PassPipeline
from onnxsmith.runtime.probe import probe_inputs
from onnxsmith.runtime.session import Session

SWAP = "Transpose<perm = [0, 2, 1, 3]>"
MERGED = [
    # Heads to the middle and back.
    (
        "g (float[N,5,6] x) => (float[N,5,6] y) <int64[4] s = {0, 0, 2, 3}, int64[3] e = {0, 0, 6}> "
        f"{{ a = Reshape(x, s) b = {SWAP}(a) c = {SWAP}(b) d = Reshape(c, e) y = Identity(d) }}",
        {"Identity": 1},
    ),
    # As the exporter writes it behind attention, with lengths first.
    (
        "g (float[N,5,6] x) => (float[5,N,6] y) <int64[4] s = {0, 0, 2, 3}, int64[3] e = {5, -1, 6}> "
        f"{{ a = Reshape(x, s) b = {SWAP}(a) c = Transpose<perm = [2, 0, 1, 3]>(b) y = Reshape(c, e) }}",
        {"Transpose": 1},
    ),
    # One reshape is left where the order stays.
    (
        "g (float[N,4,6] x) => (float[N,2,12] y) <int64[4] s = {0, 4, 2, 3}, int64[3] e = {-1, 2, 12}> "
        "{ a = Reshape(x, s) b = Transpose<perm = [1, 0, 2, 3]>(a) c = Transpose<perm = [1, 0, 2, 3]>(b) y = Reshape(c, e) }",
        {"Reshape": 1},
    ),
    # Reshape, Transpose, Reshape is what three steps of it come to.
    (
        "g (float[N,6,4] x) => (float[N,4,6] y) <int64[4] s = {0, 2, 3, 4}, int64[3] e = {-1, 4, 6}> "
        f"{{ a = Reshape(x, s) b = {SWAP}(a) c = Transpose<perm = [0, 3, 2, 1]>(b) y = Reshape(c, e) }}",
        {"Transpose": 1},
    ),
    (
        "g (float[N,6,4] x) => (float[N,3,2,4] y) <int64[4] s = {0, 2, 3, 4}, int64[3] e = {-1, 6, 4}, int64[4] f = {0, 3, 2, 4}> "
        f"{{ a = Reshape(x, s) b = {SWAP}(a) c = Reshape(b, e) y = Reshape(c, f) }}",
        {"Reshape": 1, "Transpose": 1},
    ),
    # An order that is not its own inverse.
    (
        "g (float[N,5,6] x) => (float[N,3,5,2] y) <int64[4] s = {0, 0, 2, 3}> "
        f"{{ a = Reshape(x, s) b = {SWAP}(a) y = Transpose<perm = [0, 3, 2, 1]>(b) }}",
        {"Reshape": 1, "Transpose": 1},
    ),
    # Dimensions of size 1 go where they have to.
    (
        "g (float[1,5,2,3] x) => (float[1,2,5,3] y) <int64[3] s = {5, 2, 3}, int64[1] z = {0}> "
        "{ a = Reshape(x, s) b = Transpose<perm = [1, 0, 2]>(a) y = Unsqueeze(b, z) }",
        {"Transpose": 1},
    ),
    (
        "g (float[1,5,6] x) => (float[5,1,6] y) <int64[2] s = {5, 6}, int64[1] z = {0}> "
        "{ a = Reshape(x, s) b = Unsqueeze(a, z) y = Transpose<perm = [1, 0, 2]>(b) }",
        {"Reshape": 1},
    ),
]
KEPT = [
    # An inner value is read.
    "g (float[N,5,6] x) => (float[N,5,6] y, float[N,2,5,3] b) <int64[4] s = {0, 0, 2, 3}, int64[3] e = {0, 0, 6}> "
    f"{{ a = Reshape(x, s) b = {SWAP}(a) c = {SWAP}(b) y = Reshape(c, e) }}",
    # Two sizes that are not known.
    "g (float[N,M,6] x) => (float[A,B] y) <int64[4] s = {0, 0, 2, 3}, int64[2] e = {-1, 3}> "
    f"{{ a = Reshape(x, s) b = {SWAP}(a) y = Reshape(b, e) }}",
    # As short as it can be.
    "g (float[N,5,6] x) => (float[N,2,5,3] y) <int64[4] s = {0, 0, 2, 3}> "
    f"{{ a = Reshape(x, s) y = {SWAP}(a) }}",
]


def merge(artifact: Artifact) -> Artifact:
    model = artifact.model.clone()
    for pass_ in PassPipeline.parse("infer-shapes,merge-views,remove-unused-nodes").passes:
        model = pass_.apply(model, PassContext()).model
    return Artifact(model)


def assert_equal(first: Artifact, second: Artifact) -> None:
    feeds = probe_inputs(first.model, first.spec, {"N": 2, "M": 4}, seed=1, default=3)
    with Session(first, optimize=False) as session:
        expected = session.run(feeds)
    with Session(second, optimize=False) as session:
        for name, array in session.run(feeds).items():
            np.testing.assert_array_equal(array, expected[name])


@pytest.mark.parametrize(("text", "after"), MERGED)
def test_chains_become_shorter(
    text: str, after: dict[str, int], load_text: Callable[..., Artifact]
) -> None:
    artifact = load_text(text, opset=20)
    found = merge(artifact)
    assert census(found.model) == after
    assert_equal(artifact, found)
    assert census(merge(found).model) == after


@pytest.mark.parametrize("text", KEPT)
def test_what_cannot_become_shorter_stays(text: str, load_text: Callable[..., Artifact]) -> None:
    artifact = load_text(text, opset=20)
    assert census(merge(artifact).model) == census(artifact.model)


def test_below_opset_5_targets_are_attributes(load_text: Callable[..., Artifact]) -> None:
    text = (
        "g (float[4,6] x) => (float[4,6] y) "
        "{ a = Reshape<shape = [24]>(x) b = Reshape<shape = [24, 1]>(a) y = Reshape<shape = [4, 6]>(b) }"
    )
    artifact = load_text(text, opset=4)
    assert census(merge(artifact).model) == {"Reshape": 3}
