"""Functions of JAX."""

from typing import Any

import jax
import jax.numpy as jnp

KEYS = jax.random.split(jax.random.PRNGKey(0), 8)
LAYERS = [jax.random.normal(key, (64, 64)) / 8 for key in KEYS]


def perceptron(x: Any) -> Any:
    """Map [N, 64] to the same by eight normalized layers with GELU."""
    for weight in LAYERS:
        centered = x - x.mean(-1, keepdims=True)
        x = centered / jnp.sqrt((centered**2).mean(-1, keepdims=True) + 1e-5)
        x = jax.nn.gelu(x @ weight) + x
    return x
