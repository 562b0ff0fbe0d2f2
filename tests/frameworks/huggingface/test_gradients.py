"""Gradients of transformers' own networks against PyTorch's automatic differentiation."""

from __future__ import annotations

import pytest
from sources.gradient_nets import compare, of_transformers


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_gradients_of_language_models(name: str) -> None:
    errors = compare(*of_transformers(name))
    assert errors.parameters >= 28
    assert errors.ok, errors
