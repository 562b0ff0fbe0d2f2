"""What the check sees: sizes that were frozen, single items, and sizes that a model insists on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from onnxsmith.artifact import Artifact
from onnxsmith.passes.verify import make_verifier

Load = Callable[..., Artifact]

SIGNATURE = "g (float[N,4] x) => (float[N,2,2] y)"
GOOD = f"{SIGNATURE} <int64[3] s = {{0, 2, 2}}> {{ y = Reshape(x, s) }}"


def sizes(artifact: Artifact) -> list[int]:
    return [feeds["x"].shape[0] for feeds in make_verifier(artifact).probes]


def test_a_symbolic_size_is_probed_at_several_and_at_one(load_text: Load) -> None:
    assert sizes(load_text(GOOD)) == [3, 1]


def test_a_fixed_size_is_probed_once(load_text: Load) -> None:
    assert sizes(load_text(GOOD.replace("N", "5"))) == [5]


@pytest.mark.parametrize("frozen", [1, 3])
def test_a_frozen_size_is_seen(load_text: Load, frozen: int) -> None:
    verifier = make_verifier(load_text(GOOD))
    assert verifier.check(load_text(GOOD)).ok
    candidate = GOOD.replace("{0, 2, 2}", f"{{{frozen}, -1, 2}}")
    assert "shape" in verifier.check(load_text(candidate)).reason


def test_a_size_frozen_through_broadcasting_is_seen(load_text: Load) -> None:
    """At 3 it is right; at 1 the result would be of 3."""
    text = "g (float[N,4] x) => (float[N,4] y) { z = Sub(x, x) y = Add(x, z) }"
    verifier = make_verifier(load_text(text))
    frozen = """g (float[N,4] x) => (float[N,4] y) <float[3,1] z = {0, 0, 0}> { y = Add(x, z) }"""
    check = verifier.check(load_text(frozen))
    assert "shape [3, 4] instead of [1, 4]" in check.reason


def test_what_is_wrong_for_single_items_only_is_seen(load_text: Load) -> None:
    """Squeeze without axes drops the batch of one."""
    text = "g (float[N,1,4] x) => (float[A,B] y) <int64[1] a = {1}> { y = Squeeze(x, a) }"
    verifier = make_verifier(load_text(text))
    candidate = "g (float[N,1,4] x) => (float[A,B] y) { y = Squeeze(x) }"
    assert not verifier.check(load_text(candidate)).ok


def test_a_model_that_takes_no_single_item_is_probed_at_two_others(load_text: Load) -> None:
    text = "g (float[N] x) => (float[1] y) <int64[1] i = {1}> { y = Gather(x, i) }"
    assert sizes(load_text(text)) == [2, 3]


def test_a_model_that_takes_single_items_only(load_text: Load) -> None:
    text = "g (float[N,4] x) => (float[4,1] y) <int64[2] s = {4, 1}> { y = Reshape(x, s) }"
    assert sizes(load_text(text)) == [1]
