"""Gradients of transformers' own networks against PyTorch's automatic differentiation."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_gradients_of_language_models(
    name: str, benchmark_sources: Callable[[str], ModuleType]
) -> None:
    network, x = benchmark_sources("gradient_nets").of_transformers(name)
    errors = benchmark_sources("gradient_errors").compare(network, x)
    assert errors.parameters >= 28
    assert errors.ok, errors
