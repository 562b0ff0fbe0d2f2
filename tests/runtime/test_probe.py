from collections.abc import Callable

import numpy as np
import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.errors import SmithError
from onnxsmith.runtime.probe import probe_inputs


def test_shapes_types_and_seed(load_text: Callable[..., Artifact]) -> None:
    artifact = load_text(
        "g (float[N,3] a, double[2,M] b, bool[N] c, int8[4] d, float16[2] e) => (float[N,3] y) "
        "{ y = Relu(a) }"
    )
    made = probe_inputs(artifact.model, artifact.spec, {"N": 5}, seed=3)
    assert {name: (str(array.dtype), array.shape) for name, array in made.items()} == {
        "a": ("float32", (5, 3)),
        "b": ("float64", (2, 2)),
        "c": ("bool", (5,)),
        "d": ("int8", (4,)),
        "e": ("float16", (2,)),
    }
    assert set(np.unique(made["d"])) <= {0, 1}
    again = probe_inputs(artifact.model, artifact.spec, {"N": 5}, seed=3)
    other = probe_inputs(artifact.model, artifact.spec, {"N": 5}, seed=4)
    np.testing.assert_array_equal(made["a"], again["a"])
    assert not np.array_equal(made["a"], other["a"])


def test_indices_stay_within_the_smallest_table(load_text: Callable[..., Artifact]) -> None:
    tables = {"t": np.zeros((7, 2), np.float32), "u": np.zeros((50, 2), np.float32)}
    artifact = load_text(
        """g (int64[N] i) => (float[N,2] y) {
            a = Gather(u, i) c = Cast<to = 6>(i) b = Gather(t, c) y = Add(a, b) }""",
        tables,
    )
    made = probe_inputs(artifact.model, artifact.spec, {"N": 500})["i"]
    assert set(np.unique(made)) == set(range(7))


def test_an_input_without_a_rank_and_a_huge_one_are_refused(
    load_text: Callable[..., Artifact],
) -> None:
    artifact = load_text("g (float[N] x) => (float[N] y) { y = Relu(x) }")
    with pytest.raises(SmithError, match="elements") as caught:
        probe_inputs(artifact.model, artifact.spec, {"N": 10**12})
    assert "--dim" in caught.value.hint
