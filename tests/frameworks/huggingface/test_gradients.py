"""Gradients of transformers' own networks against PyTorch's automatic differentiation."""

from __future__ import annotations

from types import ModuleType

import pytest


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_gradients_of_language_models(name: str, gradient_nets: ModuleType) -> None:
    errors = gradient_nets.compare(*gradient_nets.of_transformers(name))
    assert errors.parameters >= 28
    assert errors.ok, errors
