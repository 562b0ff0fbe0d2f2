"""Gradients of whole networks against PyTorch's automatic differentiation in float64."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
import torch

Sources = Callable[[str], ModuleType]


@pytest.mark.parametrize(
    ("name", "turned"), [("cnn", True), ("unet", True), ("lstm", False), ("vit", False),
                         ("decoder", False)],
)  # fmt: skip
def test_networks(name: str, turned: bool, benchmark_sources: Sources) -> None:
    """Float64 is taken on the pieces that float32 took: nothing but rounding is left."""
    network, x = benchmark_sources("gradient_nets").small(name)
    with benchmark_sources("gradient_errors").Comparison(network, x) as comparison:
        assert bool(comparison.corners) == turned
        errors = comparison.errors(x)
    assert errors.parameters >= 19
    assert errors.ok, errors


def test_what_lies_on_a_corner_is_told_from_a_wrong_rule(benchmark_sources: Sources) -> None:
    """Elements nearer to a corner than float32 can tell are on the other side than in float64."""
    corners = benchmark_sources("corners")
    x = torch.tensor([[-1.0, 1e-9, 2.0, 6.0 - 1e-9, 9.0]], dtype=torch.float64)
    with corners.Pieces() as exact:
        torch.nn.functional.relu6(x + 1.0 - 1.0)
    with corners.Pieces() as rounded:
        torch.nn.functional.relu6(x.float() + 1.0 - 1.0)
    assert exact.corners[0].taken.tolist() == [[0, 1, 1, 1, 2]]
    assert rounded.corners[0].taken.tolist() == [[0, 0, 1, 2, 2]]
    assert corners.differing(exact.corners, rounded.corners) == 2
    given = x.clone().requires_grad_()
    with corners.Pieces(rounded.corners):
        y = torch.nn.functional.relu6(given)
    y.sum().backward()
    assert y.tolist() == [[0.0, 0.0, 2.0, 6.0, 6.0]]
    assert given.grad is not None
    assert given.grad.tolist() == [[0.0, 0.0, 1.0, 0.0, 0.0]]


def test_pooling_takes_the_places_given(benchmark_sources: Sources) -> None:
    corners = benchmark_sources("corners")
    x = torch.tensor([[[[1.0, 2.0, 4.0], [3.0, 0.0, 5.0], [9.0, 7.0, 8.0]]]], requires_grad=True)
    pooled = torch.nn.functional.max_pool2d
    with corners.Pieces() as own:
        assert pooled(x, 2, stride=1).tolist() == [[[[3.0, 5.0], [9.0, 8.0]]]]
    assert own.corners[0].taken.tolist() == [[[[3, 5], [6, 8]]]]
    places = torch.tensor([[[[0, 5], [7, 8]]]])
    given = corners.Corner("max_pool2d", own.corners[0].options, places)
    with corners.Pieces([given]):
        y = pooled(x, 2, stride=1)
    (y * torch.tensor([[1.0, 2.0], [3.0, 4.0]])).sum().backward()
    assert y.tolist() == [[[[1.0, 5.0], [7.0, 8.0]]]]
    assert x.grad is not None
    assert x.grad.tolist() == [[[[1.0, 0.0, 0.0], [0.0, 0.0, 2.0], [0.0, 3.0, 4.0]]]]
