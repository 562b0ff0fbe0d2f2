"""Modules of Flax (both of its interfaces) and Equinox, and the faults that are mended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from onnxsmith.errors import SmithError

Call = Callable[..., Any]
IMAGE = "image:float32[batch,16,16,3]"


def random(*sizes: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).standard_normal(sizes).astype(np.float32)


class Linen(nn.Module):
    """A small network of convolutions."""

    @nn.compact
    def __call__(self, x: Any, train: bool = False) -> Any:
        """Map [N, H, W, 3] to [N, 5]."""
        x = nn.Conv(8, (3, 3), strides=2)(x)
        x = nn.BatchNorm(use_running_average=not train)(x)
        x = nn.max_pool(nn.relu(x), (2, 2), strides=(2, 2))
        x = nn.Dropout(0.5, deterministic=not train)(x.mean((1, 2)))
        return nn.Dense(5)(x)


def variables() -> Any:
    found = Linen().init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    statistics = jax.tree.map(lambda a: a + 0.5, found["batch_stats"])
    return {**found, "batch_stats": statistics}


def test_linen_with_its_variables(adopt: Call, parity: Call) -> None:
    _, worst = parity(adopt((Linen(), variables()), IMAGE), {"image": random(4, 16, 16, 3)})
    assert worst <= 1e-5


def test_linen_without_its_variables_is_refused(adopt: Call) -> None:
    with pytest.raises(SmithError, match="comes without its variables") as caught:
        adopt(Linen(), IMAGE)
    assert "(module, variables)" in caught.value.hint


class Network(nnx.Module):
    """The same with Flax's newer interface."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.conv = nnx.Conv(3, 8, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(8, 5, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        """Map [N, H, W, 3] to [N, 5]."""
        x = nnx.relu(self.norm(self.conv(x)))
        return self.head(self.drop(x.mean((1, 2))))


def test_nnx_is_exported_for_inference_and_left_as_it_was(adopt: Call, parity: Call) -> None:
    module = Network(nnx.Rngs(0))
    _, worst = parity(adopt(module, IMAGE), {"image": random(4, 16, 16, 3)})
    assert worst <= 1e-5
    assert module.drop.deterministic is False


@pytest.mark.parametrize(
    "padding", ["SAME", "VALID", ((1, 1), (1, 1))], ids=["same", "valid", "own"]
)
@pytest.mark.parametrize("name", ["max_pool", "avg_pool"])
def test_pools_take_windows_by_place_and_step_by_one(
    adopt: Call, parity: Call, name: str, padding: Any
) -> None:
    # jax2onnx takes the window for the step where none is given, and keywords only.
    def net(image: Any) -> Any:
        return getattr(nnx, name)(image, (3, 3), padding=padding)

    source = adopt(net, "image:float32[batch,9,9,2]")
    _, worst = parity(source, {"image": random(2, 9, 9, 2)})
    assert worst <= 1e-5


def test_recurrent_cells(adopt: Call, parity: Call) -> None:
    network = nnx.RNN(nnx.LSTMCell(4, 6, rngs=nnx.Rngs(0)))
    _, worst = parity(adopt(network, "steps:float32[2,7,4]"), {"steps": random(2, 7, 4)})
    assert worst <= 1e-5


def test_attention(adopt: Call, parity: Call) -> None:
    block = nnx.MultiHeadAttention(
        num_heads=2, in_features=8, qkv_features=8, decode=False, rngs=nnx.Rngs(0)
    )
    _, worst = parity(adopt(block, "x:float32[batch,5,8]"), {"x": random(3, 5, 8)})
    assert worst <= 1e-5


def test_equinox_is_exported_for_inference(adopt: Call, parity: Call) -> None:
    class Net(eqx.Module):
        first: eqx.nn.Linear
        drop: eqx.nn.Dropout

        def __init__(self) -> None:
            self.first = eqx.nn.Linear(4, 3, key=jax.random.key(0))
            self.drop = eqx.nn.Dropout(0.5)

        def __call__(self, x: Any) -> Any:
            return self.drop(jax.nn.silu(jax.vmap(self.first)(x)))

    _, worst = parity(adopt(Net(), "x:float32[batch,4]"), {"x": random(6, 4)})
    assert worst <= 1e-5
